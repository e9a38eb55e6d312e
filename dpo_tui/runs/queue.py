"""The queue: runs that want the same devices go one after the other, in order. Standard library only.

There is no daemon: each waiting supervisor reads the other runs' states and locks. One lock makes deciding and
recording the decision a single act, so that two runs never take one device.

The order is that in which runs got in line (`queued_at`). A run that waits for ``after`` is passed by younger ones
until that run has ended. Nobody else is passed: what an older run would take now is not free for a younger one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.runs import run_lock
from dpo_tui.runs.devices import DeviceRequest, Machine, is_number
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import boot_id, is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.store import runs_in

# An older dpo-tui may queue runs in the same home: the name of the lock file is part of the contract between the two.
_LOCK = ".turn.lock"
_POLL = 0.02


@dataclass(frozen=True)
class Claim:
    """What another run holds, or may have before this one.

    Args:
        folder: that run.
        devices: by name; empty for a queued run whose devices are not chosen yet.
        request: what such a run asks for.
        place: when it got in line, if it is still queued; None for a run that holds its devices.
    """

    folder: RunFolder
    devices: tuple[str, ...]
    request: DeviceRequest | None
    place: tuple[float, str] | None


@dataclass(frozen=True)
class Wait:
    """It is not this run's turn.

    Args:
        run: the run in the way, or the first of several.
        reason: why, in words.
        claims: of the runs in the way, as they were; empty when it waits for the run that it comes ``after``.
        memory: whether a device is free for which others (no runs of ours) leave too little memory. They may let go of
            it at any time, and no run's file will say so.
    """

    run: RunFolder
    reason: str
    claims: tuple[Claim, ...] = ()
    memory: bool = False


@dataclass(frozen=True)
class Allocation:
    """It is this run's turn, with these devices."""

    devices: tuple[str, ...]


@contextmanager
def scheduling_lock(folder: RunFolder, give_up: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[bool]:
    """Hold the lock of a home's queue: whoever decides under it and records the decision has the devices.

    Args:
        folder: a run of that home.
        give_up: asked while another process has the lock; true ends the wait.
        sleep: how to wait in between.

    Yields:
        Whether the lock is held; false when the caller gave up.
    """
    path = folder.path.with_name(_LOCK)
    while not run_lock.acquire(path):
        if give_up():
            yield False
            return
        sleep(_POLL)
    try:
        yield True
    finally:
        run_lock.release(path)


def decide(folder: RunFolder, state: State, machine: Machine) -> Allocation | Wait:
    """Decide whether a queued run may start, and on which devices.

    It waits for the run that it comes ``after`` to end in any way. Then a run that names its devices waits for all of
    them; a run with a request takes those with the most free memory among the candidates that nobody has. A candidate
    on which others leave too little memory is passed over as long as another one is held by a run, which will free it;
    else it is taken, since to wait would help nobody.

    Args:
        folder: the run, whose lock this process holds.
        state: its state.
        machine: what the driver says; without it the candidates count in the request's order, and names are compared as
            they are.
    """
    if state.after and state.after != folder.id and (previous := _predecessor(folder, state.after)):
        return Wait(previous, f"waits for run {_called(previous)} to end")
    request = state.device_request
    if not state.devices and request is None:
        return Allocation(())
    claims = _claims(folder, state)
    taken = _taken(claims, machine)
    if request is None:
        return _named(state, claims, taken, machine)
    free = machine.free(request, [name for names in taken.values() for name in names])
    roomy = [name for name in free if machine.has_room(name, request)]
    if len(roomy) >= request.count:
        return Allocation(tuple(roomy[: request.count]))
    in_the_way = tuple(claim for claim in claims if _shared(request.candidates, taken[claim.folder.id], machine))
    if not in_the_way:
        return Allocation(tuple(free[: request.count]))
    return Wait(
        in_the_way[0].folder,
        _reason(request, in_the_way, crowded=[name for name in free if name not in roomy]),
        in_the_way,
        memory=len(free) > len(roomy),
    )


def still_waits(found: Wait, folder: RunFolder, state: State) -> bool:
    """Whether nothing has changed for a waiting run: cheaper than to look at all runs again."""
    if not found.claims:
        return _predecessor(folder, found.run.id) is not None
    return all(_claim(claim.folder, state) == claim for claim in found.claims)


def needs_machine(folder: RunFolder, state: State) -> bool:
    """Whether a decision needs to know what the driver says.

    It does to choose among candidates, and to compare a UUID with a number: both may name the same card.
    """
    if state.device_request is not None:
        return True
    if not state.devices:
        return False
    names = [*state.devices, *(name for claim in _claims(folder, state) for name in claim.devices)]
    return not all(is_number(name) for name in names)


def devices_in_use(home: Path) -> dict[str, RunFolder]:
    """The devices that live runs of this machine hold, each with its run.

    Args:
        home: the folder of runs.
    """
    asking = State(id="", name="", boot_id=boot_id())
    held: dict[str, RunFolder] = {}
    for other in runs_in(home):
        claim = _claim(other, asking)
        if claim is not None and claim.place is None:
            held |= dict.fromkeys(claim.devices, other)
    return held


def _named(state: State, claims: list[Claim], taken: dict[str, tuple[str, ...]], machine: Machine) -> Allocation | Wait:
    for claim in claims:
        shared = _shared(state.devices, taken[claim.folder.id], machine)
        if shared:
            device, run = ", ".join(sorted(shared)), _called(claim.folder)
            if claim.place is not None:
                return Wait(claim.folder, f"waits for {device}: run {run} is first in line", (claim,))
            return Wait(claim.folder, f"waits for {device}, in use by run {run}", (claim,))
    return Allocation(tuple(state.devices))


def _shared(mine: tuple[str, ...] | list[str], theirs: tuple[str, ...], machine: Machine) -> list[str]:
    return [name for name in mine if any(machine.same(name, other) for other in theirs)]


def _reason(request: DeviceRequest, in_the_way: tuple[Claim, ...], crowded: list[str]) -> str:
    holding = [claim for claim in in_the_way if claim.place is None]
    first = (holding or in_the_way)[0]
    more = len(holding or in_the_way) - 1
    others = f" and {more} more" if more else ""
    words = f"waits for {request.description} of {len(request.candidates)}"
    if holding:
        words += f", in use by run {_called(first.folder)}{others}"
    else:
        words += f": run {_called(first.folder)}{others} {'are' if more else 'is'} first in line"
    if crowded:
        words += f"; others leave too little memory on {', '.join(crowded)}"
    return words


def _claims(folder: RunFolder, state: State) -> list[Claim]:
    """Every other run that holds devices, or stands before this one in line; newest first."""
    found = (_claim(other, state) for other in runs_in(folder.path.parent) if other.id != folder.id)
    return [claim for claim in found if claim is not None]


def _taken(claims: list[Claim], machine: Machine) -> dict[str, tuple[str, ...]]:
    """What each claim takes away: the devices of running runs, and what those before us in line would take now.

    A run that needs more devices than are free keeps the free ones reserved, so that it gets them all some time.
    """
    taken = {claim.folder.id: claim.devices for claim in claims}
    for claim in sorted((one for one in claims if one.place is not None), key=lambda one: one.place or (0.0, "")):
        if claim.request is not None:
            free = machine.free(claim.request, [name for names in taken.values() for name in names])
            roomy = [name for name in free if machine.has_room(name, claim.request)]
            taken[claim.folder.id] = tuple(roomy[: claim.request.count])
    return taken


def _claim(other: RunFolder, state: State) -> Claim | None:
    """What another run holds, or may have before the run of this state; None if it is not in anyone's way."""
    try:
        theirs = read_state(other)
    except RunError:
        return None
    if theirs is None or theirs.boot_id != state.boot_id:
        return None  # another machine's devices are others, whatever their names
    if not theirs.devices and theirs.device_request is None:
        return None
    holds = Claim(other, tuple(theirs.devices), None, None)
    if run_lock.owner(other.lock) is None:
        # Nobody looks after it, but the worker of a killed supervisor holds its device until it has saved.
        return holds if is_same_process(theirs.worker_pid, theirs.worker_start) else None
    if theirs.status != "queued":
        # An ended run with its lock held is ending its leftovers, which may hold the device's memory.
        return holds
    place = (theirs.queued_at, theirs.id)
    if place >= (state.queued_at, state.id) or (theirs.after and _predecessor(other, theirs.after)):
        return None
    return Claim(other, tuple(theirs.devices), theirs.device_request, place)


def _predecessor(folder: RunFolder, run_id: str) -> RunFolder | None:
    other = RunFolder(folder.path.with_name(run_id))
    if not other.path.is_dir():
        return None  # removed
    try:
        if status_of(other).over:
            return None
    except RunError:
        return None  # of a newer version: not for us to judge, so not to wait for either
    return other


def _called(folder: RunFolder) -> str:
    state = read_state(folder)
    return f"{folder.id} ({state.name})" if state and state.name else folder.id
