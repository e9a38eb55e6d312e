"""Who ends a worker, and when: requests to stop or save, from a file or by SIGTERM, agreed on by all ranks.

SIGTERM comes from the supervisor, from whatever started the ranks, or from the kernel because that one died
(`dpo_tui.runs.process.set_pdeathsig`). The training loop asks in `dpo_tui.train.trainer.callbacks`; the phases before it by
:meth:`StopRequests.raise_if_stopped`.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from dpo_tui.runs import requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank

Flags = tuple[bool, ...]
Agreement = Callable[[Flags], Flags]
"""Takes what one rank saw and returns, on every rank, what any of them saw. All ranks must call it equally often."""


class StopRequested(BaseException):
    """Raised where there is nothing to save yet. Not an Exception, so that no library swallows it."""


@dataclass(frozen=True)
class Requests:
    """What was asked for, the same on every rank.

    Attributes:
        stop: save a checkpoint and end.
        checkpoint: save a checkpoint and go on.
    """

    stop: bool
    checkpoint: bool


def only_process(flags: Flags) -> Flags:
    """The agreement of a single process with itself."""
    return flags


class StopRequests:
    """The worker's view of requests to stop or to save.

    While ``can_save`` is off, SIGTERM ends the worker at once by :class:`StopRequested`; in the training loop it is on,
    and the loop calls :meth:`take_requests` after every step.

    Args:
        folder: the run.
        rank: this process.
        agree: decides together with the other ranks. Ranks look at the folder at different moments, and SIGTERM may
            reach only one; if each followed its own view, some would leave the loop or save, and the others wait for
            them in the next collective for ever.
    """

    def __init__(self, folder: RunFolder, rank: Rank | None = None, agree: Agreement = only_process) -> None:
        self._folder = folder
        self._rank = rank or Rank()
        self._signalled = False
        self.agree = agree
        self.can_save = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT; ignore the hang-up of a terminal that is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def stop_wanted(self) -> bool:
        """Whether this rank knows of a request to stop. Others may not yet: no reason to leave a collective."""
        return self._signalled or requests.is_requested(self._folder, requests.STOP)

    def take_requests(self) -> Requests:
        """Decide with all ranks what to do now; a request for a checkpoint is taken away, since it will be followed.

        Every rank calls it at the same places, and equally often.
        """
        stop, checkpoint = self.agree((self.stop_wanted(), requests.is_requested(self._folder, requests.CHECKPOINT)))
        if checkpoint and not stop:
            # By every rank: on NFS one may see the file for a while after another has removed it, and would ask again.
            requests.clear(self._folder, requests.CHECKPOINT)
        return Requests(stop, checkpoint)

    def raise_if_stopped(self) -> None:
        """Between two phases, where nothing needs saving; every rank calls it at the same places.

        Raises:
            StopRequested: someone asked for a stop.
        """
        if any(self.agree((self.stop_wanted(),))):
            raise StopRequested

    def honoured(self) -> None:
        """Take the request to stop away once it has been followed."""
        if self._rank.is_first:
            requests.clear(self._folder, requests.STOP)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True
        if not self.can_save:
            raise StopRequested
