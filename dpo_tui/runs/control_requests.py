"""Requests to a running run (stop, stop now, checkpoint): files in its ``control/``. Standard library only.

They are the only files of a run that other programs than its supervisor and worker write.
"""

import os
from contextlib import suppress
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import write_text_atomic
from dpo_tui.runs.contract_version import NewerVersionError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.process import boot_id, is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status_names import ENDED

STOP = "stop"
STOP_NOW = "stop-now"
CHECKPOINT = "checkpoint"
PAUSE = "pause"
STOP_REASON = "stop-reason"
"""The one request with a content: why a run is to stop, a line of UTF-8 beside ``stop`` or ``stop-now``."""
ACCEPT_CHANGED_DATA = "accept-changed-data"

_LONGEST_REASON = 1000
"""Characters of a reason that are read at most."""


def request_stop(folder: RunFolder, now: bool = False, reason: str = "") -> None:
    """Ask a run to stop.

    Without ``now`` the worker saves a checkpoint at its next step and stops. With it the supervisor ends the worker at
    once: SIGTERM, and SIGKILL after ten seconds; steps after the last checkpoint are lost. Asked again, the job of a
    run in a batch system is cancelled.

    Args:
        folder: the run.
        now: end it at once.
        reason: why, for the reason of its end; empty where the user asked.

    Raises:
        RunError: the run is not running, or its folder cannot be written.
    """
    _check_live(folder, "stopped")
    # Looked at before ours is written, which would always be found.
    asked_before = (folder.control / STOP_NOW).exists()
    if reason:
        _write_reason(folder, reason)
    # The file first, and the lock after it: a supervisor that dies in between has left the file unread, and is seen to
    # be gone below. In the other order nobody would act on the request.
    _request(folder, STOP_NOW if now else STOP)
    state = _readable_state(folder)
    if state is None:
        return  # its supervisor knows what to do; only it can, since nobody else knows how the run was started
    if run_lock.owner(folder.lock) is None:
        # No supervisor will see the file: a submitted run has none yet, or the supervisor of a live worker was killed.
        launcher_of(state).stop_unsupervised(folder, state, now=now, again=asked_before)
        if (left := read_state(folder)) is not None and left.status in ENDED:
            clear(folder)  # it was cancelled before it started: a later attempt is not to see the request
    elif now and asked_before:
        launcher_of(state).cancel(folder)


def request_checkpoint(folder: RunFolder) -> None:
    """Ask the worker to save a checkpoint at its next step and to continue.

    Raises:
        RunError: the run is not running, or its folder cannot be written.
    """
    _check_live(folder, "asked for a checkpoint")
    _request(folder, CHECKPOINT)


def stop_reason(folder: RunFolder) -> str:
    """Why the run was asked to stop, as whoever asked has written it; empty where nobody has."""
    try:
        with open(folder.control / STOP_REASON, encoding="utf-8", errors="replace") as file:
            return " ".join(file.read(_LONGEST_REASON).split())
    except OSError:
        return ""


def request_pause(folder: RunFolder) -> None:
    """Ask a run that waits in the queue not to start until it is unpaused; the caller holds the queue's lock.

    Raises:
        RunError: the run's folder cannot be written.
    """
    _request(folder, PAUSE)


def accept_changed_data(folder: RunFolder) -> None:
    """Allow the next attempt to continue although the data has changed since the run began.

    Raises:
        RunError: the run's folder cannot be written.
    """
    _request(folder, ACCEPT_CHANGED_DATA)


def is_requested(folder: RunFolder, request: str) -> bool:
    """Whether a request is pending."""
    return os.path.exists(folder.control / request)


def clear(folder: RunFolder, *requests: str) -> None:
    """Withdraw requests, or mark them as done; absent ones are ignored.

    Args:
        folder: the run.
        *requests: which; all but the one to accept changed data by default.
    """
    for request in requests or (STOP, STOP_NOW, CHECKPOINT, PAUSE, STOP_REASON):
        with suppress(OSError):
            os.unlink(folder.control / request)


def _check_live(folder: RunFolder, action: str) -> None:
    """Check that a run has a supervisor, will have one, or has a worker that lives.

    Raises:
        RunError: it has none of them.
    """
    supervised = run_lock.owner(folder.lock) is not None
    state = _readable_state(folder)
    if state is None and supervised:
        return  # the supervisor has the state in memory, and needs no file to act on a request
    if state is not None and state.status not in ENDED:
        # Pids of another machine, or of an earlier boot of this one, say nothing here. Attempt 0: the supervisor is not
        # up yet, and finds the request when it is.
        elsewhere = state.boot_id != boot_id()
        if supervised or elsewhere or state.attempt == 0 or is_same_process(state.worker_pid, state.worker_start):
            return
    status = "not running" if state is None or state.status not in ENDED else state.status
    raise RunError(f"run {folder.id} is {status}: it cannot be {action}", hint=f"dpo-tui status {folder.id} says more.")


def _readable_state(folder: RunFolder) -> State | None:
    """The state; None where the file is missing or torn, or cannot be read as a state.

    Raises:
        NewerVersionError: a newer dpo-tui wrote it, whose requests may be others.
    """
    try:
        return read_state(folder)
    except NewerVersionError:
        raise
    except RunError:
        return None


def _write_reason(folder: RunFolder, reason: str) -> None:
    try:
        folder.control.mkdir(exist_ok=True)
        write_text_atomic(folder.control / STOP_REASON, f"{reason}\n")
    except OSError as error:
        raise RunError(f"run {folder.id}: cannot write the request in {folder.control}: {error}") from error


def _request(folder: RunFolder, request: str) -> None:
    try:
        # An empty file whose name is the request: there is no content that could be torn or read half.
        folder.control.mkdir(exist_ok=True)
        Path(folder.control, request).touch()
    except OSError as error:
        raise RunError(f"run {folder.id}: cannot write the request in {folder.control}: {error}") from error
