"""Writing that outlasts a full disk: lines wait in memory, and at the end there is patience. Standard library only.

The supervisor's record and the worker's journal use it: neither a run nor the truth about its end may be lost because a
disk is full for a while.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import append_line, json_line

_PATIENCE_VARIABLE = "DPO_TUI_DISK_PATIENCE"
_PATIENCE = 600.0
"""Seconds that a process stays, after its work has ended, to get what it has to say onto a full disk."""
_RETRY = 0.5


class LineLog:
    """An append-only ``.jsonl`` file whose lines wait in memory while the disk refuses them; safe for threads.

    Args:
        path: the file.
        keep: how many lines wait at most; beyond that the oldest are given up.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._waiting: deque[bytes] = deque(maxlen=keep)
        self._lost = 0
        self._lock = threading.Lock()

    def add(self, obj: Any) -> None:
        """Take a line without writing it."""
        line = json_line(obj)
        with self._lock:
            self._lost += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(line)

    def flush(self) -> None:
        """Write the lines that wait, oldest first.

        Raises:
            OSError: the disk refused one; it and those after it still wait.
        """
        with self._lock:
            while self._waiting:
                append_line(self.path, self._waiting[0])
                self._waiting.popleft()

    def take_lost(self) -> int:
        """How many lines have been given up since the last call."""
        with self._lock:
            lost, self._lost = self._lost, 0
        return lost


def flush_with_patience(flush: Callable[[], bool], folder: Path) -> bool:
    """Call ``flush`` until it succeeds, for ten minutes (`DPO_TUI_DISK_PATIENCE` seconds) or until the folder is gone.

    Args:
        flush: writes what is left; answers whether nothing is left.
        folder: where it writes.

    Returns:
        Whether everything was written.
    """
    deadline = time.monotonic() + seconds_from(_PATIENCE_VARIABLE, _PATIENCE)
    while not flush():
        if time.monotonic() > deadline or not folder.exists():
            return False
        time.sleep(_RETRY)
    return True


def seconds_from(variable: str, default: float) -> float:
    """A span from the environment; the default where it is absent or no number."""
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        return default
