"""The status of a run: a pure function of its files, its lock and its living processes. Standard library only."""

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpo_tui.runs import control_requests, remaining_time, run_lock
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.disk_problem import seen_problem
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import LAUNCH_DEADLINE, BatchJob
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.process import boot_id, host_name, is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status_names import ENDED, OVER
from dpo_tui.runs.typed_documents import wrong_field
from dpo_tui.text.durations import duration

STALLED_AFTER = 120.0
"""Seconds without any output before a run counts as stalled: saving a big model writes none for a minute."""
STALLED_STEPS = 10.0
"""… or this many median step times, if that is longer."""
STALLED_WITHOUT_STEP_TIME = 300.0
"""… or these seconds while no step time is known: importing and loading from a cold network disk takes minutes."""

_UNRECORDED_AFTER = 10.0
"""Seconds of silence after which a worker that is gone counts as ended although its supervisor has not recorded it."""


@dataclass(frozen=True)
class Status:
    """The status of a run at one moment.

    Args:
        status: queued, starting, running, stalled, stopping, done, failed, stopped or lost.
        reason: why, as a sentence for the user; empty when the status needs none.
        live: whether it has a supervisor, so that it can be stopped and cannot be resumed.
        state: state.json; ``None`` if it is missing or torn.
        progress: progress.json of the current attempt; empty before its first.
        job: the batch job as it was last described, while no supervisor is seen; ``None`` otherwise.
    """

    status: str
    reason: str = ""
    live: bool = False
    state: State | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether it ended, in any way, a lost run included."""
        return self.status in OVER


@dataclass(frozen=True)
class Progress:
    """The keys of progress.json as the worker writes them; it has all but the last four from the beginning.

    Args:
        phase: one of `dpo_tui.runs.status_names.PHASES`.
        done: how many units of the phase are done, of ``total``, which may be unknown.
        unit: of both.
        t: Unix time of the writing.
        step: the optimizer steps done, of ``max_steps``, in ``epoch`` epochs.
        detail: what the phase is at.
    """

    phase: str
    done: float | None
    total: float | None
    unit: str | None
    t: float
    step: int | None = None
    max_steps: int | None = None
    epoch: float | None = None
    detail: str | None = None


def status_of(folder: RunFolder, now: float | None = None) -> Status:
    """Determine the status of a run.

    Args:
        folder: the run.
        now: Unix time, compared with the times of the files; the present by default.

    Raises:
        RunError: a newer dpo-tui wrote the folder, a value of its state has a wrong type, or its launcher is unknown.
    """
    now = time.time() if now is None else now
    state = read_state(folder)
    if state is None:
        # Its supervisor has the state in memory, acts on requests, and writes the file again when something changes.
        supervised = run_lock.owner(folder.lock) is not None
        reason = f"{folder.state.name} is missing or torn"
        return Status("running" if supervised else "lost", reason, live=supervised)
    if state.status in ENDED:
        return Status(state.status, state.reason, state=state, progress=read_progress(folder))
    if run_lock.owner(folder.lock) is not None:
        live = _live(folder, state, now)
        # A network file system may keep the lock of a host that is down.
        job = launcher_of(state).batch_job(folder) if live.status == "stalled" else None
        return live if job is None or job.phase != "over" else _job_over(folder, state, job, now)
    launcher = launcher_of(state)
    if (waiting := launcher.waiting_reason(folder)) is not None:
        pending = launcher.batch_job(folder)
        return Status("queued", waiting, live=True, state=state, job=pending.document if pending else None)
    if (job := launcher.batch_job(folder)) is not None:
        if job.phase == "over":
            return _job_over(folder, state, job, now)
        # It runs, on a host whose locks are not seen here, or ends just now: silence alone does not make it lost, and
        # how it ended, or whether it is queued again, is known in a moment.
        return _live(folder, state, now, f"on host {state.host or 'unknown'}")
    if _same_boot(state):
        return _unsupervised(folder, state, now)
    if state.host == host_name():
        doing = "waited for its turn" if state.attempt == 0 else "ran"
        return _lost(folder, state, f"the box restarted while it {doing}")
    return _elsewhere(folder, state, now)


def _job_over(folder: RunFolder, state: State, job: BatchJob, now: float) -> Status:
    """The status of a run whose job is over, and whose supervisor recorded no end."""
    # The state was read before the job was asked about: the supervisor may have recorded the end in between.
    newer = read_state(folder)
    if newer is not None and newer.status in ENDED:
        return status_of(folder, now)
    return replace(_lost(folder, state, job.reason), job=job.document)


def read_progress(folder: RunFolder) -> dict[str, Any]:
    """progress.json; empty where it is missing or torn, or a value has a wrong type."""
    progress = read_json(folder.progress) or {}
    return {} if wrong_field(Progress, progress) else progress


def quiet_seconds(folder: RunFolder, now: float) -> float:
    """Seconds since the run last wrote anything: progress, a metric, an event, its state or a line of output."""
    files = (folder.progress, folder.metrics, folder.events, folder.train_log, folder.state)
    return now - max(_modified(path) for path in files)


def _live(folder: RunFolder, state: State, now: float, where: str = "") -> Status:
    if state.status == "queued":
        return Status("queued", _join(where, state.reason), live=True, state=state)
    progress = _current_progress(folder, state, now)
    quiet = quiet_seconds(folder, now)
    silence = _unrecorded_end(folder, state, quiet) or _silence(folder, state, quiet, now)
    asked = control_requests.is_requested(folder, control_requests.STOP) or control_requests.is_requested(
        folder, control_requests.STOP_NOW
    )
    if state.status == "stopping" or asked:
        reason = state.reason if state.status == "stopping" else "asked to stop at the next step"
        return Status("stopping", _join(where, reason, silence), True, state, progress)
    if silence:
        return Status("stalled", _join(where, silence), True, state, progress)
    if not progress:
        return Status("starting", _join(where, state.reason), True, state)
    return Status("running", _join(where, state.reason), True, state, progress)


def _unrecorded_end(folder: RunFolder, state: State, quiet: float) -> str:
    """A sentence about a worker that has ended while its supervisor could not record how; empty where it lives."""
    # Only of a supervisor that is seen: in another container the pids of both are others.
    supervised_here = _same_boot(state) and state.supervisor_pid == run_lock.owner(folder.lock)
    if not supervised_here or state.worker_pid is None or _worker_lives(state):
        return ""
    disk = seen_problem(folder.path)
    # Between a worker's end and its record pass some milliseconds, in a leap of the clock or on a busy machine more.
    if not disk and quiet < _UNRECORDED_AFTER:
        return ""
    return _join(f"its worker (process {state.worker_pid}) has ended, and its supervisor cannot record how", disk)


def _worker_lives(state: State) -> bool:
    return is_same_process(state.worker_pid, state.worker_start)


def _unsupervised(folder: RunFolder, state: State, now: float) -> Status:
    """The status of a run whose lock nobody holds, on this machine, which has not restarted since."""
    if state.supervisor_pid is None and (state.attempt == 0 or state.status == "queued"):
        if now - state.queued_at < LAUNCH_DEADLINE:
            return Status("queued", "being launched", state=state)
        return _lost(folder, state, "it was never started")
    if state.status == "queued":
        return _lost(folder, state, "its supervisor was killed, or could write nothing, while it waited for its turn")
    worker = ", and its worker ended with it"
    if _worker_lives(state):
        worker = f"; its worker (process {state.worker_pid}) is still saving, or hangs"
    # The supervisor writes there only when something is wrong with itself.
    pointer = f"; {folder.supervisor_output.name} has its last words" if _size(folder.supervisor_output) else ""
    supervisor = f"its supervisor (process {state.supervisor_pid})"
    if not _worker_lives(state) and (disk := seen_problem(folder.path)):
        # It may also have given up writing down how the run ended.
        return _lost(folder, state, f"{supervisor} ended and recorded no end: {disk}{pointer}")
    return _lost(folder, state, f"{supervisor} was killed, or could write nothing{worker}{pointer}")


def _elsewhere(folder: RunFolder, state: State, now: float) -> Status:
    """The status of another machine's run in a shared home whose file system does not share locks: from its files."""
    where = f"on host {state.host or 'unknown'}"
    if state.status == "queued":
        return Status("queued", _join(where, state.reason), live=True, state=state)
    quiet = quiet_seconds(folder, now)
    if _silence(folder, state, quiet, now):
        return _lost(folder, state, f"{where}: no sign of life for {duration(quiet)}")
    return _live(folder, state, now, where)


def _lost(folder: RunFolder, state: State, reason: str) -> Status:
    return Status("lost", reason, state=state, progress=read_progress(folder))


def _silence(folder: RunFolder, state: State, quiet: float, now: float) -> str:
    """A sentence about how long the run has written nothing; empty while that is usual."""
    if quiet <= STALLED_AFTER:
        return ""
    step = remaining_time.step_seconds(folder.metrics, state.attempt_since(now))
    if quiet <= (STALLED_WITHOUT_STEP_TIME if step is None else STALLED_STEPS * step):
        return ""
    usual = f" (a step takes {step:.1f} s)" if step is not None else ""
    return f"no sign of life for {duration(quiet)}{usual}"


def _current_progress(folder: RunFolder, state: State, now: float) -> dict[str, Any]:
    """progress.json, unless an earlier attempt wrote it."""
    progress = read_progress(folder)
    written = float(progress["t"]) if "t" in progress else _modified(folder.progress)
    return progress if written >= (state.attempt_since(now) or 0.0) else {}


def _same_boot(state: State) -> bool:
    here = boot_id()
    if state.boot_id and here:
        return state.boot_id == here
    return state.host in ("", host_name())


def _modified(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
