"""The supervisor: one small process per run that outlives the terminal, starts the worker and records how it ended.

    python -m dpo_tui.runs.supervisor RUN_DIR [--attempt N] [--change JSON] -- WORKER ARGV…

It holds the run's lock while it lives, waits in the queue for devices, runs the attempts (`dpo_tui.runs.attempt`),
retries after out-of-memory, ends processes that the worker left behind, and writes state.json and supervisor.jsonl.
Standard library only.

Who does what: `dpo_tui.runs.start_run` starts this process for the app and the command line, through the run's
launcher (`dpo_tui.runs.launchers`), which also starts the worker. Requests and signals to end a run are acted on in
`dpo_tui.runs.attempt` and, in the worker, in `dpo_tui.train.worker.stop_requests`. Why a worker died: the meaning of
its exit codes is in `dpo_tui.runs.exit_codes`, its own account of a failure in `dpo_tui.train.worker.failures`.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, leftover_processes, out_of_memory_retry, queue, run_lock
from dpo_tui.runs.atomic_files import delete_abandoned
from dpo_tui.runs.attempt import AttemptEnd, run_attempt
from dpo_tui.runs.complete_checkpoints import all_checkpoints
from dpo_tui.runs.devices import Machine, read_machine
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import Launcher
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.line_log import disk_patience
from dpo_tui.runs.process import boot_id, host_name, is_same_process, process_start, set_child_subreaper
from dpo_tui.runs.resource_change import ResourceChange
from dpo_tui.runs.signal_wait import SignalWait
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.state_writer import StateWriter
from dpo_tui.runs.status_names import ENDED

REFUSED = 4
"""The supervisor's own exit code when it cannot take the run."""

_POLL = 0.5
"""Seconds between two checks of the queue."""
_MEMORY_CHECK_INTERVAL = 10.0
"""Seconds after which a run that waits for memory used by other programs asks the driver again."""
_LOCK_DEADLINE = 15.0
"""Seconds to wait for the supervisor of an ended attempt, which holds the lock while it ends leftover processes."""


def main(argv: list[str]) -> int:
    """Supervise a run until it ends.

    Args:
        argv: ``RUN_DIR [--attempt N] [--change JSON] -- WORKER ARGV…``; with ``--attempt`` the run is taken only if its
            state still has this attempt number; ``--change`` is a `dpo_tui.runs.resource_change.ResourceChange`.

    Returns:
        0 when the run's end is recorded, whatever it was; `REFUSED` when the run was not taken.
    """
    separator = argv.index("--")
    folder, options, worker_argv = RunFolder(Path(argv[0])), argv[1:separator], argv[separator + 1 :]
    option = dict(zip(options[::2], options[1::2], strict=True))
    expected_attempt = int(option["--attempt"]) if "--attempt" in option else None
    # Before the run's lock is taken: without these handlers SIGHUP and SIGTERM would end this process, and the run
    # would be lost instead of stopped.
    signals = SignalWait()
    try:
        state, job = _take_run(folder, expected_attempt)
        if "--change" in option:
            state = replace(state, **ResourceChange.state_fields(option["--change"]))
        launcher = launcher_of(state)
    except (RunError, OSError) as error:
        message = error.message if isinstance(error, RunError) else f"cannot lock {folder.lock}: {error}"
        with suppress(OSError):  # supervisor.log is on the same disk; whoever started this process asks it then
            sys.stderr.write(f"{message}\n")
        return REFUSED
    # Before anything is started: orphans of the worker must become children of this process, not of init.
    set_child_subreaper()
    orphans = (
        leftover_processes.end_orphans(state.supervisor_pid, state.supervisor_start) if _of_this_boot(state) else []
    )
    _delete_abandoned(folder)
    record = _record_as_queued(folder, state, worker_argv, job)
    if orphans:
        record.event("leftovers", "ended what the worker of a killed supervisor had left running", pids=orphans)
    if "--change" in option:
        batch = f"{state.per_device_train_batch_size} × {state.gradient_accumulation_steps}"
        record.event("resources", f"resumes as {state.ranks} × a batch of {batch}", ranks=state.ranks)
    if _wait_in_queue(folder, record, signals):
        _run_attempts(folder, record, signals, launcher, worker_argv)
    record.settle()
    return 0


def _take_run(folder: RunFolder, expected_attempt: int | None) -> tuple[State, dict[str, Any] | None]:
    """Take the run's lock and read its state, and the batch job that this process runs in, if the run has one.

    Raises:
        RunError: another supervisor has the run, or it cannot be run again.
    """
    # One holder of the lock is worth waiting for: the supervisor of an ended attempt, which keeps it while it ends
    # leftover processes. Any other one supervises a live run and would keep it for hours.
    deadline = time.monotonic() + _LOCK_DEADLINE
    while not run_lock.acquire(folder.lock):
        state = read_state(folder)
        if state is None or state.status not in ENDED or time.monotonic() > deadline:
            raise RunError(f"run {folder.id} is looked after already, by process {run_lock.owner(folder.lock)}")
        time.sleep(leftover_processes.POLL)
    # The state is read again under the lock: only now can nobody else change it.
    state = read_state(folder)
    if state is None:
        raise RunError(f"run {folder.id}: {folder.state} is missing or torn")
    if state.status == "done":
        raise RunError(f"run {folder.id} is done already")
    job = launcher_of(state).own_job(folder)
    # A job that was queued again comes back with the command that it was submitted with, and the attempt of that time.
    restarted = job is not None and job["restarts"] > 0 and state.job is not None and state.job["id"] == job["id"]
    if expected_attempt is not None and state.attempt != expected_attempt and not restarted:
        raise RunError(f"run {folder.id}: someone else resumed it at the same time")
    if _of_this_boot(state) and is_same_process(state.worker_pid, state.worker_start):
        raise RunError(f"run {folder.id}: its last worker (process {state.worker_pid}) is still alive")
    if state.attempt > 0:
        # Requests to an earlier attempt are not for this one. Those to a first attempt are: a run may be asked to stop
        # before its supervisor is up.
        control_requests.require_withdrawn(folder)
    return state, job


def _delete_abandoned(folder: RunFolder) -> None:
    """Delete what writers that were killed have left half-written; nobody writes here but this process."""
    for path in (folder.path, folder.control, folder.ranks, *all_checkpoints(folder.checkpoints)):
        delete_abandoned(path)


def _of_this_boot(state: State) -> bool:
    """Whether the pids of a state mean processes that may live now."""
    return state.boot_id == boot_id()


def _record_as_queued(
    folder: RunFolder, state: State, worker_argv: list[str], job: dict[str, Any] | None
) -> StateWriter:
    """Write the run's state as queued, with this process as its supervisor."""
    record = StateWriter(folder, state)
    resumed = state.attempt > 0
    # Queued with an attempt behind it is a run that was submitted again, or whose job was queued again.
    if resumed and state.status not in ENDED and state.status != "queued":
        record.event("lost", f"attempt {state.attempt} was lost: its supervisor went without a word")
    record.update(
        # Boot id and pids change in one write: start times of processes are comparable within one boot only, so an
        # earlier boot's worker beside this boot's id could be taken for a process that lives now.
        status="queued",
        reason="",
        returncode=None,
        supervisor_pid=os.getpid(),
        supervisor_start=process_start(os.getpid()),
        worker_pid=None,
        worker_start=None,
        host=host_name(),
        boot_id=boot_id(),
        queued_at=time.time() if resumed else state.queued_at,
        # A run with a request chooses its devices again for each start; a run that names them keeps them.
        devices=[] if state.device_request is not None else state.devices,
        ended_at=None,
        worker_argv=worker_argv,
        job=job,
    )
    return record


def _wait_in_queue(folder: RunFolder, record: StateWriter, signals: SignalWait) -> bool:
    """Wait until the run's devices are free.

    Returns:
        ``True`` with the state at ``starting`` and the devices in it, which reserves them; ``False`` when asked to stop
        first.
    """
    wait: queue.Wait | None = None
    decided_at = time.monotonic()
    locked_by: float | None = None

    def asked_to_stop() -> bool:
        return signals.terminated or _stop_is_requested(folder)

    while True:
        if reason := _reason_to_end(folder, signals):
            return _record_end_before_start(folder, record, "stopped", reason)
        memory_may_be_free = wait is not None and wait.memory and time.monotonic() - decided_at > _MEMORY_CHECK_INTERVAL
        if wait is None or memory_may_be_free or not queue.still_waits(wait, folder, record.state):
            decided_at = time.monotonic()
            # Most checks end here, from the files alone. The driver may take seconds to answer, so it is asked before
            # the lock is taken: under the lock it would hold up every other run of the home.
            decision = queue.decide(folder, record.state, Machine())
            if isinstance(decision, queue.Allocation):
                needs_driver = queue.needs_machine(folder, record.state)
                machine = read_machine(asked_to_stop) if needs_driver else Machine()
                try:
                    with queue.scheduling_lock(folder, asked_to_stop, signals.wait) as held:
                        if not held or asked_to_stop():
                            continue
                        if not needs_driver and queue.needs_machine(folder, record.state):
                            continue  # since then a run that names its GPU by UUID has started
                        # Decide again: another run may have taken the devices before the lock was held.
                        decision = queue.decide(folder, record.state, machine)
                        if isinstance(decision, queue.Allocation):
                            # Before the lock is released: these devices in state.json are the reservation that other
                            # supervisors read.
                            _record_starting(record, devices=list(decision.devices))
                            break
                except OSError as error:
                    # The lock's file is made once, and the disk may be full or broken then.
                    locked_by = locked_by or time.monotonic() + disk_patience()
                    reason = f"cannot lock the queue: {error}"
                    if time.monotonic() > locked_by:
                        return _record_end_before_start(folder, record, "failed", reason)
                    if record.state.reason != reason:
                        record.update(reason=reason)
                    signals.wait(_POLL)
                    continue
            wait = decision
            if wait.reason != record.state.reason:
                record.update(reason=wait.reason)
                record.event("waiting", wait.reason, run=wait.run.id)
        signals.wait(_POLL)
    if (request := record.state.device_request) is not None:
        chosen = ", ".join(record.state.devices)
        record.event("devices", f"takes {chosen} of {', '.join(request.candidates)}", devices=record.state.devices)
    return True


def _reason_to_end(folder: RunFolder, signals: SignalWait) -> str:
    """Why a run that waits is not to start; empty where it is."""
    if _stop_is_requested(folder):
        because = control_requests.stop_reason(folder)
        return f"stopped before it started: {because}" if because else "stopped before it started, as asked"
    if signals.terminated:
        return "stopped before it started: the supervisor was asked to end"
    return "stopped before it started: its job's time limit came" if signals.time_limit_near else ""


def _stop_is_requested(folder: RunFolder) -> bool:
    return control_requests.is_requested(folder, control_requests.STOP) or control_requests.is_requested(
        folder, control_requests.STOP_NOW
    )


def _record_end_before_start(
    folder: RunFolder, record: StateWriter, status: Literal["stopped", "failed"], reason: str
) -> bool:
    control_requests.clear(folder)
    record.update(status=status, reason=reason, ended_at=time.time())
    record.event(status, reason)
    return False


def _record_starting(record: StateWriter, **changes: Any) -> None:
    now = time.time()
    record.update(
        status="starting",
        reason="",
        attempt=record.state.attempt + 1,
        started_at=record.state.started_at or now,
        attempt_started_at=now,
        **changes,
    )


def _run_attempts(
    folder: RunFolder, record: StateWriter, signals: SignalWait, launcher: Launcher, worker_argv: list[str]
) -> None:
    """Run the worker, again with smaller micro-batches while it runs out of memory, and record the end."""
    while True:
        ending = run_attempt(folder, record, signals, launcher, worker_argv)
        if not ending.out_of_memory:
            break
        retry = out_of_memory_retry.next_retry(folder, record.state)
        if retry is None:
            ending = replace(ending, reason=out_of_memory_retry.failure_reason(folder, record.state))
            break
        ending.end_leftovers()  # they may hold the memory that the next attempt needs
        record.event("out-of-memory", retry.message, attempt=record.state.attempt)
        record.update(
            per_device_train_batch_size=retry.batch.micro,
            gradient_accumulation_steps=retry.batch.accumulation,
            returncode=ending.returncode,
            worker_pid=None,
            worker_start=None,
        )
        if _stop_is_requested(folder):
            ending = replace(ending, status="stopped", reason="stopped as asked, after it ran out of memory")
            break
        _record_starting(record)
    if ending.time_limit and not _stop_is_requested(folder) and not signals.terminated:
        ending = _requeue(folder, record, launcher, ending)
        if record.state.status == "queued":
            return
    _record_end(folder, record, ending)


def _requeue(folder: RunFolder, record: StateWriter, launcher: Launcher, ending: AttemptEnd) -> AttemptEnd:
    """Put the job of this process into its queue again: its time limit is near, and the run has not ended.

    Returns:
        The end to record where that is not possible. Else the state is ``queued``.
    """
    ending.end_leftovers()
    reason = f"{ending.reason}; its job is queued again"
    # Before the request, which ends this process at any moment: the state must be complete by then.
    record.update(
        status="queued",
        reason=reason,
        returncode=ending.returncode,
        supervisor_pid=None,
        supervisor_start=None,
        worker_pid=None,
        worker_start=None,
    )
    record.event("requeued", reason, attempt=record.state.attempt)
    record.settle()
    try:
        launcher.requeue(folder, record.state)
    except RunError as error:
        record.update(supervisor_pid=os.getpid(), supervisor_start=process_start(os.getpid()))
        ending = replace(ending, reason=f"{ending.reason}. It does not go on by itself: {error.message}")
        record.update(status="stopping")
    return ending


def _record_end(folder: RunFolder, record: StateWriter, ending: AttemptEnd) -> None:
    """Record the end, then end leftover processes: readers learn it at once, while the lock keeps the devices taken."""
    control_requests.clear(folder)
    record.update(status=ending.status, reason=ending.reason, returncode=ending.returncode, ended_at=time.time())
    record.event(ending.status, ending.reason or "done", attempt=record.state.attempt, returncode=ending.returncode)
    if ended := ending.end_leftovers():
        record.event("leftovers", "ended what the worker left running", pids=ended)


if __name__ == "__main__":
    os.umask(0o077)  # what it and the worker write is this user's alone
    sys.exit(main(sys.argv[1:]))
