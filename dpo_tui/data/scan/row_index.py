"""An index of a dataset's rows: random access to any row of a file of any size.

The index holds the position of every chunk of some megabytes and the number of its first row, so reading a row means
reading one chunk. Compressed files, JSON arrays and CSV tables are not seekable; their rows are written once as JSON
lines, next to the index. Every scan leaves an index in the cache; :func:`build_index` makes one without a scan.
"""

import bisect
import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from dpo_tui.data.cache_folders import Draft, FolderInUse
from dpo_tui.data.load_rows import notes_on
from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.scan.scan_cache import cache_folder
from dpo_tui.data.source.chunks import (
    Chunk,
    LineChunk,
    RowGroupChunk,
    RowLimit,
    TextChunk,
    chunks_of,
    read_bytes,
    rows,
)
from dpo_tui.data.source.json_lines import UNREADABLE_PREFIX, Row, lines_of
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.errors import DataError

_CACHED_CHUNKS = 4
_FIRST_BYTES = 1 << 17
_TEXT_BYTES = 1 << 16
"""Of one row as text."""


@dataclass(frozen=True, slots=True)
class RowPosition:
    """The position of one chunk.

    Args:
        file: the number of its file; -1 is the file of rows that were written next to the index.
        kind: ``lines``, ``batches``, or ``stream`` if it cannot be read without what comes before it.
        start: its first byte or batch.
        stop: its end.
        row: the number of its first row, from 0.
    """

    file: int
    kind: str
    start: int
    stop: int
    row: int

    @classmethod
    def of(cls, file: int, chunk: Chunk, row: int) -> "RowPosition":
        """The position of a chunk, whose first row has this number."""
        if isinstance(chunk, LineChunk):
            return cls(file, "lines", chunk.start, chunk.end, row)
        if isinstance(chunk, RowGroupChunk):
            return cls(file, "batches", chunk.start, chunk.stop, row)
        return cls(file, "stream", 0, 0, row)


class RowIndex:
    """Random access to the rows of some files.

    Args:
        files: the files.
        positions: their chunks, in order.
        count: how many rows there are, blank lines included.
        written: the rows of files that are not seekable, as JSON lines.
        first_rows: for each file, how many rows come before it.
    """

    def __init__(
        self,
        files: list[DataFile],
        positions: list[RowPosition],
        count: int,
        written: Path | None = None,
        first_rows: Sequence[int] = (),
    ) -> None:
        # Keeps the cache folder that the index was loaded from, for as long as the index is referenced.
        self._in_use: FolderInUse | None = None
        self.files = files
        self.positions = positions
        self.count = count
        self._written = written
        self._first_rows = [position.row for position in positions]
        self._file_rows = list(first_rows)
        self.places = RowPlaces([file.path for file in files], self._file_rows)
        self._cached: OrderedDict[int, list[Row]] = OrderedDict()

    @property
    def is_seekable(self) -> bool:
        """Whether any row can be read without those before it."""
        return self._written is not None or all(position.kind != "stream" for position in self.positions)

    def row(self, number: int) -> Row:
        """One row, counted from 1: its record, why it cannot be read, or None for a blank line.

        Raises:
            IndexError: there is no such row.
            DataError: the file was changed or removed.
        """
        if not 1 <= number <= self.count:
            raise IndexError(f"row {number} of {self.count}")
        chunk = bisect.bisect_right(self._first_rows, number - 1) - 1
        found = self._read(chunk)
        offset = number - 1 - self._first_rows[chunk]
        if offset >= len(found):
            raise DataError("the file was changed while it was open", hint="Open it again.")
        return found[offset]

    def source_text(self, number: int) -> str:
        """A row as it stands in the file; where it was read from a table or a list, as JSON.

        Raises:
            IndexError: there is no such row.
            DataError: the file was changed or removed.
        """
        row = self.row(number)
        position = self.positions[bisect.bisect_right(self._first_rows, number - 1) - 1]
        if position.kind == "lines":
            chunk = self._chunk(position)
            if isinstance(chunk, LineChunk):
                line = lines_of(read_bytes(chunk))[number - 1 - position.row]
                return "" if line.startswith(UNREADABLE_PREFIX) else line[:_TEXT_BYTES].decode("utf-8", "replace")
        if row is None or isinstance(row, Unreadable):
            return ""
        return orjson.dumps(row, default=str)[:_TEXT_BYTES].decode("utf-8", "replace")

    def rows(self, first: int, count: int) -> list[tuple[int, Row]]:
        """Some rows from a number on, with their numbers; fewer at the end."""
        last = min(first + count, self.count + 1)
        return [(number, self.row(number)) for number in range(max(first, 1), last)]

    def save(self, folder: Path) -> None:
        """Write the index into a cache folder."""
        known = [[one.file, one.kind, one.start, one.stop, one.row] for one in self.positions]
        (folder / "index.json").write_bytes(
            orjson.dumps({"count": self.count, "places": known, "files": self._file_rows})
        )

    @classmethod
    def load(cls, folder: Path, files: list[DataFile]) -> "RowIndex | None":
        """Read an index from a cache folder, or None if there is none that can be used."""
        try:
            in_use = FolderInUse(folder)
            known = orjson.loads((folder / "index.json").read_bytes())
            positions = [RowPosition(*position) for position in known["places"]]
            written = folder / "rows.jsonl"
            with contextlib.suppress(OSError):  # a cache that only others may write
                os.utime(folder)  # the folder that was used longest ago is deleted first
            unpacked = written if written.is_file() else None
            index = cls(files, positions, known["count"], unpacked, known["files"])
            index._in_use = in_use
            return index
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _read(self, number: int) -> list[Row]:
        """The rows of a chunk, from the least recently used cache of chunks where it is there."""
        if number in self._cached:
            self._cached.move_to_end(number)
            return self._cached[number]
        try:
            found = [row for batch in rows(self._chunk(self.positions[number])) for row in batch]
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}", hint="Open the file again.") from error
        self._cached[number] = found
        if len(self._cached) > _CACHED_CHUNKS:
            self._cached.popitem(last=False)
        return found

    def _chunk(self, position: RowPosition) -> Chunk:
        if position.file < 0 and self._written is not None:
            return LineChunk(self._written, position.start, position.stop)
        path = self.files[position.file].path
        if position.kind == "lines":
            return LineChunk(path, position.start, position.stop)
        if position.kind == "batches":
            return RowGroupChunk(path, position.start, position.stop)
        raise DataError(f"rows of {path} cannot be read out of order before it is indexed", hint="Wait for its index.")


def open_index(source: Source, progress: Callable[[int], None] | None = None) -> RowIndex:
    """Open the index of a dataset, from the cache or newly built.

    Args:
        source: the dataset.
        progress: called with the number of rows that are indexed so far.

    Raises:
        DataError: it cannot be read.
    """
    files = locate(source)
    index = RowIndex.load(cache_folder(files, source), files)
    return index if index is not None and index.is_seekable else build_index(source, files, progress)


def build_index(source: Source, files: list[DataFile], progress: Callable[[int], None] | None = None) -> RowIndex:
    """Read all files once and store where their rows are; memory does not grow with their size.

    Raises:
        DataError: they cannot be read, or the index cannot be written.
    """
    target = cache_folder(files, source)
    draft = Draft(target)
    try:
        _copy_scan(target, draft.path)
        index = _build(source, files, draft.path, progress)
        index.save(draft.path)
        draft.commit()
    except OSError as error:
        raise DataError(f"the index cannot be written: {error.strerror}", hint="Make room in the cache.") from error
    finally:
        draft.discard()
    return RowIndex.load(target, files) or index


def preview_rows(source: Source, count: int = 100, notes: list[str] | None = None) -> list[tuple[int, Row]]:
    """The first rows of a dataset with their numbers, within a fraction of a second whatever its size.

    Args:
        source: the dataset.
        count: rows to read.
        notes: gets what was assumed about the files as a whole, such as their encoding.

    Raises:
        DataError: it cannot be read.
    """
    found: list[tuple[int, Row]] = []
    files = locate(source)
    if notes is not None:
        notes += notes_on(files)
    for file in files:
        for chunk in chunks_of(file, _FIRST_BYTES):
            if notes is not None and isinstance(chunk, TextChunk):
                notes += chunk.notes
            for batch in rows(chunk):
                found += [(len(found) + at + 1, row) for at, row in enumerate(batch[: count - len(found)])]
                if len(found) >= count:
                    return found
    return found


def _build(source: Source, files: list[DataFile], folder: Path, progress: Callable[[int], None] | None) -> RowIndex:
    positions: list[RowPosition] = []
    count = 0
    written = folder / "rows.jsonl"
    limit = RowLimit(source.rows_read)
    first_rows: list[int] = []
    with written.open("wb") as out:
        for number, file in enumerate(files):
            first_rows.append(count)
            for chunk in limit.of(file):
                if isinstance(chunk, TextChunk):
                    start = out.tell()
                    out.write(chunk.data if chunk.data.endswith(b"\n") or not chunk.data else chunk.data + b"\n")
                    position = RowPosition(-1, "lines", start, out.tell(), count)
                else:
                    position = RowPosition.of(number, chunk, count)
                positions.append(position)
                count += _count(chunk)
                if progress:
                    progress(count)
    if not written.stat().st_size:
        written.unlink()
    return RowIndex(files, positions, count, written if written.exists() else None, first_rows)


def _count(chunk: Chunk) -> int:
    if isinstance(chunk, RowGroupChunk):
        return sum(len(batch) for batch in rows(chunk))
    return len(lines_of(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk)))


def _copy_scan(old: Path, new: Path) -> None:
    """Keep the results of an earlier scan: the new folder takes the place of the old one."""
    for name in ("flags.u32", "report.json"):
        if (old / name).is_file():
            shutil.copyfile(old / name, new / name)
