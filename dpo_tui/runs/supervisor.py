"""The supervisor: one small process a run, which outlives the terminal and tells the run's true end.

    python -m dpo_tui.runs.supervisor RUN_DIR [--attempt N] -- WORKER ARGV…

It holds the run's lock while it lives, waits for the run's turn, has the run's launcher start the worker, retries after
out-of-memory, ends what the worker leaves behind, and writes state.json and supervisor.jsonl. Standard library only.

Who ends a run: requests and signals are acted on in `dpo_tui.runs.attempt` here, and in `dpo_tui.train.worker.stop_requests` in
the worker. Why it died: the worker's exit codes are in `dpo_tui.runs.exit_codes`, and its launcher reads them
(`dpo_tui.runs.launchers`); what the worker says of its own failure comes from `dpo_tui.train.worker.failures`.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs import leftover_processes, out_of_memory_retry, queue, requests, run_lock
from dpo_tui.runs.attempt import Ending, run_attempt
from dpo_tui.runs.devices import Machine, read_machine
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import Launcher
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.process import boot_id, host_name, is_same_process, process_start, set_child_subreaper
from dpo_tui.runs.signal_wait import SignalWait
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.state_writer import StateWriter
from dpo_tui.runs.statuses import ENDED

REFUSED = 4
"""The supervisor's own exit code when it does not take the run."""

_POLL = 0.5
_LOOK_AGAIN = 10.0
"""Seconds after which a run that waits for memory held by others asks the driver again."""
_CLEANING = 15.0
"""Seconds to wait for a supervisor that has recorded the end and still ends leftovers."""


def main(argv: list[str]) -> int:
    """Look after a run until it ends.

    Args:
        argv: ``RUN_DIR [--attempt N] -- WORKER ARGV…``; with ``--attempt`` the run is taken only if its state still has
            this attempt.

    Returns:
        0 when the run's end is recorded, whatever it was; `REFUSED` when the run was not taken.
    """
    cut = argv.index("--")
    folder, options, worker_argv = RunFolder(Path(argv[0])), argv[1:cut], argv[cut + 1 :]
    expected = int(options[1]) if options else None
    signals = SignalWait()
    try:
        state = _take(folder, expected)
        launcher = launcher_of(state)
    except (RunError, OSError) as refusal:
        told = refusal.message if isinstance(refusal, RunError) else f"cannot lock {folder.lock}: {refusal}"
        sys.stderr.write(f"{told}\n")
        return REFUSED
    set_child_subreaper()
    record = _enroll(folder, state, worker_argv)
    if _wait_for_turn(folder, record, signals):
        _work(folder, record, signals, launcher, worker_argv)
    record.settle()
    return 0


def _take(folder: RunFolder, expected: int | None) -> State:
    """Take the lock and read the state, or refuse."""
    deadline = time.monotonic() + _CLEANING
    while not run_lock.acquire(folder.lock):
        state = read_state(folder)
        if state is None or state.status not in ENDED or time.monotonic() > deadline:
            raise RunError(f"run {folder.id} is looked after already, by process {run_lock.owner(folder.lock)}")
        time.sleep(leftover_processes.POLL)
    state = read_state(folder)
    if state is None:
        raise RunError(f"run {folder.id}: {folder.state} is missing or torn")
    if state.status == "done":
        raise RunError(f"run {folder.id} is done already")
    if expected is not None and state.attempt != expected:
        raise RunError(f"run {folder.id}: someone else resumed it at the same time")
    if state.boot_id == boot_id() and is_same_process(state.worker_pid, state.worker_start):
        raise RunError(f"run {folder.id}: its last worker (process {state.worker_pid}) is still alive")
    return state


def _enroll(folder: RunFolder, state: State, worker_argv: list[str]) -> StateWriter:
    """Write the run down as queued, by this supervisor."""
    record = StateWriter(folder, state)
    resumed = state.attempt > 0
    if resumed:
        requests.clear(folder)  # requests to an earlier attempt are not for this one
    if resumed and state.status not in ENDED:
        record.event("lost", f"attempt {state.attempt} was lost: its supervisor went without a word")
    record.update(
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
        devices=[] if state.device_request is not None else state.devices,  # chosen anew with each turn
        ended_at=None,
        worker_argv=worker_argv,
    )
    return record


def _wait_for_turn(folder: RunFolder, record: StateWriter, signals: SignalWait) -> bool:
    """Wait until the devices are free.

    Returns:
        ``True`` with the state at ``starting`` and its devices in it, which is what keeps others waiting; ``False``
        when asked to stop first.
    """
    found: queue.Wait | None = None
    looked = time.monotonic()

    def asked_to_stop() -> bool:
        return signals.terminated or _stop_is_requested(folder)

    while True:
        if _stop_is_requested(folder):
            return _never_started(folder, record, "stopped before it started, as asked")
        if signals.terminated:
            return _never_started(folder, record, "stopped before it started: the supervisor was asked to end")
        memory_may_be_free = found is not None and found.memory and time.monotonic() - looked > _LOOK_AGAIN
        if found is None or memory_may_be_free or not queue.still_waits(found, folder, record.state):
            looked = time.monotonic()
            # Most looks end here, by the files alone; the driver takes longer, and must not be asked under the lock.
            decision = queue.decide(folder, record.state, Machine())
            if isinstance(decision, queue.Turn):
                asks = queue.needs_machine(folder, record.state)
                machine = read_machine(asked_to_stop) if asks else Machine()
                with queue.scheduling_lock(folder, asked_to_stop, signals.wait) as held:
                    if not held or asked_to_stop():
                        continue
                    if not asks and queue.needs_machine(folder, record.state):
                        continue  # meanwhile a run with a UUID has started
                    decision = queue.decide(folder, record.state, machine)
                    if isinstance(decision, queue.Turn):
                        _mark_starting(record, devices=list(decision.devices))
                        break
            found = decision
            if found.reason != record.state.reason:
                record.update(reason=found.reason)
                record.event("waiting", found.reason, run=found.run.id)
        signals.wait(_POLL)
    if (request := record.state.device_request) is not None:
        chosen = ", ".join(record.state.devices)
        record.event("devices", f"takes {chosen} of {', '.join(request.candidates)}", devices=record.state.devices)
    return True


def _stop_is_requested(folder: RunFolder) -> bool:
    return requests.is_requested(folder, requests.STOP) or requests.is_requested(folder, requests.STOP_NOW)


def _never_started(folder: RunFolder, record: StateWriter, reason: str) -> bool:
    requests.clear(folder)
    record.update(status="stopped", reason=reason, ended_at=time.time())
    record.event("stopped", reason)
    return False


def _mark_starting(record: StateWriter, **changes: Any) -> None:
    now = time.time()
    record.update(
        status="starting",
        reason="",
        attempt=record.state.attempt + 1,
        started_at=record.state.started_at or now,
        attempt_started_at=now,
        **changes,
    )


def _work(
    folder: RunFolder, record: StateWriter, signals: SignalWait, launcher: Launcher, worker_argv: list[str]
) -> None:
    """Run the worker, again with smaller micro-batches while it runs out of memory, and record the end."""
    while True:
        ending = run_attempt(folder, record, signals, launcher, worker_argv)
        if not ending.out_of_memory:
            break
        was = _batch(folder, record.state)
        smaller = was.smaller() if was else None
        if smaller is None:
            ending = _gave_up(ending, was)
            break
        ending.end_leftovers()
        message = (
            f"out of memory with batch {was}: tries again from the last checkpoint with {smaller}, "
            f"which keeps the effective batch of {smaller.effective}"
        )
        record.event("out-of-memory", message, attempt=record.state.attempt)
        record.update(
            per_device_train_batch_size=smaller.micro,
            gradient_accumulation_steps=smaller.accumulation,
            returncode=ending.returncode,
            worker_pid=None,
            worker_start=None,
        )
        if _stop_is_requested(folder):
            ending = replace(ending, status="stopped", reason="stopped as asked, after it ran out of memory")
            break
        _mark_starting(record)
    _finish(folder, record, ending)


def _batch(folder: RunFolder, state: State) -> out_of_memory_retry.MicroBatch | None:
    """The batch of the last attempt: the config's, or what retries have left of it."""
    if state.per_device_train_batch_size and state.gradient_accumulation_steps:
        return out_of_memory_retry.MicroBatch(state.per_device_train_batch_size, state.gradient_accumulation_steps)
    return out_of_memory_retry.configured(folder)


def _gave_up(ending: Ending, was: out_of_memory_retry.MicroBatch | None) -> Ending:
    even = f" even with a micro-batch of {was.micro}" if was else ""
    return replace(ending, reason=f"out of memory{even}\n{out_of_memory_retry.OUT_OF_MEMORY_ADVICE}")


def _finish(folder: RunFolder, record: StateWriter, ending: Ending) -> None:
    """Record the end first, so that it is known at once, and end leftovers while the lock keeps the devices taken."""
    requests.clear(folder)
    record.update(status=ending.status, reason=ending.reason, returncode=ending.returncode, ended_at=time.time())
    record.event(ending.status, ending.reason or "done", attempt=record.state.attempt, returncode=ending.returncode)
    if ended := ending.end_leftovers():
        record.event("leftovers", "ended what the worker left running", pids=ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
