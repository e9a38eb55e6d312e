"""Divide a file into chunks of a few megabytes, each of which any process can read by itself.

The reader goes through them in order, the scan spreads them over several processes. Both therefore see the same rows
with the same numbers.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dpo_tui.data.source.archives import BLOCK_BYTES, head_of
from dpo_tui.data.source.arrow_records import arrow_batches, record_batches, records, row_groups_in, rows_in
from dpo_tui.data.source.dataset_splits import require_split
from dpo_tui.data.source.encodings import encoding_of, utf8_blocks
from dpo_tui.data.source.json_lines import (
    LINE_TOO_LONG,
    MAX_ROW_BYTES,
    Row,
    lines_of,
    parse_block,
    parse_block_with_warnings,
)
from dpo_tui.data.source.row_warnings import RowWarning
from dpo_tui.data.source.source import DataFile

CHUNK_BYTES = 4 << 20
"""Bytes of JSON lines in one chunk, about."""
STREAM_CHUNK_BYTES = 1 << 20
"""The same where the chunk holds the lines themselves: some wait for every process of a scan, which is sent a copy."""
TEXT_KINDS = frozenset({"json", "csv"})
"""The kinds of files that have an encoding."""
_ARROW_BATCHES = 8
"""Record batches in one chunk of an Arrow file; `datasets` writes a thousand rows in each."""


@dataclass(frozen=True, slots=True)
class LineChunk:
    """A range of bytes of a plain UTF-8 file that holds whole JSON lines."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TextChunk:
    """JSON lines that were taken from a stream: unpacked, transcoded, from an array or a table.

    Args:
        data: the lines.
        cells: they are rows of a table without types (CSV).
        notes: what is wrong with the file as a whole, in words.
    """

    data: bytes
    cells: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowGroupChunk:
    """Record batches of an Arrow file, or one row group of a Parquet file.

    Args:
        path: the file.
        start: the first batch, or the row group.
        stop: the batch after the last one.
        most: rows to read of them; None reads all.
    """

    path: Path
    start: int
    stop: int
    most: int | None = None


Chunk = LineChunk | TextChunk | RowGroupChunk


def chunks_of(file: DataFile, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Divide a file into chunks, in order. What was assumed about its encoding comes first, in a chunk without rows.

    Raises:
        DataError: the file is damaged or is not what its name says, or its encoding is not certain.
    """
    if file.kind in TEXT_KINDS and (note := encoding_of(file).note):
        yield TextChunk(b"", notes=(note,))
    if file.kind == "parquet":
        yield from (RowGroupChunk(file.path, group, group + 1) for group in range(row_groups_in(file.path)))
    elif file.kind == "arrow":
        count = sum(1 for _ in arrow_batches(file.path))
        for start in range(0, count, _ARROW_BATCHES):
            yield RowGroupChunk(file.path, start, min(start + _ARROW_BATCHES, count))
    elif file.kind == "csv":
        from dpo_tui.data.source.csv_rows import csv_rows

        for data in csv_rows(file, min(size, STREAM_CHUNK_BYTES)):
            yield TextChunk(data, cells=True)
    else:
        yield from _json_chunks(file, size)


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Some rows of a chunk.

    Args:
        rows: in order; blank lines are None, so that rows keep their numbers.
        warnings: what is doubtful about rows that can be used; they count from the beginning of the batch.
    """

    rows: list[Any]
    warnings: list[RowWarning]


def rows(chunk: Chunk) -> Iterator[list[Row]]:
    """The rows of a chunk in order, in lists; blank lines are None, so that rows keep their numbers."""
    if isinstance(chunk, RowGroupChunk):
        yield from (batch.rows for batch in _row_group(chunk))
        return
    yield parse_block(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk))


def rows_with_warnings(chunk: Chunk) -> Iterator[RowBatch]:
    """The rows of a chunk as :func:`rows` yields them, with what is doubtful about them."""
    if isinstance(chunk, RowGroupChunk):
        yield from _row_group(chunk)
    elif isinstance(chunk, TextChunk) and chunk.cells:  # a table has each column once, and no numbers
        yield RowBatch(parse_block(chunk.data), [])
    else:
        yield RowBatch(*parse_block_with_warnings(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk)))


@dataclass
class RowLimit:
    """Cuts the chunks of one file after the other off after a number of rows in all, blank lines not counted.

    Args:
        left: rows to keep; None keeps all.
    """

    left: int | None

    def of(self, file: DataFile, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
        """The chunks of the next file, as :func:`chunks_of` divides it. A file of which no row is left is not read."""
        if self.left is None:
            yield from chunks_of(file, size)
            return
        found = chunks_of(file, size) if self.left > 0 else iter(())
        for chunk in found:
            yield self._cut(chunk)
            if self.left <= 0:
                return

    def _cut(self, chunk: Chunk) -> Chunk:
        left = self.left or 0
        if isinstance(chunk, RowGroupChunk):
            self.left = left - rows_in(chunk.path, chunk.start, chunk.stop)
            return replace(chunk, most=left)
        kept: list[bytes] = []
        for line in lines_of(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk)):
            if left <= 0:
                break
            kept.append(line)
            left -= bool(line.strip())
        self.left = left
        cut = chunk if isinstance(chunk, TextChunk) else TextChunk(b"")
        return replace(cut, data=b"\n".join(kept) + b"\n" if kept else b"")


def _json_chunks(file: DataFile, size: int) -> Iterator[Chunk]:
    encoding, blocks = utf8_blocks(file)
    head = head_of(file).removeprefix(BOM_UTF8)
    start = (head if encoding.is_utf8 else head.decode(encoding.name, "ignore").encode("utf-8", "ignore")).lstrip()
    if start[:1] == b"{" and _may_be_document(start):
        from dpo_tui.data.source.json_document import json_document

        document = json_document(file, partial(_text_from, file))
        if document is not None:
            yield TextChunk(b"", notes=(document.note,))
            yield from _joined(document.rows, size, document.notes)
            return
    if file.split is not None and not file.is_of_split:
        require_split(file.split, file.path)
    if start[:1] == b"[" or (start[:1] == b"{" and not _is_json_lines(start)):
        from dpo_tui.data.source.json_splitter import Splitter, split
        from dpo_tui.data.source.viewer_rows import NOTE as VIEWER_NOTE
        from dpo_tui.data.source.viewer_rows import unwrapped

        splitter = Splitter(1 if start[:1] == b"[" else 0)
        found, from_viewer = unwrapped(split(blocks, splitter))
        if from_viewer:
            yield TextChunk(b"", notes=(f"{file.path.name}: {VIEWER_NOTE}",))
        yield from _joined(found, size, splitter.notes)
    elif encoding.name == "utf-8" and file.packed is None:
        yield from _line_chunks(file.path, size)
    else:
        yield from _text_chunks(blocks, size)


def _may_be_document(start: bytes) -> bool:
    """Whether a text may be one object: nothing follows its end, as far as the beginning of the text shows."""
    from dpo_tui.data.source.json_structure import JsonStructure

    found = JsonStructure().feed(start)
    ends = found.offsets[found.depths <= 0]
    return not len(ends) or not start[int(ends[0]) + 1 :].strip()


def _text_from(file: DataFile, offset: int) -> Iterator[bytes]:
    """The text of a file, as UTF-8 without a byte-order mark, from an offset on."""
    encoding, blocks = utf8_blocks(file)
    if encoding.name == "utf-8" and file.packed is None:
        with file.path.open("rb") as stream:
            stream.seek(offset)
            while block := stream.read(BLOCK_BYTES):
                yield block
        return
    left = offset
    for block in blocks:
        if left < len(block):
            yield block[left:] if left else block
        left = max(left - len(block), 0)


def _is_json_lines(start: bytes) -> bool:
    """Whether each line is a row: the second line of an object over several lines is a key or a closing brace."""
    second = start.partition(b"\n")[2].lstrip()
    return second[:1] not in {b'"', b"}"}


def _joined(batches: Iterator[list[bytes]], size: int, notes: list[str]) -> Iterator[TextChunk]:
    """Join rows to chunks of a size; the last one has the notes, which are complete only then."""
    size = min(size, STREAM_CHUNK_BYTES)
    held: list[bytes] = []
    held_size = 0
    for batch in batches:
        held += batch
        held_size += sum(map(len, batch))
        if held_size >= size:
            yield TextChunk(b"\n".join(held) + b"\n")
            held, held_size = [], 0
    if held or notes:
        yield TextChunk(b"\n".join(held) + b"\n" if held else b"", notes=tuple(notes))


def _text_chunks(blocks: Iterator[bytes], size: int) -> Iterator[TextChunk]:
    """Join the blocks of a stream to chunks of whole lines; a line that is too long is skipped up to its end."""
    size = min(size, STREAM_CHUNK_BYTES)
    held: list[bytes] = []
    held_size = 0
    skipping = False
    for block in blocks:
        piece = block
        if skipping:
            _, newline, piece = block.partition(b"\n")
            if not newline:
                continue
            skipping = False
        held.append(piece)
        held_size += len(piece)
        if held_size < size:
            continue
        data = b"".join(held)
        end = data.rfind(b"\n") + 1
        if end:
            yield TextChunk(data[:end])
            held, held_size = [data[end:]], len(data) - end
        elif held_size > MAX_ROW_BYTES:
            yield TextChunk(LINE_TOO_LONG)
            held, held_size, skipping = [], 0, True
        else:
            held = [data]
    if data := b"".join(held):
        yield TextChunk(data)


def read_bytes(chunk: LineChunk) -> bytes:
    """The bytes of a range; fewer if the file has been truncated meanwhile."""
    with chunk.path.open("rb", buffering=0) as file:
        file.seek(chunk.start)
        parts = []
        left = chunk.end - chunk.start
        while left > 0 and (block := file.read(left)):  # one read gives at most 2 GB, and a signal may cut it short
            parts.append(block)
            left -= len(block)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _line_chunks(path: Path, size: int) -> Iterator[LineChunk | TextChunk]:
    """Divide a file at line breaks, about every ``size`` bytes; a line that is too long is replaced by its error."""
    total = path.stat().st_size
    start = 0
    with path.open("rb", buffering=0) as file:
        while start < total:
            wanted = min(start + size, total)
            end = _end_of_line(file, wanted - 1, total) if wanted < total else total
            if end - wanted > MAX_ROW_BYTES:
                begin = _last_line(file, start, wanted)
                if begin > start:
                    yield LineChunk(path, start, begin)
                yield TextChunk(LINE_TOO_LONG)
            else:
                yield LineChunk(path, start, end)
            start = end


def _last_line(file: Any, start: int, end: int) -> int:
    """The position of the last line's beginning in a range of bytes."""
    file.seek(start)
    return int(start + file.read(end - start).rfind(b"\n") + 1)


def _end_of_line(file: Any, at: int, total: int) -> int:
    """The position after the next line break."""
    file.seek(at)
    size = 1 << 12  # most lines end soon
    while block := file.read(size):
        found = block.find(b"\n")
        if found >= 0:
            return int(at + found + 1)
        at += len(block)
        size = BLOCK_BYTES
    return total


def _row_group(chunk: RowGroupChunk) -> Iterator[RowBatch]:
    left = chunk.most
    for batch in record_batches(chunk.path, chunk.start, chunk.stop):
        yield RowBatch(*records(batch if left is None else batch.slice(0, left), chunk.path))
        if left is not None:
            left -= batch.num_rows
            if left <= 0:
                return
