"""Writing on a full disk: lines wait in memory, and a process that ends retries for minutes. Standard library only.

Used by the supervisor's `StateWriter` and by the worker's journal: neither a run nor the record of its end may be lost
because a disk is full for a while.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import append_line, fsync_folder, json_line

_PATIENCE_VARIABLE = "DPO_TUI_DISK_PATIENCE"
_PATIENCE = 600.0
"""Seconds for which a process that has finished its work keeps trying to write to a full disk."""
_RETRY = 0.5


class LineLog:
    """An append-only ``.jsonl`` file whose lines wait in memory while they cannot be written; thread-safe.

    Args:
        path: the file.
        keep: how many lines wait at most; beyond that the oldest are discarded.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._waiting: deque[bytes] = deque(maxlen=keep)
        self._lost = 0
        self._unsynced = False
        self._entry_synced = False
        self._lock = threading.Lock()

    def add(self, obj: Any) -> None:
        """Queue a line without writing it."""
        line = json_line(obj)
        with self._lock:
            self._lost += len(self._waiting) == self._waiting.maxlen  # the deque drops its oldest line
            self._waiting.append(line)

    def flush(self) -> None:
        """Write the waiting lines, oldest first.

        Raises:
            OSError: one could not be written; it and those after it still wait.
        """
        with self._lock:
            while self._waiting:
                # Removed after it was written: where the write raises, the line waits for the next call.
                append_line(self.path, self._waiting[0])
                self._unsynced = True
                self._waiting.popleft()

    def sync(self) -> None:
        """Wait until the lines that were written are on the disk; does nothing if they are.

        Errors are ignored: the disk has the lines or it has not, and nobody can write them again.
        """
        with self._lock:
            if not self._unsynced:
                return
            # Before the wait and not after it: lines that are written meanwhile may not be covered.
            self._unsynced = False
        # Without the lock, since a disk may take seconds and the training loop must not wait for it.
        with suppress(OSError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if not self._entry_synced:
            fsync_folder(self.path.parent)
            self._entry_synced = True

    def take_lost(self) -> int:
        """Return how many lines have been discarded since the last call, and reset the count."""
        with self._lock:
            lost, self._lost = self._lost, 0
        return lost


def flush_with_patience(flush: Callable[[], bool], folder: Path) -> bool:
    """Call ``flush`` until it succeeds, for ten minutes (`DPO_TUI_DISK_PATIENCE` seconds) or until the folder is gone.

    Args:
        flush: tries to write what is left; returns whether nothing is left.
        folder: where it writes.

    Returns:
        Whether everything was written.
    """
    deadline = time.monotonic() + disk_patience()
    while not flush():
        if time.monotonic() > deadline or not folder.exists():
            return False
        time.sleep(_RETRY)
    return True


def disk_patience() -> float:
    """Seconds for which what cannot be written is tried again."""
    return seconds_from(_PATIENCE_VARIABLE, _PATIENCE)


def seconds_from(variable: str, default: float) -> float:
    """Seconds from an environment variable; the default where it is absent or no number."""
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        return default
