"""The rows of a chunk for the reader of a large dataset: plain ones as runs of pairs, the others as they are parsed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.columns.raw_lines import RawLines, RawRows
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import Chunk, RowBatch, RowGroupChunk, TextChunk, read_bytes, rows_with_warnings
from dpo_tui.data.source.json_lines import Row, parse, parse_block_with_warnings
from dpo_tui.data.source.row_warnings import numbers_that_are_none, repeated_keys

_RECORD_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME


class PlainBatches:
    """Reads chunks with one recogniser.

    Args:
        recogniser: has the names of columns that the user set.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._raw_lines = RawLines(recogniser)
        self._cell_lines = RawLines(recogniser, cells=True)

    def __call__(self, chunk: Chunk) -> Iterator[RowBatch]:
        """The rows of a chunk as `rows_with_warnings` yields them, but plain ones in runs of pairs."""
        if isinstance(chunk, RowGroupChunk):
            return map(self._of_records, rows_with_warnings(chunk))
        cells = isinstance(chunk, TextChunk) and chunk.cells
        data = chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk)
        return self._batches(data, self._cell_lines if cells else self._raw_lines)

    def _batches(self, data: bytes, raw_lines: RawLines) -> Iterator[RowBatch]:
        if not data:
            return
        try:
            yield _raw(data, _line_ends(data), raw_lines)
        except MixedColumnsError:
            yield RowBatch(*parse_block_with_warnings(data))

    def _of_records(self, batch: RowBatch) -> RowBatch:
        """Records of Arrow, with those that are plain in runs of pairs."""
        data = b"".join(orjson.dumps(row, default=_no_text, option=_RECORD_OPTIONS) for row in batch.rows)
        try:
            taken = self._raw_lines.rows(data, _line_ends(data))
        except MixedColumnsError:
            return batch
        others = [batch.rows[number] for number in _others(taken.numbers, len(batch.rows)).tolist()]
        run = _with_records(taken, batch.rows)
        return RowBatch(list(_in_order(taken.numbers, run, others)), batch.warnings)


def _with_records(taken: RawRows, records: list[Any]) -> PairRun:
    """Pairs whose kinds have records as the file has them: JSON has fewer types, and reports tell columns by those.

    Args:
        taken: the pairs, and the numbers of their records.
        records: those of the batch.
    """
    kinds = list(taken.pairs.kinds)
    for kind, first in zip(*np.unique(taken.pairs.kind_of, return_index=True), strict=True):
        kinds[kind] = replace(kinds[kind], record=records[taken.numbers[first]])
    return replace(taken.pairs, kinds=tuple(kinds))


def _no_text(value: Any) -> list[str]:
    """A value that JSON does not have, such as a date or bytes, as one that is taken for no text either."""
    return [str(value)]


def _raw(data: bytes, ends: NDArray[np.int64], raw_lines: RawLines) -> RowBatch:
    """The rows of lines that are taken as they stand, but for a few.

    Raises:
        MixedColumnsError: too few can be.
    """
    taken = raw_lines.rows(data, ends)
    numbers = _others(taken.numbers, len(ends)).tolist()
    lines = [_line(data, ends, number) for number in numbers]
    others = parse(lines)
    found = [*repeated_keys(b"\n".join(lines), lines, others), *numbers_that_are_none(lines, others)]
    warnings = [replace(one, row=numbers[one.row]) for one in found]
    return RowBatch(list(_in_order(taken.numbers, taken.pairs, others)), warnings)


def _others(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The numbers below a count that are not among some."""
    mask = np.ones(count, dtype=np.bool_)
    mask[numbers] = False
    return np.flatnonzero(mask)


def _line(data: bytes, ends: NDArray[np.int64], number: int) -> bytes:
    return data[int(ends[number - 1]) if number else 0 : int(ends[number])].removesuffix(b"\n")


def _in_order(numbers: NDArray[np.int64], run: PairRun, others: list[Row]) -> Iterator[PairRun | Row]:
    """Pairs and other rows in the order of the file, the pairs in runs of consecutive rows.

    Args:
        numbers: of the rows of the pairs.
        run: the pairs.
        others: the rows with all other numbers, in their order.
    """
    left = iter(others)
    count = len(numbers) + len(others)
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    row = 0
    for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(numbers)], strict=True):
        first = int(numbers[start]) if stop > start else count
        yield from islice(left, first - row)
        if stop > start:
            yield run.part(start, stop - start)
        row = first + stop - start
    yield from left


def _line_ends(data: bytes) -> NDArray[np.int64]:
    """The offset after each line break, and the end of the data."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    return ends if len(ends) and ends[-1] == len(data) else np.append(ends, len(data))
