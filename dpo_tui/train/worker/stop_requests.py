"""Who ends a worker: requests to stop or to save, from a file or by SIGTERM, agreed on by all ranks.

SIGTERM comes from the supervisor, from torchrun, or from the kernel because the parent has died
(:func:`dpo_tui.runs.process.set_pdeathsig`). The training loop acts on requests in
:class:`dpo_tui.train.trainer.callbacks.RunCallback`, after every step; the phases before it call
:meth:`StopRequests.raise_if_stopped`. How a worker that dies of an error says why:
:mod:`dpo_tui.train.worker.failures`.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from dpo_tui.runs import control_requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank

Flags = tuple[bool, ...]
FlagReduction = Callable[[Flags], Flags]
"""A collective: takes the flags of this rank, returns on every rank the logical or over all ranks."""


class StopRequested(BaseException):
    """Ends a worker on request where no checkpoint is to be saved. Not an Exception, so that no library catches it."""


@dataclass(frozen=True)
class Requests:
    """The requests that a step has to follow, the same on every rank.

    Attributes:
        stop: save a checkpoint and end.
        checkpoint: save a checkpoint and continue.
    """

    stop: bool
    checkpoint: bool


def no_reduction(flags: Flags) -> Flags:
    """The reduction over a single process."""
    return flags


class StopRequests:
    """The worker's view of requests to stop or to save.

    Args:
        folder: the run.
        rank: this process.
        reduce_flags: the reduction over all ranks. Ranks read the folder at different moments, and SIGTERM may reach
            only one of them. If each followed its own view, one would leave the loop or save, and the others would wait
            for it in the next collective forever.

    Attributes:
        can_save: whether the training loop runs, in which a stop saves a checkpoint first: then SIGTERM only sets a
            flag, which :meth:`take_requests` returns after the step. Until then SIGTERM raises :class:`StopRequested`
            at once.
    """

    def __init__(self, folder: RunFolder, rank: Rank | None = None, reduce_flags: FlagReduction = no_reduction) -> None:
        self._folder = folder
        self._rank = rank or Rank()
        self._signalled = False
        self._saved_for: tuple[int, int] | None = None
        self.reduce_flags = reduce_flags
        self.can_save = False

    def install(self) -> None:
        """Handle SIGTERM and SIGINT, and ignore SIGHUP: a run outlives the terminal from which it was started."""
        # Called before torch is imported, which takes seconds: until these are set, SIGTERM ends the process without a
        # word, and a run that was asked to stop would count as failed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def stop_wanted(self) -> bool:
        """Whether this rank knows of a request to stop. Others may not yet, so no collective may be left for it."""
        return self._signalled or control_requests.is_requested(self._folder, control_requests.STOP)

    def take_requests(self) -> Requests:
        """Return the requests of all ranks, and clear one for a checkpoint, since the caller follows it.

        A collective: every rank must call it at the same places.
        """
        # One collective for both, after every step: each costs a round over all ranks.
        stop, checkpoint = self.reduce_flags((self.stop_wanted(), self._checkpoint_wanted()))
        # Of both, the stop is followed, which saves as well; the supervisor clears what is left when the run has ended.
        if checkpoint and not stop:
            # By every rank: on NFS one may see the file for a while after another has removed it, and would save again.
            control_requests.clear(self._folder, control_requests.CHECKPOINT)
            # One that cannot be removed, as in a folder of another user, is followed once, and not after each step.
            self._saved_for = control_requests.identity(self._folder, control_requests.CHECKPOINT)
        return Requests(stop, checkpoint)

    def raise_if_stopped(self) -> None:
        """Check for a stop between two phases, where nothing needs saving.

        A collective: every rank must call it at the same places.

        Raises:
            StopRequested: a stop was requested.
        """
        if any(self.reduce_flags((self.stop_wanted(),))):
            raise StopRequested

    def clear_stop(self) -> None:
        """Remove the request to stop once it has been followed; rank 0 does it for all."""
        if self._rank.is_first:
            control_requests.clear(self._folder, control_requests.STOP)

    def _checkpoint_wanted(self) -> bool:
        if not control_requests.is_requested(self._folder, control_requests.CHECKPOINT):
            return False
        return control_requests.identity(self._folder, control_requests.CHECKPOINT) != self._saved_for

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # The flag first: where StopRequested is swallowed in C code, the next check still sees the request.
        self._signalled = True
        if not self.can_save:
            raise StopRequested
