"""Divide a file into chunks of a few megabytes, each of which any process can read by itself.

The reader goes through them in order, the scan spreads them over several processes. Both therefore see the same rows
with the same numbers.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from dpo_tui.data.source.archives import BLOCK_BYTES, head_of
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
from dpo_tui.data.source.row_warnings import RowWarning, finite, not_a_number
from dpo_tui.data.source.source import DataFile
from dpo_tui.errors import DataError

CHUNK_BYTES = 4 << 20
"""Bytes of JSON lines in one chunk, about."""
STREAM_CHUNK_BYTES = 1 << 20
"""The same where the chunk holds the lines themselves: some wait for every process of a scan, which is sent a copy."""
TEXT_KINDS = frozenset({"json", "csv"})
"""The kinds of files that have an encoding."""
_MOST_BATCH_ROWS = 1024
"""Rows of Parquet that are made objects at a time; fewer where they are long."""
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
    """Record batches of an Arrow file (``stop`` excluded), or one row group of a Parquet file."""

    path: Path
    start: int
    stop: int


Chunk = LineChunk | TextChunk | RowGroupChunk


def chunks_of(file: DataFile, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Divide a file into chunks, in order. What was assumed about its encoding comes first, in a chunk without rows.

    Raises:
        DataError: the file is damaged or is not what its name says, or its encoding is not certain.
    """
    if file.kind in TEXT_KINDS and (note := encoding_of(file).note):
        yield TextChunk(b"", notes=(note,))
    if file.kind == "parquet":
        yield from (RowGroupChunk(file.path, group, group + 1) for group in range(_parquet(file.path).num_row_groups))
    elif file.kind == "arrow":
        count = sum(1 for _ in _arrow_batches(file.path))
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


def first_rows(found: Iterator[Chunk], count: int) -> Iterator[Chunk]:
    """Chunks up to a number of rows, blank lines not counted.

    Args:
        found: the chunks of a file.
        count: rows to keep.
    """
    import orjson

    left = count
    for chunk in found:
        if left <= 0:
            return
        if isinstance(chunk, TextChunk) and chunk.notes:
            yield TextChunk(b"", notes=chunk.notes)
            if not chunk.data:
                continue
        cells = isinstance(chunk, TextChunk) and chunk.cells
        if isinstance(chunk, RowGroupChunk):
            lines = [orjson.dumps(row, default=str) for batch in rows(chunk) for row in batch]
        else:
            lines = lines_of(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk))
        kept: list[bytes] = []
        for line in lines:
            if left <= 0:
                break
            kept.append(line)
            left -= bool(line.strip())
        yield TextChunk(b"\n".join(kept) + b"\n", cells=cells)


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


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is a damaged Parquet file: {reason}", hint="Copy or download it again.") from error


def _arrow_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(source)
                reader = (file.get_batch(number) for number in range(file.num_record_batches))
            yield from reader
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is a damaged Arrow file: {reason}", hint="Save the dataset again.") from error


def _row_group(chunk: RowGroupChunk) -> Iterator[RowBatch]:
    import pyarrow as pa

    if chunk.path.suffix == ".arrow":
        for batch in islice(_arrow_batches(chunk.path), chunk.start, chunk.stop):
            yield _records(batch, chunk.path)
        return
    try:
        file = _parquet(chunk.path)
        group = file.metadata.row_group(chunk.start)
        rows = min(_MOST_BATCH_ROWS, CHUNK_BYTES * group.num_rows // max(group.total_byte_size, 1))
        for batch in file.iter_batches(batch_size=max(rows, 1), row_groups=[chunk.start]):
            yield _records(batch, chunk.path)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{chunk.path} is a damaged Parquet file: {reason}", hint="Copy it again.") from error


def _records(batch: Any, path: Path) -> RowBatch:
    import pyarrow as pa

    try:
        found: list[Row] = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} has values that cannot be read: {error}", hint="Write the file again.") from error
    nested = [field.name for field in batch.schema if pa.types.is_nested(field.type)]
    for row in found if nested else ():
        if isinstance(row, dict):
            row.update((name, _without_absent_keys(row[name])) for name in nested)
    numbers = [field.name for field in batch.schema if "float" in str(field.type) or "double" in str(field.type)]
    return RowBatch(found, list(_without_not_numbers(found, numbers)) if numbers else [])


def _without_not_numbers(found: list[Row], columns: list[str]) -> Iterator[RowWarning]:
    for number, row in enumerate(found):
        if isinstance(row, dict):
            named: dict[str, str] = {}
            values = {name: finite(row[name], name, named) for name in columns}
            if named:
                row.update(values)
                yield not_a_number(number, named)


def _without_absent_keys(value: Any) -> Any:
    """A nested value without the nulls that Arrow adds: its structs have the keys of every row, absent ones as null.

    The file does not say which nulls were written on purpose; those go as well.
    """
    if isinstance(value, dict):
        return {key: _without_absent_keys(one) for key, one in value.items() if one is not None}
    return [_without_absent_keys(one) for one in value] if isinstance(value, list) else value
