"""The local launcher: the worker is one process of this machine, leader of a process group. Standard library only."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs import disk_problem, leftover_processes
from dpo_tui.runs.atomic_files import lines_from_end, open_private, parse_line
from dpo_tui.runs.exit_codes import DONE, OUT_OF_MEMORY, STOPPED, WorkerEnd, describe_exit, kernel_oom_kills
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.detached_supervisor import start_detached_supervisor
from dpo_tui.runs.launchers.launcher import BatchJob, Command, Worker
from dpo_tui.runs.launchers.worker_environment import worker_environment
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.state import State

_QUOTED = 300
"""Characters of the last line of output that a reason quotes at most."""


class LocalLauncher:
    """Supervisor and worker are processes of this machine."""

    def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
        """Start the supervisor in a new session; see `start_detached_supervisor`."""
        start_detached_supervisor(folder, argv)

    def waiting_reason(self, folder: RunFolder) -> str | None:
        """Nothing is submitted: the supervisor starts at once."""
        return None

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        """Signal the worker whose supervisor was killed: SIGTERM, and SIGKILL at a second request."""
        if now and state.worker_pid and is_same_process(state.worker_pid, state.worker_start):
            _signal_group(state.worker_pid, signal.SIGKILL if again else signal.SIGTERM)

    def batch_job(self, folder: RunFolder) -> BatchJob | None:
        """There is no job."""
        return None

    def cancel(self, folder: RunFolder) -> None:
        """Nothing but the supervisor and the worker can be ended, and both get signals."""

    def own_job(self, folder: RunFolder) -> dict[str, Any] | None:
        """There is no job."""
        return None

    def requeue(self, folder: RunFolder, state: State) -> None:
        """There is no queue to go back to."""
        raise RunError("this supervisor runs in no job")

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """The worker's own command, unchanged."""
        return Command(worker_argv, worker_environment(state))

    def start(self, folder: RunFolder, command: Command) -> Worker:
        """Start the process."""
        return LocalWorker(folder, command)


class LocalWorker:
    """One process, whose exit code says how the worker ended (`dpo_tui.runs.exit_codes`).

    The reason of a failure is, in this order: the event of kind ``failed`` that it wrote in this attempt; a disk that
    takes nothing; what its exit code means, where the kernel's out-of-memory killer is distinguished from other kills;
    its last line of output.

    Attributes:
        folder: the run.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, folder: RunFolder, command: Command) -> None:
        self.folder = folder
        # Sizes before the start: what earlier attempts wrote must not be taken for this one's.
        self._events_before, self._log_before = _size(folder.events), _size(folder.train_log)
        self._oom_before = kernel_oom_kills()
        with open(folder.train_log, "ab", opener=open_private) as log:
            self._process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: signals reach the worker's children too, and a terminal's Ctrl-C does not.
                process_group=0,
                env=command.environment,
            )

    @property
    def pid(self) -> int:
        """The worker's pid, which is its process group's too."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        if self._process.returncode is None:
            # Not Popen.poll: as a subreaper the supervisor also gets the worker's orphans, and must collect them all.
            self._process.returncode = leftover_processes.reap().get(self.pid)
        return self._process.returncode

    def interrupt(self) -> None:
        """SIGTERM to the worker alone: its data-loader processes must live for it to save."""
        with suppress(OSError):
            os.kill(self.pid, signal.SIGTERM)

    def terminate(self) -> None:
        """SIGTERM to the process group."""
        _signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process group."""
        _signal_group(self.pid, signal.SIGKILL)

    def end(self, returncode: int) -> WorkerEnd:
        """What the exit code means, and why the worker failed if it did."""
        if returncode in (DONE, STOPPED):
            return WorkerEnd(returncode)
        reason = self._reported_failure()
        if returncode == OUT_OF_MEMORY:
            return WorkerEnd(returncode, reason or "out of memory")
        return WorkerEnd(returncode, reason or self._explain_exit(returncode))

    def end_leftovers(self) -> list[int]:
        """End the process group and the orphans."""
        return leftover_processes.end_all(self.pid)

    def _reported_failure(self) -> str:
        """The failure that the worker itself recorded: message, and hint on a second line."""
        for line in _lines_since(self.folder.events, self._events_before):
            event = parse_line(line) if b"failed" in line else None
            if event is not None and event.get("kind") == "failed" and event.get("message"):
                hint = event.get("hint")
                return f"{event['message']}\n{hint}" if hint else str(event["message"])
        return ""

    def _explain_exit(self, returncode: int) -> str:
        reason = describe_exit(returncode, out_of_memory=self._kernel_killed())
        if returncode > 0 and (line := self._last_output_line()):
            reason = f"{reason}; its last words: {line}"
        # The worker cannot write its own account on such a disk, and its last words may be cut.
        if (refused := disk_problem.refused_write(self.folder.path)) is not None:
            reason = f"{disk_problem.problem(refused)}; {reason}\n{disk_problem.remedy(refused)}"
        return reason

    def _kernel_killed(self) -> bool | None:
        """Whether the kernel's out-of-memory killer ended a process here since the worker's start; None: unknown."""
        return kernel_oom_kills().since(self._oom_before)

    def _last_output_line(self) -> str:
        for line in _lines_since(self.folder.train_log, self._log_before):
            if text := line.decode("utf-8", "replace").strip():
                return text[:_QUOTED]
        return ""


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(OSError):
        os.killpg(group, number)


def _lines_since(path: Path, offset: int) -> Iterator[bytes]:
    """The lines that were appended after a file had this size, newest first."""
    # One byte more: the line feed before them shows that the first of them is complete.
    return lines_from_end(path, _size(path) - offset + 1)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
