"""The supervisor's writer of state.json and supervisor.jsonl, which copes with a full disk. Standard library only."""

import errno
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dpo_tui.runs.atomic_files import to_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.line_log import LineLog, flush_with_patience
from dpo_tui.runs.state import State, write_state

_EVENTS_KEPT = 200
"""Events that wait in memory at most while the disk is full."""


class StateWriter:
    """Writes the two files, and keeps what could not be written yet.

    Attributes:
        state: the current state of the run; state.json follows as the disk allows.
    """

    def __init__(self, folder: RunFolder, state: State) -> None:
        self.state = state
        self._folder = folder
        self._state_pending = False
        self._events = LineLog(folder.supervisor_log, _EVENTS_KEPT)

    def update(self, **changes: Any) -> None:
        """Change fields of the state and write it."""
        self.state = replace(self.state, **changes)
        # Stays set until a write succeeds: the supervisor calls `flush` while it waits, also if nothing changes.
        self._state_pending = True
        self.flush()

    def event(self, kind: str, message: str, **more: Any) -> None:
        """Append an event; ``message`` is a sentence for the user."""
        self._events.add({"t": time.time(), "kind": kind, "message": message, **more})
        self.flush()

    def flush(self) -> bool:
        """Try to write what is pending.

        Returns:
            Whether everything is written.
        """
        try:
            # The state first: a run's status is computed from it and never from the events, so the last free block of a
            # disk belongs to it.
            if self._state_pending:
                self._write_state()
                self._state_pending = False
            self._events.flush()
        except OSError as error:
            log_to_stderr(f"cannot write in {self._folder.path}, will try again: {error}")
            return False
        return True

    def settle(self) -> None:
        """Write what is pending, retrying for minutes: a run's end must not be lost because the disk is full."""
        if not flush_with_patience(self.flush, self._folder.path):
            log_to_stderr(f"giving up; the run's state is {self.state.status}: {self.state.reason}")

    def _write_state(self) -> None:
        try:
            write_state(self._folder, self.state)
        except OSError as write_error:
            # A full disk has no room for a second file, but the blocks of the first are allocated already.
            try:
                _overwrite(self._folder, to_json(self.state.to_dict()).encode("utf-8", "surrogatepass"))
            except OSError:
                raise write_error from None
            log_to_stderr(f"the disk refused a new state.json, so the old one was overwritten in place: {write_error}")


def log_to_stderr(message: str) -> None:
    """Write a line to supervisor.log, which may be on the same full disk."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        sys.stderr.flush()


def _overwrite(folder: RunFolder, text: bytes) -> None:
    # Without O_TRUNC, which would free the blocks: on a full disk another program may take them before this one writes.
    descriptor = os.open(folder.state, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # One write, padded with line feeds to the old length: JSON ignores them, and nothing of the old text remains.
        # Truncating instead would be a second step, after which a power cut could leave a torn file.
        padded = text.ljust(os.fstat(descriptor).st_size, b"\n")
        if os.pwrite(descriptor, padded, 0) < len(padded):
            raise OSError(errno.ENOSPC, "only a part of the state was written", str(folder.state))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
