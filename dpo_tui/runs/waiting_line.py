"""The waiting runs in their order, and what a user may do with one: first, last, pause, unpause. Standard library only.

Changes are made under the queue's lock, as decisions are: a run that is paused or moved there either waits still, and
will follow it, or has started, and is refused.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpo_tui.errors import HomeError, RunError
from dpo_tui.runs import control_requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.queue import scheduling_lock
from dpo_tui.runs.queue_place import is_paused, place_of, write_place
from dpo_tui.runs.state import State
from dpo_tui.runs.status import Status, status_of
from dpo_tui.runs.store import runs_in

_LOCK_DEADLINE = 10.0
"""Seconds to wait for the queue's lock, which supervisors hold for milliseconds."""


@dataclass(frozen=True)
class WaitingRun:
    """A run that waits.

    Args:
        folder: the run.
        status: its status, with the reason why it waits.
        state: its state.
        paused: whether the user paused it.
    """

    folder: RunFolder
    status: Status
    state: State
    paused: bool


def waiting_runs(home: Path) -> list[WaitingRun]:
    """The runs that wait, in the order in which they get their devices; jobs, which Slurm orders, come last.

    Args:
        home: the folder of runs.
    """
    found = [run for folder in runs_in(home) if (run := _waiting(folder)) is not None]
    return sorted(found, key=lambda run: (run.state.launcher == "slurm", place_of(run.folder, run.state)))


def move(folder: RunFolder, to: Literal["first", "last"]) -> None:
    """Move a waiting run to the head or the end of the queue.

    Raises:
        RunError: it does not wait here, or its folder cannot be written.
    """
    with _lock(folder):
        run = _require_waiting(folder, "moved")
        others = [one for one in waiting_runs(folder.path.parent) if one.folder.id != folder.id]
        places = [place_of(one.folder, one.state)[0] for one in others if one.state.launcher != "slurm"]
        if to == "first":
            place = min([run.state.queued_at, *(one - 1.0 for one in places)])
        else:
            # Not in the future, or runs that are queued from now on would overtake it.
            place = max([time.time(), *(one + 0.001 for one in places)])
        try:
            write_place(folder, run.state, place)
        except OSError as error:
            raise RunError(f"run {folder.id} cannot be moved: {error.strerror or error}") from error


def pause(folder: RunFolder) -> None:
    """Keep a waiting run from starting; later runs overtake it meanwhile.

    Raises:
        RunError: it does not wait here, or its folder cannot be written.
    """
    with _lock(folder):
        _require_waiting(folder, "paused")
        control_requests.request_pause(folder)


def unpause(folder: RunFolder) -> bool:
    """Let a paused run start when its turn comes, at the place that it had.

    Returns:
        Whether it was paused.
    """
    paused = is_paused(folder)
    control_requests.clear(folder, control_requests.PAUSE)
    return paused


def drop(folder: RunFolder) -> None:
    """Take a waiting run out of the queue; it is stopped, and `resume` queues it again.

    Raises:
        RunError: it does not wait.
    """
    if (run := _waiting(folder)) is None:
        raise _not_waiting(folder, "dropped")
    with _lock(folder):
        # Under the lock, or it might start between the look and the request, and lose its steps.
        if run.state.launcher != "slurm":
            _require_waiting(folder, "dropped")
        control_requests.request_stop(folder, reason="dropped from the queue")


@contextmanager
def _lock(folder: RunFolder) -> Iterator[None]:
    deadline = time.monotonic() + _LOCK_DEADLINE
    with scheduling_lock(folder, lambda: time.monotonic() > deadline, time.sleep) as held:
        if not held:
            raise HomeError(
                f"the queue's lock is held by another process for {_LOCK_DEADLINE:.0f} s",
                hint="Try again; if it stays so, a supervisor hangs: `dpo-tui runs` shows which.",
            )
        yield


def _waiting(folder: RunFolder) -> WaitingRun | None:
    try:
        status = status_of(folder)
    except RunError:
        return None
    if status.status != "queued" or status.state is None:
        return None
    return WaitingRun(folder, status, status.state, is_paused(folder))


def _require_waiting(folder: RunFolder, action: str) -> WaitingRun:
    run = _waiting(folder)
    if run is None:
        raise _not_waiting(folder, action)
    if run.state.launcher == "slurm":
        raise RunError(
            f"run {folder.id} waits in Slurm's queue, which orders its jobs itself: it cannot be {action} here",
            hint="`scontrol top`, `scontrol hold` and `scontrol release` act on the job.",
        )
    return run


def _not_waiting(folder: RunFolder, action: str) -> RunError:
    return RunError(
        f"run {folder.id} is {status_of(folder).status}: only a run that waits can be {action}",
        hint="`dpo-tui queue` lists those that wait.",
    )
