"""Runs started as `dpo-tui train` starts them, in supervised processes, watched through their folders."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from dpo_tui.config.files import LoadedConfig
from dpo_tui.runs import control_requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_all
from dpo_tui.runs.start_run import resume, start
from dpo_tui.runs.status import status_of
from dpo_tui.start.prepare import create_run, prepare

_POLL = 0.1


def launched(loaded: LoadedConfig, name: str) -> RunFolder:
    """Prepare and start a run."""
    folder = create_run(prepare(loaded, name=name))
    start(folder)
    return folder


def resumed(folder: RunFolder, seconds: float) -> str:
    """Resume a run, wait until its new attempt begins, and return the checkpoint's name.

    Until then the run's state is still that of its last end, and whoever waits for the end would see it at once.

    Raises:
        TimeoutError: no attempt began in time.
    """
    before = _attempts(folder)
    checkpoint = resume(folder).checkpoint
    end = time.monotonic() + seconds
    while _attempts(folder) == before:
        if time.monotonic() > end:
            raise TimeoutError(f"no new attempt {seconds:.0f} s after the run was resumed")
        time.sleep(_POLL)
    return checkpoint.name if checkpoint else "nothing"


def _attempts(folder: RunFolder) -> int:
    state = status_of(folder).state
    return state.attempt if state else 0


def wait_for(folder: RunFolder, what: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true of a run.

    Raises:
        TimeoutError: it was not, in time; the run has been told to stop.
        RuntimeError: the run ended without it.
    """
    end = time.monotonic() + seconds
    while not what():
        status = status_of(folder)
        if status.over and not what():
            raise RuntimeError(f"the run is {status.status}: {status.reason.splitlines()[0] if status.reason else ''}")
        if time.monotonic() > end:
            control_requests.request_stop(folder, now=True)
            raise TimeoutError(f"the run is {status.status} after {seconds:.0f} s: {status.progress}")
        time.sleep(_POLL)


def wait_for_end(folder: RunFolder, seconds: float) -> str:
    """Wait until a run is over; return its status."""
    wait_for(folder, lambda: status_of(folder).over, seconds)
    return status_of(folder).status


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the metrics that a run has written so far."""
    return list(chain.from_iterable(read_all(folder.metrics)))


def outcome(folder: RunFolder) -> Mapping[str, Any]:
    """Return how a run ended, what its first step showed, and what it took."""
    status, written = status_of(folder), lines(folder)
    losses = [line for line in written if "loss" in line]
    state = status.state
    return {
        "status": status.status + (f": {status.reason.splitlines()[0]}" if status.reason else ""),
        "attempts": state.attempt if state else None,
        "steps": losses[-1]["step"] if losses else 0,
        "first_loss": losses[0]["loss"] if losses else None,
        "last_loss": losses[-1]["loss"] if losses else None,
        "accuracy": next((line["eval_rewards/accuracies"] for line in reversed(written) if "eval_loss" in line), None),
        "to_first_step": round(losses[0]["t"] - state.created_at, 1) if losses and state else None,
        "step_seconds": losses[-1].get("step_seconds") if losses else None,
        "peak_gb": max((line.get("vram_peak_gb", 0.0) for line in losses), default=0.0) or None,
        "result": folder.has_result,
    }


def events(folder: RunFolder, kind: str) -> list[str]:
    """Return the messages of one kind that a run's supervisor wrote."""
    written = folder.supervisor_log.read_text(encoding="utf-8").splitlines()
    return [str(event["message"]) for event in map(json.loads, written) if event["kind"] == kind]


@contextmanager
def little_memory(room: int) -> Iterator[None]:
    """Take so much of the GPU's memory that only ``room`` bytes are free for others, as on a smaller card.

    Raises:
        ValueError: fewer are free already.
    """
    import torch

    torch.cuda.init()
    torch.zeros(1, device="cuda")  # this process's own context first
    taken = torch.cuda.mem_get_info()[0] - room
    if taken < 0:
        raise ValueError(f"{room / 1e9:.1f} GB are to be left, {(taken + room) / 1e9:.1f} GB are free")
    ballast = torch.empty(taken, dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del ballast
        torch.cuda.empty_cache()
