"""A kind of fault, and the registry of all kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Injection = Callable[[Any], None]
"""Takes the `Stage` of one fault: sets it up, does the damage, and calls the checks."""


@dataclass(frozen=True)
class FaultKind:
    """One kind of fault.

    Args:
        name: as results and tables name it.
        what: what is done, as a table says it.
        inject: does it once.
        real: whether a real torch worker trains; such kinds follow one another in one run (`real_training`).
        short: whether a sample of it is in the short form that the tests run.
        times: how often it is injected in the whole campaign.
    """

    name: str
    what: str
    inject: Injection
    real: bool = False
    short: bool = False
    times: int = 20


KINDS: dict[str, FaultKind] = {}
"""All kinds, by name, in the order in which their modules are imported."""


def fault_kind(name: str, what: str, **more: Any) -> Callable[[Injection], Injection]:
    """Register a function as the injection of a kind of fault."""

    def register(inject: Injection) -> Injection:
        if name in KINDS:
            raise ValueError(f"two kinds of fault are called {name}")
        KINDS[name] = FaultKind(name, what, inject, **more)
        return inject

    return register
