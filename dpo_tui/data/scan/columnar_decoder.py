"""Take three columns of text from JSON lines whose rows are nothing else, without making a dictionary of each row.

Most files of a million rows are like that, and a parser that knows what to expect needs two thirds of the time. Lines
are taken only as a whole: where one is not what the first one promises, the caller looks at each for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui.data.checks.text_column import TextColumn
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.rows.shapes import Record

# What is decoded at once: with its texts it still fits a processor's second cache, where whoever takes them finds them.
_BLOCK = 1 << 18
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Columns:
    """The texts of some rows, side by side.

    Args:
        record: the first of the rows, which stands for the shape of all.
        prompts: one column.
        chosens: the next.
        rejecteds: the last.
    """

    record: Record
    prompts: TextColumn
    chosens: TextColumn
    rejecteds: TextColumn


class MixedColumnsError(Exception):
    """Some line is not what the first one promised."""


class ColumnarDecoder:
    """Decodes JSON lines by the columns that a recogniser found in the first of them.

    Args:
        recogniser: says which columns are the three texts.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._decoders: dict[tuple[str, ...], msgspec.json.Decoder[Any]] = {}

    def take(self, data: bytes, ends: NDArray[np.int64]) -> Iterator[Columns]:
        """Decode lines, some hundreds at a time.

        Every line is taken for one row if it begins like one and there are as many rows as lines. Only an object that
        is broken over two lines, beside a line with two objects, could deceive this.

        Args:
            data: whole lines.
            ends: behind each line break, and the end of the data.

        Raises:
            NotAlike: there is a line of another kind; nothing that was given before counts.
        """
        codes = np.frombuffer(data, dtype=np.uint8)
        if codes[0] != ord("{") or (codes[ends[:-1]] != ord("{")).any():
            raise MixedColumnsError
        view = memoryview(data)
        start = line = 0
        try:
            record = orjson.loads(view[: ends[0]])
            decoder = self._decoder(record)
            while line < len(ends):
                last = min(int(np.searchsorted(ends, start + _BLOCK)), len(ends) - 1)
                end = int(ends[last])
                rows = decoder.decode_lines(view[start:end])
                if len(rows) != last + 1 - line:
                    raise MixedColumnsError
                yield Columns(record, *(TextColumn.of(list(map(of, rows))) for of in _TEXTS))
                start, line = end, last + 1
        except (ValueError, RecursionError) as error:  # of both parsers, and of the text's encoding
            raise MixedColumnsError from error

    def _decoder(self, record: Record) -> msgspec.json.Decoder[Any]:
        # Asked every time: rows of the same columns are something else where they come from a table.
        columns = self._recogniser.only_columns(record)
        names = tuple(record)
        if columns is None or (names not in self._decoders and len(self._decoders) >= _REMEMBERED):
            raise MixedColumnsError
        if names not in self._decoders:
            self._decoders[names] = _decoder(names, columns)
        return self._decoders[names]


_TEXTS = (attrgetter("prompt"), attrgetter("chosen"), attrgetter("rejected"))


def _decoder(names: tuple[str, ...], columns: tuple[str, str, str]) -> msgspec.json.Decoder[Any]:
    texts = dict(zip(("prompt", "chosen", "rejected"), columns, strict=True))
    others = {f"other_{number}": name for number, name in enumerate(names) if name not in columns}
    fields = [*((field, str) for field in texts), *((field, Any) for field in others)]
    row = msgspec.defstruct("Row", fields, rename=texts | others, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)
