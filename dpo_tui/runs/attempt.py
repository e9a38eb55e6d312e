"""One attempt of a run, inside its supervisor: start the worker, wait, act on requests to stop, report the end.

Standard library only.
"""

import os
import time
from dataclasses import dataclass
from typing import Literal

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, exit_codes, run_lock
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import Launcher, Worker
from dpo_tui.runs.line_log import seconds_from
from dpo_tui.runs.process import process_start
from dpo_tui.runs.signal_wait import SignalWait
from dpo_tui.runs.state_writer import StateWriter

_GRACE_VARIABLE = "DPO_TUI_STOP_GRACE"
_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL = 0.5
"""Seconds between two looks at the requests; the worker's end interrupts the wait by SIGCHLD."""

_TIME_LIMIT_VARIABLE = "DPO_TUI_SAVE_SECONDS"
_TIME_LIMIT_SHARE = 0.75
"""Part of the seconds before a job's time limit after which a worker that has not saved and ended is killed: what is
left of them is for recording the end and queueing the job again."""

_GONE_AFTER = 5.0
"""Seconds for which a run's folder must be missing until it counts as deleted: a server of files may restart."""

StopCause = Literal["", "stop-now", "terminated", "time-limit", "deleted"]
"""Why the supervisor itself ended the worker; empty when it did not."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended.

    Args:
        status: done, stopped or failed.
        reason: why, as sentences for the user.
        returncode: of the process that the supervisor started, negative for a signal; ``None`` if it did not start.
        worker: what was started; it knows which processes may be left.
        out_of_memory: whether it failed because its device ran out of memory, and nobody had asked it to end.
        time_limit: whether it was ended because its job's time limit is near.
    """

    status: Literal["done", "stopped", "failed"]
    reason: str
    returncode: int | None = None
    worker: Worker | None = None
    out_of_memory: bool = False
    time_limit: bool = False

    def end_leftovers(self) -> list[int]:
        """End processes that the worker left running; return the pids that were signalled."""
        return self.worker.end_leftovers() if self.worker else []


def run_attempt(
    folder: RunFolder, record: StateWriter, signals: SignalWait, launcher: Launcher, worker_argv: list[str]
) -> AttemptEnd:
    """Run the worker once; the state becomes ``running`` with its pid, and ``stopping`` on a request.

    Args:
        folder: the run, at ``starting``.
        record: writes state.json and supervisor.jsonl.
        signals: wakes on the worker's end and on signals.
        launcher: starts the worker.
        worker_argv: the worker's command.
    """
    try:
        worker = launcher.start(folder, launcher.prepare(folder, record.state, worker_argv))
    except RunError as error:
        return AttemptEnd("failed", str(error))
    except OSError as error:
        return AttemptEnd("failed", f"the worker could not be started: {error}")
    record.update(status="running", worker_pid=worker.pid, worker_start=process_start(worker.pid))
    record.event("started", f"attempt {record.state.attempt} started", attempt=record.state.attempt, pid=worker.pid)
    returncode, cause = _wait(folder, record, signals, worker)
    end = worker.end(returncode)
    # Before the cause: a worker that was asked to stop after its last step has ended with a result, and is done.
    if end.code == exit_codes.DONE:
        return AttemptEnd("done", "", returncode, worker)
    if cause or end.code == exit_codes.STOPPED:
        reason = _stopped_reason(folder, cause, in_job=record.state.job is not None)
        return AttemptEnd("stopped", reason, returncode, worker, time_limit=cause == "time-limit")
    out_of_memory = end.code == exit_codes.OUT_OF_MEMORY
    return AttemptEnd("failed", end.reason, returncode, worker, out_of_memory=out_of_memory)


def _wait(folder: RunFolder, record: StateWriter, signals: SignalWait, worker: Worker) -> tuple[int, StopCause]:
    """Wait for the worker to end, and act on requests to stop meanwhile."""
    cause: StopCause = ""
    kill_at: float | None = None
    grace = _grace()
    own_folder = _OwnFolder(folder)
    while True:
        # Before the requests, which send signals: once the exit status is collected, the pid may be another process's.
        if (returncode := worker.poll()) is not None:
            return returncode, cause
        # A request to stop at once also overrides a SIGTERM to the supervisor; each is acted on once.
        if cause != "stop-now" and control_requests.is_requested(folder, control_requests.STOP_NOW):
            cause = "stop-now"
            _record_stopping(record, "asked to stop at once")
            worker.terminate()
            grace = _grace()
            kill_at = time.monotonic() + grace
        elif cause in ("", "time-limit") and signals.terminated:
            cause = "terminated"
            _record_stopping(record, "the supervisor was asked to end")
            # Only the worker itself: its data-loader processes must live until it has saved.
            worker.interrupt()
            grace = _grace()
            kill_at = time.monotonic() + grace
        elif not cause and signals.time_limit_near:
            cause = "time-limit"
            _record_stopping(record, "the time limit of its job is near: it saves a checkpoint at its next step")
            worker.interrupt()
            grace = _TIME_LIMIT_SHARE * seconds_from(_TIME_LIMIT_VARIABLE, _GRACE)
            kill_at = time.monotonic() + grace
        elif not cause and own_folder.is_deleted():
            # Nobody sees this run any more, nor the GPU that it holds: another one would be started on it.
            cause = "deleted"
            _record_stopping(record, "its folder was deleted")
            worker.terminate()
            grace = _grace()
            kill_at = time.monotonic() + grace
        elif record.state.status == "running" and control_requests.is_requested(folder, control_requests.STOP):
            _record_stopping(record, "asked to stop: it saves a checkpoint at its next step")
        if kill_at is not None and time.monotonic() >= kill_at:
            record.event("killing", f"the worker did not end within {grace:g} s of SIGTERM: SIGKILL")
            worker.kill()
            kill_at = None
        # What a full disk refused is tried again here; while a worker trains, nothing else is recorded for hours.
        record.flush()
        signals.wait(_POLL if kill_at is None else min(_POLL, kill_at - time.monotonic()))


class _OwnFolder:
    """Knows whether a run's folder has been deleted, in part or as a whole, or moved away, since this was made.

    Args:
        folder: the run, whose lock this process holds.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path
        self._lock = folder.lock
        self._identity = self._look()
        self._missing_since: float | None = None

    def is_deleted(self) -> bool:
        """Whether it has been missing for a while; one that a worker makes anew for its checkpoint is not the same.

        A folder in which files are still written outlives its deletion. Without its lock nobody sees the run in it.
        """
        if self._identity is None or (self._look() in (self._identity, None) and run_lock.is_in_place(self._lock)):
            self._missing_since = None
            return False
        self._missing_since = self._missing_since or time.monotonic()
        return time.monotonic() - self._missing_since >= _GONE_AFTER

    def _look(self) -> tuple[int, int] | None:
        """Device and inode; (0, 0) where there is no such folder, None where that cannot be said."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return (0, 0)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _record_stopping(record: StateWriter, reason: str) -> None:
    record.update(status="stopping", reason=reason)
    record.event("stopping", reason)


def _stopped_reason(folder: RunFolder, cause: StopCause, *, in_job: bool) -> str:
    newest, _ = newest_complete(folder.checkpoints)
    saved = f"{newest.name} is saved" if newest else "it had saved no checkpoint yet"
    because = control_requests.stop_reason(folder)
    if cause == "stop-now":
        return f"stopped at once: {because}; {saved}" if because else f"stopped at once, as asked; {saved}"
    if cause == "terminated":
        occasion = "its job is cancelled or preempted" if in_job else "the box shuts down"
        return f"stopped because its supervisor was asked to end, as when {occasion}; {saved}"
    if cause == "deleted":
        return "stopped because its folder was deleted while it ran"
    if cause == "time-limit":
        return f"stopped at the time limit of its job; {saved}"
    return f"stopped: {because}; {saved}" if because else f"stopped as asked; {saved}"


def _grace() -> float:
    return seconds_from(_GRACE_VARIABLE, _GRACE)
