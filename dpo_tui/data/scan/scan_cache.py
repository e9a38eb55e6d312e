"""What a scan leaves in the cache: the flags of every row, an index of the portions, and the report.

The folder of a dataset is named by a hash of its files' paths, sizes and times and of the column mapping, so that a
changed file has another folder. Everything here can be computed again.
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
from dpo_tui.data.source.source import DataFile, Source

VERSION = 1
_KEPT = 20
# The rows of a large archive take as much as this unpacked; the token cache has the same bound.
LIMIT_BYTES = 10 * 1000**3
_STALE_SECONDS = 3600


def identity(files: list[DataFile]) -> list[list[Any]]:
    """What tells one state of some files from another: path, size and time of change in nanoseconds."""
    return [[str(file.path.absolute()), *_size_and_time(file.path)] for file in files]


def folder_of(files: list[DataFile], source: Source) -> Path:
    """The cache folder of a dataset in its present state; it may not exist yet."""
    known = orjson.dumps([VERSION, identity(files), list(source.mapping), source.max_rows])
    return paths.cache() / "data" / hashlib.sha256(known).hexdigest()[:24]


class Draft:
    """A cache folder while it is being filled; it takes its final name at once, or not at all."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._target = target
        self.path = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))

    def finish(self) -> None:
        """Give it its name; an older one of the same name goes."""
        if self._target.exists():
            shutil.rmtree(self._target, ignore_errors=True)
        try:
            os.replace(self.path, self._target)
        except OSError:  # another scan of the same file was faster, and found the same
            shutil.rmtree(self.path, ignore_errors=True)
        _prune(self._target.parent)

    def discard(self) -> None:
        """Throw it away."""
        shutil.rmtree(self.path, ignore_errors=True)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _prune(folder: Path) -> None:
    """Delete the caches used longest ago until few enough, and small enough together, are left.

    Most are small, but the index of an archive has all its rows beside it, unpacked. The newest stays, whatever size:
    it was made to be used now. Drafts of killed scans go as well.
    """
    finished: list[tuple[float, Path]] = []
    for one in folder.iterdir():
        with contextlib.suppress(OSError):  # another scan may remove it at the same time
            used = one.stat().st_mtime
            if not one.name.startswith(".draft-"):
                finished.append((used, one))
            elif time.time() - used > _STALE_SECONDS:
                shutil.rmtree(one, ignore_errors=True)
    taken = 0
    for place, (_, one) in enumerate(sorted(finished, reverse=True)):
        taken += _size(one)
        if place and (place >= _KEPT or taken > LIMIT_BYTES):
            shutil.rmtree(one, ignore_errors=True)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
