"""The rows of a chunk for the reader of a large dataset: plain ones as runs of pairs, the others as they are parsed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.columns.raw_lines import RawLines
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import Chunk, RowBatch, RowGroupChunk, TextChunk, read_bytes, rows_with_warnings
from dpo_tui.data.source.json_lines import Row, parse, parse_block_with_warnings
from dpo_tui.data.source.row_warnings import numbers_that_are_none, repeated_keys


class PlainBatches:
    """Reads chunks with one recogniser.

    Args:
        recogniser: has the names of columns that the user set.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._raw_lines = RawLines(recogniser)

    def __call__(self, chunk: Chunk) -> Iterator[RowBatch]:
        """The rows of a chunk as `rows_with_warnings` yields them, but plain ones in runs of pairs."""
        if isinstance(chunk, RowGroupChunk) or (isinstance(chunk, TextChunk) and chunk.cells):
            return rows_with_warnings(chunk)
        return self._batches(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk))

    def _batches(self, data: bytes) -> Iterator[RowBatch]:
        if not data:
            return
        try:
            yield self._raw(data, _line_ends(data))
        except MixedColumnsError:
            yield RowBatch(*parse_block_with_warnings(data))

    def _raw(self, data: bytes, ends: NDArray[np.int64]) -> RowBatch:
        """The rows of lines that are taken as they stand, but for a few.

        Raises:
            MixedColumnsError: too few can be.
        """
        taken = self._raw_lines.rows(data, ends)
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
