"""The registry of checks.

There are three kinds, by what they look at. A *reading* check has no function: the reader itself finds it, and the row
cannot be used. A *pair* check is a function of a batch that returns the indexes of the pairs it names. A *whole* check
is a function of the finished counts. Adding a check is adding one function, and one row to the table of the tests.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dpo_tui.data.checks.batch import Batch
    from dpo_tui.data.totals import Totals

Severity = Literal["error", "warning", "info"]
PairCheck = Callable[["Batch"], Iterable[int]]
WholeCheck = Callable[["Totals"], "Finding | None"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a whole check found.

    Args:
        count: how many pairs it is about.
        detail: the figures, in words.
    """

    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Args:
        id: its name everywhere: in reports, on the command line, in the docs.
        severity: ``error`` if training leaves the row out, ``warning`` if it probably harms, ``info`` if it may be
            meant.
        title: what is wrong, for one line of a report.
        explanation: why that matters for DPO.
        remedy: what to do.
        bit: its place in the flags of a row.
        pair: the function of a pair check.
        whole: the function of a whole check.
    """

    id: str
    severity: Severity
    title: str
    explanation: str
    remedy: str
    bit: int
    pair: PairCheck | None = None
    whole: WholeCheck | None = None


_CHECKS: dict[str, Check] = {}
# The order of this list is the order of bits in stored flags: append, never insert.
_MODULES = ("reading", "contrast", "text", "roles", "repeats", "whole")


def reading(identity: str, severity: Severity, *, title: str, explanation: str, remedy: str) -> Check:
    """Register a check that the reader, or the search for repeated rows, carries out itself."""
    check = Check(identity, severity, title, explanation, remedy, len(_CHECKS))
    _CHECKS[identity] = check
    return check


def pair(
    identity: str, severity: Severity, *, title: str, explanation: str, remedy: str
) -> Callable[[PairCheck], PairCheck]:
    """Register a function of a batch as a check."""

    def register(function: PairCheck) -> PairCheck:
        _CHECKS[identity] = Check(identity, severity, title, explanation, remedy, len(_CHECKS), pair=function)
        return function

    return register


def whole(
    identity: str, severity: Severity, *, title: str, explanation: str, remedy: str
) -> Callable[[WholeCheck], WholeCheck]:
    """Register a function of the finished counts as a check."""

    def register(function: WholeCheck) -> WholeCheck:
        _CHECKS[identity] = Check(identity, severity, title, explanation, remedy, len(_CHECKS), whole=function)
        return function

    return register


def checks() -> dict[str, Check]:
    """All checks by id, in the order of their modules."""
    for module in _MODULES:
        importlib.import_module(f"dpo_tui.data.checks.{module}")
    return _CHECKS
