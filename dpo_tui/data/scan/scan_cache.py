"""The cache of scans: for each dataset a folder with the flags of every row, the index of its rows, and the report.

The folder is named by a hash of the files' paths, sizes and modification times and of the settings that decide how they
are read, so that a changed file has another folder. Everything in it can be computed again.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from dpo_tui import paths
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Source

VERSION = 3
_MOST_FOLDERS = 20
# The unpacked rows of a large archive take as much as this; the token cache has the same bound.
LIMIT_BYTES = 10 * 1000**3
_STALE_SECONDS = 3600


def file_versions(files: list[DataFile]) -> list[list[Any]]:
    """Path, size in bytes and modification time in nanoseconds of files: they differ once a file was changed."""
    return [[str(file.path.absolute()), *_size_and_time(file.path)] for file in files]


def cache_folder(files: list[DataFile], source: Source) -> Path:
    """The cache folder of a dataset in its present state; it may not exist yet."""
    known = orjson.dumps(
        [
            VERSION,
            file_versions(files),
            list(source.mapping),
            source.max_rows,
            source.encoding,
            source.split,
            source.weights,
        ]
    )
    return paths.cache() / "data" / hashlib.sha256(known).hexdigest()[:24]


def cached_flags(source: Source) -> Path | None:
    """The file with the flags of every row, 32 bits each; None if the dataset was not scanned in its present state."""
    path = cache_folder(locate(source), source) / "flags.u32"
    return path if path.is_file() else None


class Draft:
    """A cache folder while it is being filled. It is renamed when complete, so that no reader sees half of one."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._target = target
        self.path = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))

    def commit(self) -> None:
        """Give the folder its final name, in place of an older one; delete the oldest folders of the cache."""
        if self._target.exists():
            shutil.rmtree(self._target, ignore_errors=True)
        try:
            os.replace(self.path, self._target)
        except OSError:  # another scan of the same dataset was faster, with the same result
            shutil.rmtree(self.path, ignore_errors=True)
        _prune(self._target.parent)

    def discard(self) -> None:
        """Delete the folder unless it was committed."""
        shutil.rmtree(self.path, ignore_errors=True)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _prune(folder: Path) -> None:
    """Delete the least recently used folders until their number and their total size are within the limits.

    Most are small, but the index of an archive has all its rows next to it, unpacked. The newest stays whatever its
    size: it is about to be used. Drafts of killed scans are deleted as well.
    """
    finished: list[tuple[float, Path]] = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # another scan may remove it at the same time
            used = entry.stat().st_mtime
            if not entry.name.startswith(".draft-"):
                finished.append((used, entry))
            elif time.time() - used > _STALE_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)
    total = 0
    for rank, (_, entry) in enumerate(sorted(finished, reverse=True)):
        total += _size(entry)
        if rank and (rank >= _MOST_FOLDERS or total > LIMIT_BYTES):
            shutil.rmtree(entry, ignore_errors=True)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
