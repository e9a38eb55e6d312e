"""The interface of a launcher: how a run's supervisor and worker start, are signalled, and how their end is known.

Adding a launcher takes two places and changes nothing that exists:

1. a module here with a `Launcher` and its `Worker`. One that starts processes on this machine subclasses
   `dpo_tui.runs.launchers.local` and overrides what differs, as ``torchrun.py`` does: another command around that of
   the worker, and an end that is read from the ranks' own reports.

   One for a batch system also submits the supervisor in ``start_supervisor``, answers ``waiting_reason`` while the job
   is pending, and cancels it in ``stop_unsupervised``; inside the job the supervisor is the usual one. See
   `dpo_tui.runs.launchers.slurm`.

2. a row in ``registry.LAUNCHERS``; a run that `dpo_tui.runs.store.create` makes with this ``launcher`` uses it.

`tests/support/ranks_launcher.py` adds one, and `tests/runs/launchers/test_launchers.py` runs it. Standard library only.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dpo_tui.runs.exit_codes import WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State

LAUNCH_DEADLINE = 60.0
"""Seconds for a supervisor to take its lock: usually 0.1 s, much longer from a cold network file system. A new run
without a supervisor counts as being launched for as long."""


@dataclass(frozen=True)
class Command:
    """The command that a launcher starts.

    Args:
        argv: program and arguments.
        environment: the whole environment of the program.
    """

    argv: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class BatchJob:
    """What is known about the job that a run was submitted as, while no supervisor is seen.

    Args:
        phase: of the job.
        reason: why it is pending or how it ended, as sentences for the user.
        document: for ``status --json``.
    """

    phase: Literal["pending", "running", "over"]
    reason: str
    document: dict[str, Any]


class Worker(Protocol):
    """A started worker, as its supervisor sees it."""

    @property
    def pid(self) -> int:
        """The process that the supervisor started: the worker itself, or whatever starts its ranks."""

    def poll(self) -> int | None:
        """The exit code of that process, negative for a signal; ``None`` while it lives. Never waits."""

    def interrupt(self) -> None:
        """Ask the worker to save and end. Processes that it needs for that, such as data loaders, get no signal."""

    def terminate(self) -> None:
        """Ask all processes of the worker to end."""

    def kill(self) -> None:
        """End all processes of the worker at once."""

    def end(self, returncode: int) -> WorkerEnd:
        """Say how the worker ended; called once, after `poll` has returned this exit code."""

    def end_leftovers(self) -> list[int]:
        """End processes that the worker left running: they may hold GPU memory. Return the pids that were signalled."""


class Launcher(Protocol):
    """One way to run a worker. It keeps no state of its own: everything that must last is in the run's folder."""

    # Outside the supervisor: in the app, on the command line, on a login node.

    def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
        """Start the run's supervisor, or submit it to a batch system.

        Args:
            folder: the run.
            argv: the supervisor's command.

        Raises:
            RunError: it did not start, or was not accepted.
        """

    def waiting_reason(self, folder: RunFolder) -> str | None:
        """Why a submitted run has no supervisor yet, as a sentence for the user; ``None`` when nothing is submitted.

        Called each time that the status of a run without a supervisor is read, so it must not block.
        """

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        """Act on a request to stop that no supervisor will see: it has not started, or was killed.

        Args:
            folder: the run.
            state: its state.
            now: whether the run is to end at once; else the worker sees the request itself, at its next step.
            again: whether someone has requested that before, without effect.
        """

    def batch_job(self, folder: RunFolder) -> BatchJob | None:
        """What is known about the run's job; ``None`` for a run that was not submitted. It must not block either."""

    def cancel(self, folder: RunFolder) -> None:
        """End a run from outside whose supervisor has not honoured a request to stop at once.

        Raises:
            RunError: it could not be cancelled.
        """

    # Inside the supervisor.

    def own_job(self, folder: RunFolder) -> dict[str, Any] | None:
        """The job in which this process runs, for ``state.json``: ``id``, ``node`` and ``restarts``; ``None`` for none.

        Raises:
            RunError: the run belongs to another job by now.
        """

    def requeue(self, folder: RunFolder, state: State) -> None:
        """Put the job of this process into its queue again, because its time limit is near.

        Called once the state is recorded: the batch system may end this process at once.

        Raises:
            RunError: it is not queued again; the message says why.
        """

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """Make the command that starts the worker.

        Args:
            folder: the run.
            state: its state, with the devices and the batch of this attempt.
            worker_argv: the command of one worker process.

        Raises:
            RunError: the worker cannot be started this way here.
        """

    def start(self, folder: RunFolder, command: Command) -> Worker:
        """Start what `prepare` made; its output is appended to ``train.log``.

        Raises:
            OSError: the program could not be started.
        """
