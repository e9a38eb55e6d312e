"""The queue: runs that need the same devices run one after the other, in order. Standard library only.

There is no daemon: each waiting supervisor reads the other runs' states and locks. One lock covers both the decision
and its recording, so that two runs never take the same device.

The order is by ``queued_at``, unless the user has moved a run (`dpo_tui.runs.queue_place`). A run that waits for its
``after`` run, or is paused, is overtaken by later ones meanwhile. No other run is overtaken: devices that an earlier
run would take now are not free for a later one.
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
from dpo_tui.runs.queue_place import Place, is_paused, place_of
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.store import runs_in

# An older dpo-tui may queue runs in the same home: both must lock the same file, so its name cannot change.
_LOCK = ".turn.lock"
_POLL = 0.02


@dataclass(frozen=True)
class Claim:
    """Devices that another run holds, or is to get before this one.

    Args:
        folder: that run.
        devices: by name; empty for a queued run whose devices are not chosen yet.
        request: what such a run asks for.
        place: its sort key in the queue, time and id, if it is still queued; None for a run that holds its devices.
    """

    folder: RunFolder
    devices: tuple[str, ...]
    request: DeviceRequest | None
    place: Place | None


@dataclass(frozen=True)
class Wait:
    """The decision that a run must wait.

    Args:
        run: the run that blocks it, or the first of several.
        reason: why, as a sentence for the user.
        claims: those of the blocking runs at the time of the decision; empty when it waits for its ``after`` run.
        memory: whether a device is free on which other programs use too much memory. They may free it at any time, and
            no run's file will show that.
        paused: whether it waits because the user paused it; ``run`` is then the run itself.
    """

    run: RunFolder
    reason: str
    claims: tuple[Claim, ...] = ()
    memory: bool = False
    paused: bool = False


@dataclass(frozen=True)
class Allocation:
    """The decision that a run may start, with these devices."""

    devices: tuple[str, ...]


@contextmanager
def scheduling_lock(folder: RunFolder, give_up: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[bool]:
    """Hold the lock of a home's queue, under which a supervisor decides and records its decision.

    Args:
        folder: a run of that home.
        give_up: called while another process has the lock; true ends the wait.
        sleep: called between two attempts, with seconds.

    Yields:
        Whether the lock is held; false when the caller gave up.
    """
    path = folder.path.with_name(_LOCK)
    # Polled, without F_SETLKW: Python restarts a blocking call after a signal (PEP 475), so a supervisor that is asked
    # to end while it waits would wait on.
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

    A paused run waits. Another one first waits for its ``after`` run to end in any way. Then a run that names its
    devices waits for all of them; a run with a request takes those with the most free memory among the candidates that
    no run has. A candidate on which other programs leave too little memory is skipped while another candidate is held
    by a run, which will free it; else it is taken, since nothing is known to become free.

    Args:
        folder: the run, whose lock this process holds.
        state: its state.
        machine: the devices as the driver describes them; without them the request's order counts, and devices are the
            same only if their names are.
    """
    if is_paused(folder):
        return Wait(folder, f"paused; `dpo-tui queue unpause {folder.id}` lets it start", paused=True)
    if state.after and state.after != folder.id and (previous := _predecessor(folder, state.after)):
        return Wait(previous, f"waits for run {_label(previous)} to end")
    request = state.device_request
    if not state.devices and request is None:
        return Allocation(())
    claims = _claims(folder, state)
    taken = _taken(claims, machine)
    if request is None:
        return _decide_named(state, claims, taken, machine)
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


def still_waits(wait: Wait, folder: RunFolder, state: State) -> bool:
    """Whether nothing has changed for a waiting run; cheaper than a new decision, which reads all runs."""
    if is_paused(folder) != wait.paused:
        return False
    if wait.paused:
        return True
    if not wait.claims:
        return _predecessor(folder, wait.run.id) is not None
    # A claim changes when its run ends, is lost, leaves the queue or is queued anew: each may free what this run waits
    # for.
    mine = place_of(folder, state)
    return all(_claim(claim.folder, state, mine) == claim for claim in wait.claims)


def needs_machine(folder: RunFolder, state: State) -> bool:
    """Whether a decision needs the driver's list of devices.

    It does for choosing among candidates, and for comparing a UUID with a number: both may name the same card.
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
        claim = _claim(other, asking, (0.0, ""))
        if claim is not None and claim.place is None:
            held |= dict.fromkeys(claim.devices, other)
    return held


def _decide_named(
    state: State, claims: list[Claim], taken: dict[str, tuple[str, ...]], machine: Machine
) -> Allocation | Wait:
    for claim in claims:
        shared = _shared(state.devices, taken[claim.folder.id], machine)
        if shared:
            device, run = ", ".join(sorted(shared)), _label(claim.folder)
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
    reason = f"waits for {request.description} of {len(request.candidates)}"
    if holding:
        reason += f", in use by run {_label(first.folder)}{others}"
    else:
        reason += f": run {_label(first.folder)}{others} {'are' if more else 'is'} first in line"
    if crowded:
        reason += f"; others leave too little memory on {', '.join(crowded)}"
    return reason


def _claims(folder: RunFolder, state: State) -> list[Claim]:
    """The claims of all other runs that hold devices or come before this one in the queue; newest first."""
    mine = place_of(folder, state)
    found = (_claim(other, state, mine) for other in runs_in(folder.path.parent) if other.id != folder.id)
    return [claim for claim in found if claim is not None]


def _taken(claims: list[Claim], machine: Machine) -> dict[str, tuple[str, ...]]:
    """Devices that each claim takes: those of running runs, and those that earlier runs in the queue would take now.

    A run that needs more devices than are free reserves the free ones; otherwise later runs could starve it.
    """
    taken = {claim.folder.id: claim.devices for claim in claims}
    # In the order of the queue, since what the first would take is not free for the second. Every supervisor computes
    # the same from the same files, so that all agree without talking to each other.
    for claim in sorted((one for one in claims if one.place is not None), key=lambda one: one.place or (0.0, "")):
        if claim.request is not None:
            free = machine.free(claim.request, [name for names in taken.values() for name in names])
            roomy = [name for name in free if machine.has_room(name, claim.request)]
            taken[claim.folder.id] = tuple(roomy[: claim.request.count])
    return taken


def _claim(other: RunFolder, state: State, mine: Place) -> Claim | None:
    """The claim of another run against the run of this state and place; None if it does not block that run."""
    try:
        theirs = read_state(other)
    except RunError:
        # Written by a newer version, or wrong: its devices cannot be read, and waiting for it might never end.
        return None
    if theirs is None or theirs.boot_id != state.boot_id:
        return None  # of another machine: its devices are not ours, though they have the same names
    if not theirs.devices and theirs.device_request is None:
        return None
    holds = Claim(other, tuple(theirs.devices), None, None)
    # The lock and not the status says whether there is a supervisor: one that was killed leaves its last status in the
    # file for ever. A queued run without one is in nobody's way, since nothing would start it.
    if run_lock.owner(other.lock) is None:
        # It has no supervisor, but the worker of a killed supervisor holds its devices until it has saved.
        return holds if is_same_process(theirs.worker_pid, theirs.worker_start) else None
    if theirs.status != "queued":
        # An ended run whose lock is held is ending leftover processes, which may hold the device's memory.
        return holds
    # With the id, so that any two runs agree which of them is first, also if they were queued at the same moment.
    place = place_of(other, theirs)
    if place >= mine or is_paused(other) or (theirs.after and _predecessor(other, theirs.after)):
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
        return None  # written by a newer version, or wrong: its state cannot be read, so it cannot be waited for
    return other


def _label(folder: RunFolder) -> str:
    try:
        state = read_state(folder)
    except RunError:
        return folder.id  # readable when it was decided about, and no longer
    return f"{folder.id} ({state.name})" if state and state.name else folder.id
