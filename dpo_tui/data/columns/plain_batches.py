"""The rows of a chunk for the reader of a large dataset: plain ones as runs of texts, the others as they are parsed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.columns.plain_lines import PlainLines
from dpo_tui.data.columns.raw_lines import RawLines
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.text_run import TextRun
from dpo_tui.data.source.chunks import Chunk, RowBatch, RowGroupChunk, TextChunk, read_bytes, rows_with_warnings
from dpo_tui.data.source.json_lines import Row, parse, parse_block_with_warnings
from dpo_tui.data.source.row_warnings import numbers_that_are_none, repeated_keys


class PlainBatches:
    """Reads chunks with one recogniser.

    Args:
        recogniser: finds the columns of the three texts, and counts the rows that were taken by them.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._lines = PlainLines(recogniser)
        self._raw_lines = RawLines(recogniser)

    def __call__(self, chunk: Chunk) -> Iterator[RowBatch]:
        """The rows of a chunk as `rows_with_warnings` yields them, but plain ones in runs of texts."""
        if isinstance(chunk, RowGroupChunk) or (isinstance(chunk, TextChunk) and chunk.cells):
            return rows_with_warnings(chunk)
        return self._batches(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk))

    def _batches(self, data: bytes) -> Iterator[RowBatch]:
        if not data:
            return
        ends = _line_ends(data)
        try:
            yield self._raw(data, ends)
            return
        except MixedColumnsError:
            pass  # most lines have to be parsed
        try:
            plain = self._lines.rows(data, ends)
        except MixedColumnsError:
            yield RowBatch(*parse_block_with_warnings(data))
            return
        texts = TextRun(*(pa.array(list(map(orjson.dumps, one.texts)), pa.binary()) for one in plain.columns))
        others = parse([_line(data, ends, number) for number in _others(plain.rows, len(ends)).tolist()])
        # Rows with three texts and nothing else have four quotes a column; others are parsed for a closer look.
        closer = _quotes(data) != 4 * self._lines.width * len(ends)
        warnings = parse_block_with_warnings(data)[1] if closer else []
        yield RowBatch(list(_in_order(plain.rows, texts, others)), warnings)

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
        return RowBatch(list(_in_order(taken.numbers, taken.texts, others)), warnings)


def _others(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The numbers below a count that are not among some."""
    mask = np.ones(count, dtype=np.bool_)
    mask[numbers] = False
    return np.flatnonzero(mask)


def _line(data: bytes, ends: NDArray[np.int64], number: int) -> bytes:
    return data[int(ends[number - 1]) if number else 0 : int(ends[number])].removesuffix(b"\n")


def _in_order(numbers: NDArray[np.int64], run: TextRun, others: list[Row]) -> Iterator[TextRun | Row]:
    """Rows of texts and other rows in the order of the file, those of texts in runs of consecutive rows.

    Args:
        numbers: of the rows of texts.
        run: these rows.
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


def _quotes(data: bytes) -> int:
    """The number of quotes that are not escaped."""
    codes = np.frombuffer(data, dtype=np.uint8)
    after_escapes = codes.take(np.flatnonzero(codes == ord("\\")) + 1, mode="clip")
    return int(np.count_nonzero(codes == ord('"')) - np.count_nonzero(after_escapes == ord('"')))
