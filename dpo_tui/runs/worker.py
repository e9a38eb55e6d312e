"""One attempt of a run: start the worker, wait, and tell how it ended. Standard library only."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpo_tui.runs import batch, control, leftovers, protocol
from dpo_tui.runs.alarm import Alarm
from dpo_tui.runs.checkpoint import newest_checkpoint
from dpo_tui.runs.devices import give_devices
from dpo_tui.runs.files import lines_from_end, parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import SUPERVISOR_PID_VARIABLE, describe_exit, kernel_oom_kills, process_start
from dpo_tui.runs.record import Record, seconds_from
from dpo_tui.runs.state import State

_GRACE_VARIABLE = "DPO_TUI_STOP_GRACE"
_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL = 0.5
_LAST_WORDS = 300

Asked = Literal["", "stop-now", "terminated"]
"""Why the supervisor itself ended the worker."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Args:
        status: done, stopped or failed.
        reason: why, in words.
        returncode: the worker's, negative for a signal; ``None`` if it could not be started.
        group: its process group, for what it left behind.
        out_of_memory: whether it failed for want of memory on its device, and nobody asked it to end.
    """

    status: Literal["done", "stopped", "failed"]
    reason: str
    returncode: int | None
    group: int | None
    out_of_memory: bool = False


def attempt(folder: RunFolder, record: Record, alarm: Alarm, worker_argv: list[str]) -> Ending:
    """Run the worker once; the state becomes ``running`` with its pid, and ``stopping`` when someone asks.

    Args:
        folder: the run, at ``starting``.
        record: where the supervisor writes.
        alarm: wakes on the worker's end and on signals.
        worker_argv: the worker's command.
    """
    events_before, log_before = _size(folder.events), _size(folder.train_log)
    oom_before = kernel_oom_kills()
    try:
        with open(folder.train_log, "ab") as log:
            process = subprocess.Popen(
                worker_argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                env=worker_environment(record.state),
            )
    except OSError as error:
        return Ending("failed", f"the worker could not be started: {error}", None, None)
    record.update(status="running", worker_pid=process.pid, worker_start=process_start(process.pid))
    record.event("started", f"attempt {record.state.attempt} started", attempt=record.state.attempt, pid=process.pid)
    returncode, asked = _wait(folder, record, alarm, process.pid)
    process.returncode = returncode  # collected by `_wait`, with whatever else ended

    if returncode == protocol.DONE:
        return Ending("done", "", returncode, process.pid)
    if asked or returncode == protocol.STOPPED:
        return Ending("stopped", _stopped_reason(folder, asked), returncode, process.pid)
    reason = _told_reason(folder, events_before)
    if returncode == protocol.OUT_OF_MEMORY:
        return Ending("failed", reason or "out of memory", returncode, process.pid, out_of_memory=True)
    if not reason:
        oom_after = kernel_oom_kills()
        killed = None if oom_before is None or oom_after is None else oom_after > oom_before
        reason = describe_exit(returncode, out_of_memory=killed)
        if returncode > 0 and (words := _last_words(folder.train_log, log_before)):
            reason = f"{reason}; its last words: {words}"
    return Ending("failed", reason, returncode, process.pid)


def worker_environment(state: State) -> dict[str, str]:
    """The worker's environment: this one, with its devices, its supervisor, and its batch if that has shrunk."""
    environment = dict(os.environ)
    environment["PYTHONUNBUFFERED"] = "1"
    # Torch's CPU threads spin while they wait for each other; on cores shared with anything else they spin for the time
    # that the other thread would need. Sleeping instead was 8 to 10 times as fast on two busy cores.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment[SUPERVISOR_PID_VARIABLE] = str(os.getpid())
    give_devices(environment, state.devices)
    for variable, value in (
        (batch.MICRO_BATCH_VARIABLE, state.per_device_train_batch_size),
        (batch.ACCUMULATION_VARIABLE, state.gradient_accumulation_steps),
    ):
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = str(value)
    return environment


def _wait(folder: RunFolder, record: Record, alarm: Alarm, pid: int) -> tuple[int, Asked]:
    """Wait for the worker's end, and act on requests to stop meanwhile."""
    asked: Asked = ""
    kill_at: float | None = None
    while True:
        ended = leftovers.reap()  # orphans that became ours, too
        if pid in ended:
            return ended[pid], asked
        if asked != "stop-now" and control.is_requested(folder, control.STOP_NOW):
            asked = "stop-now"
            _note_stopping(record, "asked to stop at once")
            with suppress(OSError):
                os.killpg(pid, signal.SIGTERM)
            kill_at = time.monotonic() + _grace()
        elif not asked and alarm.terminated:
            asked = "terminated"
            _note_stopping(record, "the supervisor was asked to end")
            # The worker alone: its data-loader processes must live for it to save.
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
            kill_at = time.monotonic() + _grace()
        elif record.state.status == "running" and control.is_requested(folder, control.STOP):
            _note_stopping(record, "asked to stop: it saves a checkpoint at its next step")
        if kill_at is not None and time.monotonic() >= kill_at:
            record.event("killing", f"the worker did not end within {_grace():g} s of SIGTERM: SIGKILL")
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            kill_at = None
        record.flush()
        alarm.wait(_POLL if kill_at is None else min(_POLL, kill_at - time.monotonic()))


def _note_stopping(record: Record, reason: str) -> None:
    record.update(status="stopping", reason=reason)
    record.event("stopping", reason)


def _stopped_reason(folder: RunFolder, asked: Asked) -> str:
    newest = newest_checkpoint(folder)
    saved = f"{newest.name} is saved" if newest else "it had saved no checkpoint yet"
    if asked == "stop-now":
        return f"stopped at once, as asked; {saved}"
    if asked == "terminated":
        return f"stopped because its supervisor was asked to end, as when the box shuts down; {saved}"
    return f"stopped as asked; {saved}"


def _told_reason(folder: RunFolder, offset: int) -> str:
    """What the worker itself wrote about its failure, in this attempt: message, and hint on a second line."""
    for line in _lines_since(folder.events, offset):
        event = parse_line(line) if b"failed" in line else None
        if event is not None and event.get("kind") == "failed" and event.get("message"):
            hint = event.get("hint")
            return f"{event['message']}\n{hint}" if hint else str(event["message"])
    return ""


def _last_words(log: Path, offset: int) -> str:
    for line in _lines_since(log, offset):
        if words := line.decode("utf-8", "replace").strip():
            return words[:_LAST_WORDS]
    return ""


def _lines_since(path: Path, offset: int) -> Iterator[bytes]:
    """The lines that were added after a file had this size, newest first."""
    # One byte more: the line feed before them tells that the first of them is whole.
    return lines_from_end(path, _size(path) - offset + 1)


def _grace() -> float:
    return seconds_from(_GRACE_VARIABLE, _GRACE)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
