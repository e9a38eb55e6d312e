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
from dpo_tui.data.source import DataFile, Source

VERSION = 1
_KEPT = 20
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
    """Keep the newest caches only; each is small, but datasets change often. Drafts of killed scans go as well."""
    ages: list[tuple[float, Path]] = []
    for one in folder.iterdir():
        with contextlib.suppress(OSError):  # another scan may remove it at the same time
            ages.append((time.time() - one.stat().st_mtime, one))
    finished = sorted(one for one in ages if not one[1].name.startswith(".draft-"))
    drafts = [one for one in ages if one[1].name.startswith(".draft-") and one[0] > _STALE_SECONDS]
    for _, old in [*finished[_KEPT:], *drafts]:
        shutil.rmtree(old, ignore_errors=True)
