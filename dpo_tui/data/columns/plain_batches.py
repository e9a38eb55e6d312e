"""The rows of a chunk for the reader of a large dataset: plain ones as three texts, the others as they were parsed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.columns.plain_lines import PlainLines
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import Chunk, RowBatch, RowGroupChunk, TextChunk, read_bytes, rows_with_warnings
from dpo_tui.data.source.json_lines import parse_block_with_warnings, parse_row


class PlainBatches:
    """Reads chunks with one recogniser.

    Args:
        recogniser: finds the columns of the three texts, and counts the rows that were taken by them.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._lines = PlainLines(recogniser)

    def __call__(self, chunk: Chunk) -> Iterator[RowBatch]:
        """The rows of a chunk as `rows_with_warnings` yields them, but plain ones as a tuple of three texts."""
        if isinstance(chunk, RowGroupChunk) or (isinstance(chunk, TextChunk) and chunk.cells):
            return rows_with_warnings(chunk)
        return self._batches(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk))

    def _batches(self, data: bytes) -> Iterator[RowBatch]:
        if not data:
            return
        line_ends = _line_ends(data)
        try:
            plain = self._lines.rows(data, line_ends)
        except MixedColumnsError:
            yield RowBatch(*parse_block_with_warnings(data))
            return
        ends = line_ends.tolist()
        found: list[Any] = [None] * len(ends)
        taken = plain.rows.tolist()
        texts = zip(*(column.texts for column in plain.columns), strict=True)
        if len(taken) == len(ends):
            found = list(texts)
        else:
            for number, row in zip(taken, texts, strict=True):
                found[number] = row
            for number in set(range(len(ends))).difference(taken):
                found[number] = parse_row(data[ends[number - 1] if number else 0 : ends[number]])
        # Rows with three texts and nothing else have four quotes a column; others are parsed for a closer look.
        closer = _quotes(data) != 4 * self._lines.width * len(ends)
        yield RowBatch(found, parse_block_with_warnings(data)[1] if closer else [])


def _line_ends(data: bytes) -> NDArray[np.int64]:
    """The offset after each line break, and the end of the data."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    return ends if len(ends) and ends[-1] == len(data) else np.append(ends, len(data))


def _quotes(data: bytes) -> int:
    """The number of quotes that are not escaped."""
    codes = np.frombuffer(data, dtype=np.uint8)
    after_escapes = codes.take(np.flatnonzero(codes == ord("\\")) + 1, mode="clip")
    return int(np.count_nonzero(codes == ord('"')) - np.count_nonzero(after_escapes == ord('"')))
