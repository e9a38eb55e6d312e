"""Any row of a file of any size, at once.

An index holds where every portion of some megabytes begins and the number of its first row, so finding a row means
reading one portion. Archives, arrays and tables cannot be entered in the middle; their rows are written out once, as
JSON lines beside the index. The index comes with every scan and lies in the cache; :func:`build_index` makes one alone.
"""

import bisect
import contextlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Turns, Unreadable
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.scan.scan_cache import Draft, folder_of
from dpo_tui.data.source.chunks import (
    Chunk,
    LineChunk,
    RowGroupChunk,
    TextChunk,
    chunks_of,
    first_rows,
    read_bytes,
    rows,
)
from dpo_tui.data.source.json_lines import Row, lines_of
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.errors import DataError

_HELD_CHUNKS = 4
_FIRST_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class RowPosition:
    """Where one portion is.

    Args:
        file: the number of its file; -1 is the file of rows that were written out.
        kind: ``lines``, ``batches``, or ``stream`` if it cannot be read again by itself.
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
        """Describe a portion."""
        if isinstance(chunk, LineChunk):
            return cls(file, "lines", chunk.start, chunk.end, row)
        if isinstance(chunk, RowGroupChunk):
            return cls(file, "batches", chunk.start, chunk.stop, row)
        return cls(file, "stream", 0, 0, row)


class RowIndex:
    """Random access to the rows of some files.

    Args:
        files: the files.
        places: their portions, in order.
        count: how many rows there are, blank lines too.
        written: rows that were written out, for files that cannot be entered in the middle.
    """

    def __init__(
        self, files: list[DataFile], places: list[RowPosition], count: int, written: Path | None = None
    ) -> None:
        self.files = files
        self.places = places
        self.count = count
        self._written = written
        self._first_rows = [place.row for place in places]
        self._held: OrderedDict[int, list[Row]] = OrderedDict()

    @property
    def is_seekable(self) -> bool:
        """Whether every row can be read where it is."""
        return self._written is not None or all(place.kind != "stream" for place in self.places)

    def row(self, number: int) -> Row:
        """One row, counted from 1: its record, why it is none, or None for a blank line.

        Raises:
            IndexError: there is no such row.
            DataError: the file was changed or removed.
        """
        if not 1 <= number <= self.count:
            raise IndexError(f"row {number} of {self.count}")
        at = bisect.bisect_right(self._first_rows, number - 1) - 1
        held = self._portion(at)
        inside = number - 1 - self._first_rows[at]
        if inside >= len(held):
            raise DataError("the file was changed while it was open", hint="Open it again.")
        return held[inside]

    def rows(self, first: int, count: int) -> list[tuple[int, Row]]:
        """Some rows from a number on, with their numbers; fewer at the end."""
        last = min(first + count, self.count + 1)
        return [(number, self.row(number)) for number in range(max(first, 1), last)]

    def save(self, folder: Path) -> None:
        """Write the index into a cache folder."""
        known = [[place.file, place.kind, place.start, place.stop, place.row] for place in self.places]
        (folder / "index.json").write_bytes(orjson.dumps({"count": self.count, "places": known}))

    @classmethod
    def load(cls, folder: Path, files: list[DataFile]) -> "RowIndex | None":
        """Read an index from a cache folder, or None if there is none that can be used."""
        try:
            known = orjson.loads((folder / "index.json").read_bytes())
            places = [RowPosition(*place) for place in known["places"]]
            written = folder / "rows.jsonl"
            with contextlib.suppress(OSError):  # a cache that only others may write
                os.utime(folder)  # what was used longest ago makes room
            return cls(files, places, known["count"], written if written.is_file() else None)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _portion(self, at: int) -> list[Row]:
        if at in self._held:
            self._held.move_to_end(at)
            return self._held[at]
        place = self.places[at]
        try:
            held = [row for batch in rows(self._at(place)) for row in batch]
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}", hint="Open the file again.") from error
        self._held[at] = held
        if len(self._held) > _HELD_CHUNKS:
            self._held.popitem(last=False)
        return held

    def _at(self, place: RowPosition) -> Chunk:
        if place.file < 0 and self._written is not None:
            return LineChunk(self._written, place.start, place.stop)
        path = self.files[place.file].path
        if place.kind == "lines":
            return LineChunk(path, place.start, place.stop)
        if place.kind == "batches":
            return RowGroupChunk(path, place.start, place.stop)
        raise DataError(f"{path} cannot be entered in the middle yet", hint="Wait until its index is built.")


def open_index(source: Source, progress: Callable[[int], None] | None = None) -> RowIndex:
    """Open the index of a dataset, from the cache or newly built.

    Args:
        source: the dataset.
        progress: told how many rows are known so far.

    Raises:
        DataError: it cannot be read.
    """
    files = locate(source)
    index = RowIndex.load(folder_of(files, source), files)
    return index if index is not None and index.is_seekable else build_index(source, files, progress)


def build_index(source: Source, files: list[DataFile], progress: Callable[[int], None] | None = None) -> RowIndex:
    """Go once through all files and note where the rows are; memory stays flat.

    Raises:
        DataError: they cannot be read, or there is no room to write rows out.
    """
    target = folder_of(files, source)
    draft = Draft(target)
    try:
        _keep_scan(target, draft.path)
        index = _built(source, files, draft.path, progress)
        index.save(draft.path)
        draft.finish()
    except OSError as error:
        raise DataError(f"the index cannot be written: {error.strerror}", hint="Make room in the cache.") from error
    finally:
        draft.discard()
    return RowIndex.load(target, files) or index


def first_pairs(source: Source, count: int = 100) -> list[tuple[int, Row]]:
    """The first rows of a dataset with their numbers, within a fraction of a second whatever its size.

    Raises:
        DataError: it cannot be read.
    """
    found: list[tuple[int, Row]] = []
    for file in locate(source):
        for chunk in chunks_of(file, _FIRST_BYTES):
            for batch in rows(chunk):
                found += [(len(found) + at + 1, row) for at, row in enumerate(batch[: count - len(found)])]
                if len(found) >= count:
                    return found
    return found


def turns_of(row: Row, recogniser: Recogniser) -> list[Turns] | Unreadable | None:
    """What a screen shows for a row: its pairs, why there is none, or None for a blank line."""
    if row is None:
        return None
    try:
        return usable_turns(row, recogniser)
    except Unreadable as problem:
        return problem


def _built(source: Source, files: list[DataFile], folder: Path, progress: Callable[[int], None] | None) -> RowIndex:
    places: list[RowPosition] = []
    count = 0
    written = folder / "rows.jsonl"
    with written.open("wb") as out:
        for number, file in enumerate(files):
            for chunk in _portions(file, source):
                if isinstance(chunk, TextChunk):
                    start = out.tell()
                    out.write(chunk.data if chunk.data.endswith(b"\n") or not chunk.data else chunk.data + b"\n")
                    place = RowPosition(-1, "lines", start, out.tell(), count)
                else:
                    place = RowPosition.of(number, chunk, count)
                places.append(place)
                count += _count(chunk)
                if progress:
                    progress(count)
    if not written.stat().st_size:
        written.unlink()
    return RowIndex(files, places, count, written if written.exists() else None)


def _portions(file: DataFile, source: Source) -> Iterator[Chunk]:
    found = chunks_of(file)
    return found if source.max_rows is None else first_rows(found, source.max_rows)


def _count(chunk: Chunk) -> int:
    if isinstance(chunk, RowGroupChunk):
        return sum(len(batch) for batch in rows(chunk))
    return len(lines_of(chunk.data if isinstance(chunk, TextChunk) else read_bytes(chunk)))


def _keep_scan(old: Path, new: Path) -> None:
    for name in ("flags.u32", "report.json"):
        if (old / name).is_file():
            shutil.copyfile(old / name, new / name)


def cached_flags(source: Source) -> Path | None:
    """The file with one 32-bit number of flags for each row, if the dataset was scanned in its present state."""
    path = folder_of(locate(source), source) / "flags.u32"
    return path if path.is_file() else None


def next_flagged(flags: Path, bit: int, after: int, *, backwards: bool = False) -> int | None:
    """The nearest row after (or before) a row that a check names, both counted from 1; None if there is none.

    Args:
        flags: the file that :func:`cached_flags` gives.
        bit: the bit of the check.
        after: the row to go on from.
        backwards: look for an earlier row.
    """
    import numpy as np

    stored: Any = np.memmap(flags, dtype=np.uint32, mode="r")
    step = 1 << 20
    at = after if not backwards else after - 1
    while 0 <= at < len(stored) if not backwards else at > 0:
        low, high = (at, min(at + step, len(stored))) if not backwards else (max(at - step, 0), at)
        found = np.flatnonzero(stored[low:high] & np.uint32(1 << bit))
        if len(found):
            return int(low + (found[-1] if backwards else found[0])) + 1
        at = high if not backwards else low
    return None
