"""Whose turn it is: runs that want the same device go in order. This is the whole queue. Standard library only.

There is no daemon: each waiting supervisor looks at the other runs' files and locks. One lock makes looking and
starting a single act, so that two never start at once.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dpo_tui.errors import RunError
from dpo_tui.runs import lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.store import runs_in

_LOCK = ".turn.lock"
_POLL = 0.02


@dataclass(frozen=True)
class Blocker:
    """What a run waits for.

    Args:
        folder: the run in the way.
        reason: why, in words.
    """

    folder: RunFolder
    reason: str


@contextmanager
def deciding(folder: RunFolder) -> Iterator[None]:
    """Hold the home's decision lock: who finds the way free inside, and says so in its state, has the device."""
    path = folder.path.with_name(_LOCK)
    while not lock.acquire(path):
        time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release(path)


def blocker(folder: RunFolder, state: State) -> Blocker | None:
    """Find a run that this one has to wait for.

    Args:
        folder: the waiting run, whose lock this process holds.
        state: its state.

    Returns:
        The run that it comes ``after`` if that one has not ended, in whatever way; or a run on this machine that has
        one of its devices, or waited longer for it; or ``None``: it is this run's turn.
    """
    if state.after and state.after != folder.id and (found := _predecessor(folder, state.after)):
        return found
    if not state.devices:
        return None
    for other in runs_in(folder.path.parent):
        if other.id != folder.id and (found := _competitor(other, state)):
            return found
    return None


def still_blocks(found: Blocker, folder: RunFolder, state: State) -> bool:
    """Whether a known blocker is still in the way: cheaper than to look at all runs again."""
    if found.folder.id == state.after:
        return _predecessor(folder, state.after) is not None
    return _competitor(found.folder, state) is not None


def _predecessor(folder: RunFolder, run_id: str) -> Blocker | None:
    other = RunFolder(folder.path.with_name(run_id))
    if not other.path.is_dir():
        return None  # removed
    try:
        if status_of(other).over:
            return None
    except RunError:
        return None  # of a newer version: not for us to judge, so not to wait for either
    return Blocker(other, f"waits for run {_called(other)} to end")


def _competitor(other: RunFolder, state: State) -> Blocker | None:
    try:
        theirs = read_state(other)
    except RunError:
        return None
    if theirs is None or theirs.boot_id != state.boot_id:
        return None  # another machine's devices are others, whatever their names
    shared = sorted(set(theirs.devices) & set(state.devices))
    if not shared:
        return None
    device = ", ".join(shared)
    if lock.owner(other.lock) is None:
        # Nobody looks after it, but the worker of a killed supervisor holds its device until it has saved.
        if not is_same_process(theirs.worker_pid, theirs.worker_start):
            return None
    elif theirs.status == "queued":
        waited_longer = (theirs.queued_at, theirs.id) < (state.queued_at, state.id)
        if not waited_longer or (theirs.after and _predecessor(other, theirs.after)):
            return None
        return Blocker(other, f"waits for {device}: run {_called(other)} is first in line")
    # An ended run with its lock held is ending its leftovers, which may hold the device's memory.
    return Blocker(other, f"waits for {device}, in use by run {_called(other)}")


def _called(folder: RunFolder) -> str:
    state = read_state(folder)
    return f"{folder.id} ({state.name})" if state and state.name else folder.id
