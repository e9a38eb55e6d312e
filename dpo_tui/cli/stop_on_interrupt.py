"""Ctrl-C while something is followed: the first asks it to stop, the second to stop at once."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from dpo_tui.cli.output import narrate
from dpo_tui.errors import RunError


class StopOnInterrupt:
    """Context in which SIGINT is a request to stop.

    Args:
        stop: makes the request; takes whether to stop at once.
        first: what the first one brings about, for the user.

    Attributes:
        count: how many have come.
    """

    def __init__(self, stop: Callable[[bool], None], first: str) -> None:
        self.count = 0
        self._stop, self._first = stop, first
        self._previous_handler: Any = None

    def __enter__(self) -> "StopOnInterrupt":
        self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous_handler)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # Python runs signal handlers in the main thread between two bytecodes, so writing a file is safe here.
        self.count += 1
        try:
            self._stop(self.count > 1)
        except RunError:
            return  # it has just ended; whoever follows it says how
        narrate("\n" + (f"{self._first} (again: at once)" if self.count == 1 else "stopping at once"))
