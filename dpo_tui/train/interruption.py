"""How a worker learns that it should stop: a request file, or SIGTERM (from its supervisor, or because that died)."""

import signal
from types import FrameType

from dpo_tui.runs.folder import RunFolder


class StopRequested(BaseException):
    """Raised where there is nothing to save yet. Not an Exception, so that no library swallows it."""


class Interruption:
    """The worker's view of requests to stop or to save.

    While ``can_save`` is off, SIGTERM ends the worker at once by :class:`StopRequested`; in the training loop it is on,
    and the loop asks :meth:`stop_wanted` after every step.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._stop = folder.control / "stop"
        self._checkpoint = folder.control / "checkpoint"
        self._signalled = False
        self.can_save = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT; ignore the hang-up of a terminal that is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def stop_wanted(self) -> bool:
        """Whether someone asked for a stop."""
        return self._signalled or self._stop.exists()

    def checkpoint_wanted(self) -> bool:
        """Whether someone asked for a checkpoint; asking takes the request away."""
        if not self._checkpoint.exists():
            return False
        self._checkpoint.unlink(missing_ok=True)
        return True

    def raise_if_stopped(self) -> None:
        """Between two phases, where nothing needs saving.

        Raises:
            StopRequested: someone asked for a stop.
        """
        if self.stop_wanted():
            raise StopRequested

    def honoured(self) -> None:
        """Take the request to stop away once it has been followed."""
        self._stop.unlink(missing_ok=True)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        if not self.can_save:
            raise StopRequested
