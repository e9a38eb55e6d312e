"""Folders of the data cache, `$DPO_TUI_HOME/cache/data`: made whole or not at all, in use, and deleted by age.

Each holds what can be computed again from a dataset: what a scan has found, or its rows as they were read.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from dpo_tui import paths

_MOST_FOLDERS = 20
# The unpacked rows of a large archive, or those of ten million pairs, take as much; the token cache has the same bound.
LIMIT_BYTES = 10 * 1000**3
_STALE_SECONDS = 3600


def data_cache() -> Path:
    """The folder of the cache; it may not exist yet."""
    return paths.cache() / "data"


class FolderInUse:
    """A shared lock on a folder of the cache, so that no process deletes it while this object is alive.

    It is a ``flock`` of the folder itself: it follows the folder when that is renamed, and the kernel ends it with the
    process, so that a killed one leaves nothing in use. Where a file system has no such locks, nothing is locked.

    Raises:
        FileNotFoundError: there is no such folder, or it is being deleted.
    """

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        self.release = weakref.finalize(self, _unlock, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise FileNotFoundError(str(folder)) from None
        except OSError:
            pass


def _unlock(descriptor: int) -> None:
    # A lock belongs to the open folder, which processes forked meanwhile have open too: closing alone would leave it.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _delete_unless_in_use(folder: Path) -> bool:
    """Delete a folder unless a process has it in use; return whether it was deleted."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False  # another process was faster
    try:
        # Held while deleting, so that nobody begins to use half of a folder.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)


class Draft:
    """A cache folder while it is being filled. It is renamed when complete, so that no reader sees half of one."""

    def __init__(self, target: Path) -> None:
        paths.make_private(target.parent)
        self._target = target
        self.path = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        self._in_use = FolderInUse(self.path)

    def commit(self) -> None:
        """Give the folder its final name, or its files to an older one; delete the oldest folders of the cache."""
        with contextlib.suppress(OSError):  # there is none, or another scan of the same dataset was faster
            self._move_into(FolderInUse(self._target))
        try:
            os.replace(self.path, self._target)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
        _prune(self._target.parent)
        self._in_use.release()

    def _move_into(self, older: FolderInUse) -> None:
        """Move the files into the folder of the same dataset that is there already.

        The folder itself stays, since a process may have it open and find the rows of an archive in it by their path.
        So does an index with such rows where this one has none: both describe the same files.
        """
        rows = "rows.jsonl"
        stays = {"index.json"} if (self._target / rows).is_file() and not (self.path / rows).is_file() else set()
        for path in self.path.iterdir():
            if path.name not in stays:
                path.replace(self._target / path.name)
        os.utime(self._target)
        older.release()

    def discard(self) -> None:
        """Delete the folder unless it was committed."""
        self._in_use.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _prune(folder: Path) -> None:
    """Delete the least recently used folders until their number and their total size are within the limits.

    Most are small, but the index of an archive has all its rows next to it, unpacked. The newest stays whatever its
    size, for it is about to be used, and so does one that is in use, which counts all the same. Drafts of killed scans
    are deleted as well.
    """
    finished: list[tuple[float, Path]] = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # another scan may remove it at the same time
            used = entry.stat().st_mtime
            if not entry.name.startswith(".draft-"):
                finished.append((used, entry))
            elif time.time() - used > _STALE_SECONDS:
                _delete_unless_in_use(entry)
    newest_first = [(entry, _size(entry)) for _, entry in sorted(finished, reverse=True)]
    count, total = len(newest_first), sum(size for _, size in newest_first)
    # From the least recently used one on, so that those in use, which stay, cost others their place.
    for entry, size in reversed(newest_first[1:]):
        if count <= _MOST_FOLDERS and total <= LIMIT_BYTES:
            break
        if _delete_unless_in_use(entry):
            count, total = count - 1, total - size


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
