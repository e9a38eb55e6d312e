"""The registry of checks: how a check registers itself, and all checks by id.

Adding a check is adding one function to a module of this package, and one row to the table of the tests.
"""

import importlib
from collections.abc import Callable

from dpo_tui.data.checks.check import Check, PairCheck, Severity, WholeCheck

_CHECKS: dict[str, Check] = {}
# The order of this list is the order of bits in stored flags: append, never insert.
_MODULES = ("reading", "contrast", "text", "roles", "repeats", "whole_dataset")


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
