"""Which faults a campaign has, in which order, and which are left."""

import random
from collections.abc import Collection, Iterator

from benchmarks.fault_kinds.kind import KINDS
from benchmarks.fault_kinds.session import Session


def sessions(seed: int, chosen: Collection[str] = (), times: int | None = None) -> list[Session]:
    """All sessions of a campaign, mixed by the seed. A fault keeps its key when kinds are added.

    Args:
        seed: of the campaign.
        chosen: names of kinds; all by default.
        times: how often each kind is injected; its own number by default.
    """
    kinds = [kind for kind in KINDS.values() if not chosen or kind.name in chosen]
    single = [
        Session((f"{kind.name}/{index}",))
        for kind in kinds
        if not kind.real
        for index in range(kind.times if times is None else times)
    ]
    random.Random(seed).shuffle(single)
    return _mixed(single, list(_real_sessions(seed, chosen, times)))


def _real_sessions(seed: int, chosen: Collection[str], times: int | None) -> Iterator[Session]:
    """Each real run has one fault of every real kind, in an order of its own."""
    # In the order of all real kinds, whichever are chosen: a fault then meets the run in the same state.
    real = [kind for kind in KINDS.values() if kind.real]
    for index in range(max((kind.times for kind in real), default=0) if times is None else times):
        order = [kind.name for kind in real]
        random.Random(f"{seed}:real:{index}").shuffle(order)
        keys = tuple(f"{name}/{index}" for name in order if not chosen or name in chosen)
        if keys:
            yield Session(keys)


def _mixed(first: list[Session], second: list[Session]) -> list[Session]:
    """The second list spread evenly over the first: a campaign that is interrupted has some of everything."""
    mixed = list(first)
    for index, session in enumerate(second):
        mixed.insert(round((index + 1) * (len(first) / (len(second) + 1))) + index, session)
    return mixed


def session_of(key: str, seed: int) -> Session:
    """What must be done to see one fault again: in a real run, those before it in the same run as well.

    Raises:
        ValueError: there is no such fault.
    """
    name, _, index = key.rpartition("/")
    if name not in KINDS or not index.isdigit():
        raise ValueError(f"there is no fault {key}; a fault is called KIND/NUMBER, such as kill-worker/3")
    if not KINDS[name].real:
        return Session((key,))
    for session in _real_sessions(seed, (), int(index) + 1):
        if key in session.keys:
            return Session(session.keys[: session.keys.index(key) + 1])
    raise ValueError(f"there is no fault {key}")
