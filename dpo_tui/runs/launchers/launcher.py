"""The interface of a launcher: how a run's supervisor and worker start, are signalled, and how their end is known.

`local` is one process on this machine. A launcher for several ranks overrides how the command is prepared and how the
end is read (`dpo_tui.runs.ranks`); one for a batch system also how the supervisor starts, since that runs inside the
job, and what a run waits for before that. A new launcher is one module here and one row in `registry`. Standard library
only.
"""

from dataclasses import dataclass
from typing import Protocol

from dpo_tui.runs.exit_codes import WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State

LAUNCH_DEADLINE = 60.0
"""Seconds for a supervisor to take its lock; it needs 0.1 s, and much longer from a cold network file system. As long a
fresh run may be without one: it is just being launched."""


@dataclass(frozen=True)
class Command:
    """What a launcher starts.

    Args:
        argv: program and arguments.
        environment: the whole environment of the program.
    """

    argv: list[str]
    environment: dict[str, str]


class Worker(Protocol):
    """A worker that was started, as its supervisor sees it."""

    @property
    def pid(self) -> int:
        """The process that the supervisor started: the worker itself, or whatever starts its ranks."""

    def poll(self) -> int | None:
        """The exit code of that process, negative for a signal; ``None`` while it lives. Never waits."""

    def interrupt(self) -> None:
        """Ask the worker to save and end. Processes that it needs for that, such as data loaders, are left alone."""

    def terminate(self) -> None:
        """Ask all processes of the worker to end."""

    def kill(self) -> None:
        """End all processes of the worker at once."""

    def end(self, returncode: int) -> WorkerEnd:
        """Say how it ended; called once, after `poll` has given this exit code."""

    def end_leftovers(self) -> list[int]:
        """End what the worker left running, which may hold GPU memory; return the pids that were signalled."""


class Launcher(Protocol):
    """One way to run a worker. It has no state: all that must last is in the run's folder."""

    # Outside the supervisor: in the app, on the command line, on a login node.

    def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
        """Start the run's supervisor, or submit it to a batch system.

        Args:
            folder: the run.
            argv: the supervisor's command.

        Raises:
            RunError: it did not start, or was refused.
        """

    def waiting_reason(self, folder: RunFolder) -> str | None:
        """Why a run that was submitted has no supervisor yet, in words; ``None`` when nothing is submitted.

        Asked each time that the status of a run without a supervisor is read, so it must answer at once.
        """

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        """Act on a request to stop that no supervisor will see: it has not started, or was killed.

        Args:
            folder: the run.
            state: its state.
            now: whether the run is to end at once; else the worker sees the request itself, at its next step.
            again: whether someone has asked for that before, in vain.
        """

    # Inside the supervisor.

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
