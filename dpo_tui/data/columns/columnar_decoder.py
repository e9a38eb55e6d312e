"""Decode JSON lines that all have the same three text columns into columns, without a dictionary for each row.

Most files of a million rows are like that, and a decoder with a fixed schema needs two thirds of the time. A block of
lines is decoded as a whole or not at all: where a line differs from the first one, the caller parses each by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui.data.checks.pair_columns import TextColumn
from dpo_tui.data.rows.column_shapes import Record
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.shapes.better_answer import is_tie

# Bytes that are decoded at once: with their texts they still fit into the processor's second-level cache, so that the
# next step (lengths, hashes) finds them there.
_BLOCK = 1 << 18
# One decoder for each set of column names; the bound is for files with new names in every block.
_MOST_DECODERS = 256


@dataclass(frozen=True, slots=True)
class Columns:
    """The texts of some rows as columns.

    Args:
        record: the first of the rows; all others have its keys.
        prompts: the prompts.
        chosens: the preferred answers.
        rejecteds: the other answers.
        ties: the indexes of rows whose other columns call the two answers equally good.
    """

    record: Record
    prompts: TextColumn
    chosens: TextColumn
    rejecteds: TextColumn
    ties: frozenset[int] = frozenset()


class MixedColumnsError(Exception):
    """A line has other columns than the first one, or is not a JSON object on a line of its own."""


class ColumnarDecoder:
    """Decodes JSON lines by the columns that a recogniser found in the first of them.

    Args:
        recogniser: says which columns are the three texts.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._decoders: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {}

    def decode(self, data: bytes, ends: NDArray[np.int64]) -> Iterator[Columns]:
        """Decode lines, some hundreds at a time.

        Lines and rows are assumed to correspond if every line begins with a brace and there are as many rows as lines.
        This fails only for an object that is broken over two lines next to a line with two objects.

        Args:
            data: whole lines.
            ends: the offset after each line break, and the end of the data.

        Raises:
            MixedColumnsError: there is a line of another kind; discard what was yielded before.
        """
        codes = np.frombuffer(data, dtype=np.uint8)
        if codes[0] != ord("{") or (codes[ends[:-1]] != ord("{")).any():
            raise MixedColumnsError
        view = memoryview(data)
        start = line = 0
        try:
            record = orjson.loads(view[: ends[0]])
            decoder = self._decoder(record)
            tie_columns = self._tie_columns(record)
            while line < len(ends):
                last = min(int(np.searchsorted(ends, start + _BLOCK)), len(ends) - 1)
                end = int(ends[last])
                rows = decoder.decode_lines(view[start:end])
                if len(rows) != last + 1 - line:
                    raise MixedColumnsError
                prompts, chosens, rejecteds = (TextColumn.of(list(map(get, rows))) for get in _TEXTS)
                yield Columns(record, prompts, chosens, rejecteds, _ties(rows, tie_columns))
                start, line = end, last + 1
        except (ValueError, RecursionError) as error:  # of both parsers, and of the text's encoding
            raise MixedColumnsError from error

    def _tie_columns(self, record: Record) -> list[tuple[str, str]]:
        """Name and field of the columns that may call a row a tie."""
        return [(name, f"other_{tuple(record).index(name)}") for name in self._recogniser.tie_columns(record)]

    def _decoder(self, record: Record) -> msgspec.json.Decoder[Any]:
        # Not cached: whether these columns are three plain texts depends on the recogniser's state, such as whether the
        # rows come from a table of cells.
        columns = self._recogniser.only_columns(record)
        names = tuple(record)
        if columns is None or (names not in self._decoders and len(self._decoders) >= _MOST_DECODERS):
            raise MixedColumnsError
        if names not in self._decoders:
            self._decoders[names] = _decoder(names, columns)
        return self._decoders[names]


def _ties(rows: list[Any], tie_columns: list[tuple[str, str]]) -> frozenset[int]:
    if not tie_columns:
        return frozenset()
    found: set[int] = set()
    for name, column in tie_columns:
        found.update(index for index, value in enumerate(map(attrgetter(column), rows)) if is_tie(name, value))
    return frozenset(found)


_TEXTS = (attrgetter("prompt"), attrgetter("chosen"), attrgetter("rejected"))


def _decoder(names: tuple[str, ...], columns: tuple[str, str, str]) -> msgspec.json.Decoder[Any]:
    texts = dict(zip(("prompt", "chosen", "rejected"), columns, strict=True))
    others = {f"other_{number}": name for number, name in enumerate(names) if name not in columns}
    fields = [*((field, str) for field in texts), *((field, Any) for field in others)]
    row = msgspec.defstruct("Row", fields, rename=texts | others, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)
