"""The registry of checks: the decorators that register one, and all checks by id.

To add a check, add one function to a module of this package, decorated with :func:`pair_check` or
:func:`dataset_check` and with the next free bit. Reports, ``--drop`` and the data screen find it here by themselves. A
row in the table of ``docs/data.md`` and one in the tests' table, which both are held to all checks, complete it.
"""

import importlib
from collections.abc import Callable

from dpo_tui.data.checks.check import Check, DatasetCheck, PairCheck, Severity

HIGHEST_BIT = 30
"""Flags of rows are 32 bits wide, and the last bit marks blank lines."""
_MODULES = ("unusable_and_duplicate_rows", "contrast", "text_content", "double_encoding", "whole_dataset")
_CHECKS: dict[str, Check] = {}
_RETIRED_BITS = {22}
"""Bits of checks that are no more: the flags of datasets that were scanned with them are stored."""


def scan_check(
    identity: str,
    severity: Severity,
    *,
    bit: int,
    title: str,
    explanation: str,
    remedy: str,
    leaves_out: bool = False,
    in_app: str = "",
) -> None:
    """Register a check that the scan itself carries out."""
    _register(Check(identity, severity, title, explanation, remedy, bit, leaves_out=leaves_out, in_app=in_app))


def pair_check(
    identity: str, severity: Severity, *, bit: int, title: str, explanation: str, remedy: str, in_app: str = ""
) -> Callable[[PairCheck], PairCheck]:
    """Register a function of a batch of pairs as a check.

    Args:
        identity: its name in reports, on the command line and in the docs.
        severity: see :class:`~dpo_tui.data.checks.check.Check`, as for the other texts.
        bit: the next bit that no check has. It stays: the flags of scanned datasets are stored.
        title: what is wrong, for one line of a report.
        explanation: why that matters for DPO.
        remedy: what to do.
        in_app: what to do in the app, where ``remedy`` names options of the command line.

    Raises:
        ValueError: another check has the id or the bit, or the bit does not fit into the flags.
    """

    def register(function: PairCheck) -> PairCheck:
        _register(Check(identity, severity, title, explanation, remedy, bit, find_pairs=function, in_app=in_app))
        return function

    return register


def dataset_check(
    identity: str, severity: Severity, *, bit: int, title: str, explanation: str, remedy: str
) -> Callable[[DatasetCheck], DatasetCheck]:
    """Register a function of the finished counts as a check; the arguments are those of :func:`pair_check`."""

    def register(function: DatasetCheck) -> DatasetCheck:
        _register(Check(identity, severity, title, explanation, remedy, bit, judge_dataset=function))
        return function

    return register


def checks() -> dict[str, Check]:
    """All checks by id, in the order of their bits."""
    for module in _MODULES:
        importlib.import_module(f"dpo_tui.data.checks.{module}")
    return {check.id: check for check in sorted(_CHECKS.values(), key=lambda check: check.bit)}


def _register(check: Check) -> None:
    if not 0 <= check.bit <= HIGHEST_BIT:
        raise ValueError(f"check {check.id!r}: bit {check.bit} is not between 0 and {HIGHEST_BIT}")
    if check.bit in _RETIRED_BITS:
        raise ValueError(f"check {check.id!r}: bit {check.bit} was that of a check that is no more")
    for other in _CHECKS.values():
        if check.id == other.id or check.bit == other.bit:
            raise ValueError(f"check {check.id!r} has the id or the bit ({check.bit}) of check {other.id!r}")
    _CHECKS[check.id] = check
