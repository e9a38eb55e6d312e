"""Large datasets as they were read once, for every later reading: check, worker, judge.

The rows go into a file of the data cache (:mod:`dpo_tui.data.stored.stored_rows`). Its folder is named by a hash of the
files' bytes, their paths, the settings that decide how they are read, and the code that reads them, so that nothing
else is ever taken for it. What the cache has no room for is held in memory, and said in the dataset's notes.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson

from dpo_tui.data.cache_folders import Draft, FolderInUse, data_cache
from dpo_tui.data.pairs.pair import Pair, RowProblem
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import Chunk, LineChunk, RowBatch, rows_with_warnings
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import DataFile, Progress, Source
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.errors import DataError

if TYPE_CHECKING:
    from dpo_tui.data.stored.row_writer import RowWriter
    from dpo_tui.data.stored.stored_rows import RowColumns, StoredRows

Item = TypeVar("Item")
Loaded = TypeVar("Loaded", bound=Any)

LARGE_BYTES = 16_000_000
"""Files of so many bytes are read into the cache; smaller ones are held in memory, without importing pyarrow."""
LARGE_PACKED_BYTES = 4_000_000
"""The same for packed files and Parquet, which hold several times their size."""
_FEW_ROWS = 10_000
"""Of a large file so few rows, asked for by ``max_rows``, are held in memory."""
_PACKED_RATIO = 6
"""Bytes of rows in a byte of a packed file, about: real pairs pack 2:1 to 10:1."""
_STORED_RATIO = 1.2
"""Bytes of the cache for a byte of rows: the texts once more, with marks and hashes."""
_META = "rows.json"
_CHOSEN = "chosen.i64"


class _NotStoredError(Exception):
    """The rows cannot be stored, for a reason in words: the dataset is read once more, into memory."""


@dataclass
class Reading(Generic[Item]):
    """One reading of a dataset: its files, and what collects its rows.

    Args:
        files: of the dataset.
        progress: called with the bytes of a large dataset that are read.
        sha256: of their bytes, where it is known already.
        writer: of a large dataset; None collects the rows in memory.
        draft: the folder that the writer writes into.
        columns: what the rows are.
        notes: what is to be said of it.
    """

    files: list[DataFile]
    progress: Progress | None = None
    sha256: str | None = None
    writer: "RowWriter | None" = None
    draft: Draft | None = None
    columns: "RowColumns | None" = None
    notes: list[str] = field(default_factory=list)
    _items: list[Item] = field(default_factory=list)

    def add(self, items: Sequence[Item]) -> None:
        """Collect what was made of a row."""
        if self.writer is None:
            self._items += items
            return
        from dpo_tui.data.stored.row_cells import UnstorableError

        try:
            for item in items:
                self.writer.add(item)
        except UnstorableError as error:
            raise _NotStoredError(f"JSON would change a value of a row: {error}") from error
        except OSError as error:
            raise _NotStoredError(str(error.strerror or error)) from error

    def add_pairs(self, first: int, run: PairRun) -> None:
        """Collect usable pairs that were read together, of a large dataset, by the number of the first row."""
        if self.writer is not None:
            try:
                self.writer.add_pairs(first, run)
            except OSError as error:
                raise _NotStoredError(str(error.strerror or error)) from error

    def batches_of(self, recogniser: Recogniser) -> "Callable[[Chunk], Iterator[RowBatch]]":
        """What reads the rows of chunks: of pairs that are stored, plain rows as runs of pairs, for speed."""
        if self.columns is None or self.columns.item is not Pair:
            return rows_with_warnings
        from dpo_tui.data.columns.plain_batches import PlainBatches

        return PlainBatches(recogniser)

    def reported(self, chunks: Iterator[Chunk], before: int) -> Iterator[Chunk]:
        """Pass the chunks of a file on, and call ``progress`` for each.

        Args:
            chunks: of the file.
            before: bytes of the files before it.
        """
        total = sum(file.path.stat().st_size for file in self.files) if self.progress else 0
        for chunk in chunks:
            # Of a plain file alone it is known how much of it was read.
            if self.progress and isinstance(chunk, LineChunk):
                self.progress("read", before + chunk.end, total)
            elif self.progress:
                self.progress("read", before, total)
            yield chunk

    def collected(self) -> "list[Item] | StoredRows[Item]":
        """All rows, once they are read."""
        if self.writer is None or self.draft is None or self.columns is None:
            return self._items
        from dpo_tui.data.stored.stored_rows import ROWS, StoredRows

        try:
            self.writer.close()
            in_use = FolderInUse(self.draft.path)
            return StoredRows(self.draft.path / ROWS, self.columns, self.writer.known, in_use)
        except OSError as error:
            raise _NotStoredError(str(error.strerror or error)) from error


def read_or_recall(
    source: Source,
    progress: Progress | None,
    loaded: type[Loaded],
    item: type[Any],
    read: Callable[[Reading[Any]], Loaded],
) -> Loaded:
    """Read a dataset, or return what an earlier reading of it has left in the cache.

    Args:
        source: where it is.
        progress: called with the bytes of a download that are done, and of a large dataset that are read.
        loaded: a dataclass whose first field is the rows.
        item: the class of a row.
        read: reads the rows into a reading, and returns it all.

    Raises:
        DataError: it cannot be read.
    """
    files = locate(source, progress)
    before = _identities(files)
    loaded_rows = _read_or_recall(files, source, loaded, item, read, progress=progress)
    if _identities(files) != before:
        # Its checksum would be that of other rows than those that were read.
        raise DataError(f"{source.location} was changed while it was read", hint="Run the command again.")
    return loaded_rows


def _read_or_recall(
    files: list[DataFile],
    source: Source,
    loaded: type[Loaded],
    item: type[Any],
    read: Callable[[Reading[Any]], Loaded],
    *,
    progress: Progress | None,
) -> Loaded:
    if not _is_large(files, source):
        return read(Reading(files))
    from dpo_tui.data.stored.row_writer import RowWriter
    from dpo_tui.data.stored.stored_rows import ROWS, RowColumns

    columns = RowColumns.of(item)
    sha256 = sha256_of(files)
    target = data_cache() / f"rows-{_key(files, source, item, sha256)}"
    if (known := _recalled(target, loaded, columns, files)) is not None:
        return known
    why = _no_room(files)
    if why is None:
        try:
            draft = Draft(target)
        except OSError as error:
            why = str(error.strerror or error)
    if why is None:
        try:
            with RowWriter(draft.path / ROWS, columns) as writer:
                found = read(Reading(files, progress, sha256, writer, draft, columns))
            _save(draft, found, columns)
            draft.commit()
            return _recalled(target, loaded, columns, files, just_written=True) or found
        except _NotStoredError as error:
            why = str(error)
        finally:
            draft.discard()
    note = f"the rows are held in memory, the cache of data cannot take them: {why}"
    return read(Reading(files, progress, sha256, notes=[note]))


def _identities(files: list[DataFile]) -> list[tuple[int, int, int] | None]:
    """What changes where a file does; None for one that is gone."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def sha256_of(files: list[DataFile]) -> str:
    """The SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _is_large(files: list[DataFile], source: Source) -> bool:
    if source.max_rows is not None and source.max_rows <= _FEW_ROWS:
        return False
    plain = sum(file.path.stat().st_size for file in files if not _is_packed(file))
    packed = sum(file.path.stat().st_size for file in files if _is_packed(file))
    return plain >= LARGE_BYTES or packed >= LARGE_PACKED_BYTES


def _is_packed(file: DataFile) -> bool:
    return file.packed is not None or file.kind == "parquet"


def _no_room(files: list[DataFile]) -> str | None:
    """Why the rows will not fit onto the disk; None where they will, as far as their size is known."""
    from dpo_tui.data.stored.row_writer import FREE_BYTES

    sizes = [file.path.stat().st_size * (_PACKED_RATIO if _is_packed(file) else 1) for file in files]
    wanted = sum(sizes) * _STORED_RATIO
    place = next(place for place in (data_cache(), *data_cache().parents) if place.exists())
    free = max(0, shutil.disk_usage(place).free - FREE_BYTES)
    if wanted <= free:
        return None
    return f"they take about {wanted / 1e9:.1f} GB, and of its disk {free / 1e9:.1f} GB can be used"


def _key(files: list[DataFile], source: Source, item: type[Any], sha256: str) -> str:
    read_as = [
        [str(file.path.absolute()), file.kind, file.packed, file.encoding, file.split, file.part, file.is_of_split]
        for file in files
    ]
    notes = [file.note for file in files]
    # Without weights no row is drawn: runs with other seeds read the same.
    settings = {name: value for name, value in asdict(source).items() if name != "seed" or source.weights}
    parts = [item.__name__, sha256, read_as, notes, settings, _code_version()]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:24]


@cache
def _code_version() -> str:
    """A hash of the code that reads data, and the versions of what it parses with."""
    digest = hashlib.sha256(repr([version(name) for name in ("orjson", "pyarrow")]).encode())
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _save(draft: Draft, found: Any, columns: "RowColumns") -> None:
    """Write what was found while reading beside the rows.

    Raises:
        _NotStoredError: it cannot be written.
    """
    from dpo_tui.data.stored.stored_rows import ROWS

    rows_field, *others = (one.name for one in fields(found))
    rows = getattr(found, rows_field)
    known = {name: getattr(found, name) for name in others if name != "places"}
    known["dropped"] = [asdict(one) for one in found.dropped]
    known["sources"] = [asdict(one) for one in found.sources]
    document = {"rows": rows.known, "found": known, "first_rows": list(found.places.first_rows)}
    try:
        if not rows.is_whole:
            rows.numbers_in_file.tofile(draft.path / _CHOSEN)
        # A byte that a disk or a hand has changed would be trained without a word.
        document["crc32"] = {name: _crc32_of(draft.path / name) for name in (ROWS, _CHOSEN)}
        text = json.dumps(document)
        (draft.path / _META).write_text(f"{zlib.crc32(text.encode()):08x}\n{text}", encoding="ascii")
    except (OSError, TypeError) as error:
        raise _NotStoredError(str(error)) from error


def _crc32_of(path: Path) -> int | None:
    """The CRC-32 of a file's bytes; None where there is no file."""
    if not path.is_file():
        return None
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _recalled(
    target: Path, loaded: type[Loaded], columns: "RowColumns", files: list[DataFile], *, just_written: bool = False
) -> Loaded | None:
    """What an earlier reading has left; None where there is none, or it cannot be used.

    Args:
        target: the folder.
        loaded: see `read_or_recall`.
        columns: what the rows are.
        files: of the dataset.
        just_written: the checksums were taken a moment ago.
    """
    import numpy as np
    import pyarrow as pa

    from dpo_tui.data.stored.stored_rows import ROWS, StoredRows

    try:
        in_use = FolderInUse(target)
        with contextlib.suppress(OSError):  # a cache that only others may write
            os.utime(target)  # the folder that was used longest ago is deleted first
        checksum, _, text = (target / _META).read_bytes().partition(b"\n")
        if int(checksum, 16) != zlib.crc32(text):
            return None
        document = json.loads(text)
        if not just_written and document["crc32"] != {name: _crc32_of(target / name) for name in (ROWS, _CHOSEN)}:
            return None
        chosen = np.fromfile(target / _CHOSEN, dtype=np.int64) if (target / _CHOSEN).is_file() else None
        rows: Any = StoredRows(target / ROWS, columns, document["rows"], in_use, chosen)
        found = document["found"]
        found["dropped"] = [RowProblem(**one) for one in found["dropped"]]
        found["sources"] = [SourceRows(**one) for one in found["sources"]]
        places = RowPlaces([file.path for file in files], document["first_rows"])
        recalled: Loaded = loaded(**{fields(loaded)[0].name: rows}, **found, places=places)
        return recalled
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
