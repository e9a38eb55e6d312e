"""What the supervisor writes: state.json and supervisor.jsonl, also when the disk is full. Standard library only."""

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dpo_tui.runs.atomic_files import to_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.full_disk import LineLog, flush_with_patience
from dpo_tui.runs.state import State, write_state

_EVENTS_KEPT = 200


class StateWriter:
    """The supervisor's two files of a run, and what could not be written to them yet.

    Attributes:
        state: the run's state, as it is; state.json follows as the disk allows.
    """

    def __init__(self, folder: RunFolder, state: State) -> None:
        self.state = state
        self._folder = folder
        self._state_owed = False
        self._events = LineLog(folder.supervisor_log, _EVENTS_KEPT)

    def update(self, **changes: Any) -> None:
        """Change fields of the state and write it."""
        self.state = replace(self.state, **changes)
        self._state_owed = True
        self.flush()

    def event(self, kind: str, message: str, **more: Any) -> None:
        """Append an event; ``message`` is a sentence for a person."""
        self._events.add({"t": time.time(), "kind": kind, "message": message, **more})
        self.flush()

    def flush(self) -> bool:
        """Try to write what is owed.

        Returns:
            Whether nothing is owed any more.
        """
        try:
            if self._state_owed:
                self._write_state()
                self._state_owed = False
            self._events.flush()
        except OSError as error:
            say(f"cannot write in {self._folder.path}, will try again: {error}")
            return False
        return True

    def settle(self) -> None:
        """Write what is owed, with patience: a run's true end must not be lost to a disk that is full just now."""
        if not flush_with_patience(self.flush, self._folder.path):
            say(f"giving up; the run's state is {self.state.status}: {self.state.reason}")

    def _write_state(self) -> None:
        try:
            write_state(self._folder, self.state)
        except OSError as refused:
            # A full disk has no room for a second file, yet the blocks of the first are ours already.
            try:
                _overwrite(self._folder, to_json(self.state.to_dict()).encode("utf-8", "surrogatepass"))
            except OSError:
                raise refused from None
            say(f"the disk refused a new state.json, so the old one was overwritten in place: {refused}")


def say(message: str) -> None:
    """Write a line to supervisor.log, which may be on the same full disk."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        sys.stderr.flush()


def _overwrite(folder: RunFolder, text: bytes) -> None:
    descriptor = os.open(folder.state, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # Blanks up to the old length, in the same single write: JSON ignores them, and nothing of the old text stays.
        padded = text.ljust(os.fstat(descriptor).st_size, b"\n")
        if os.pwrite(descriptor, padded, 0) < len(padded):
            raise OSError(28, "only a part of the state was written", str(folder.state))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
