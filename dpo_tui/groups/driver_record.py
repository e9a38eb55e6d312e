"""A driver's writer of state.json and events.jsonl, which copes with a full disk. Standard library only."""

import time
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from dpo_tui.groups.driven_folder import DrivenFolder
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.line_log import LineLog, flush_with_patience
from dpo_tui.runs.state_writer import log_to_stderr

LOCK_DELETED = "its lock was deleted, so that nobody sees this driver and another one can be started: it ends"
"""What a driver says that finds its folder or lock deleted, or another in their place."""
_EVENTS_KEPT = 200
"""Events that wait in memory at most while the disk is full."""


class _State(Protocol):
    """A frozen dataclass that state.json is made of."""

    def to_dict(self) -> dict[str, Any]:
        """The object that state.json holds."""


State = TypeVar("State", bound=_State)


class DriverRecord(Generic[State]):
    """Writes the two files, and keeps what could not be written yet.

    Attributes:
        state: the current state; state.json follows as the disk allows.
    """

    def __init__(self, folder: DrivenFolder, state: State) -> None:
        self.state = state
        self._folder = folder
        self._pending = False
        self._events = LineLog(folder.events, _EVENTS_KEPT)

    def update(self, **changes: Any) -> None:
        """Change fields of the state and write it; does nothing where they are so already."""
        changed = replace(self.state, **changes)  # type: ignore[type-var]  # a Protocol cannot ask for a dataclass
        if changed != self.state:
            self.state, self._pending = changed, True
        self.flush()

    def event(self, kind: str, message: str, **more: Any) -> None:
        """Append an event; ``message`` is a sentence for the user."""
        self._events.add({"t": time.time(), "kind": kind, "message": message, **more})
        self.flush()

    def flush(self) -> bool:
        """Try to write what is pending; return whether everything is written."""
        try:
            if self._pending:
                write_json_atomic(self._folder.state, self.state.to_dict())
                self._pending = False
            self._events.flush()
        except OSError as error:
            log_to_stderr(f"cannot write in {self._folder.path}, will try again: {error}")
            return False
        return True

    def settle(self) -> None:
        """Write what is pending, retrying for minutes: the end must not be lost because the disk is full."""
        flush_with_patience(self.flush, self._folder.path)
