"""One row of the list of runs for several of them."""

from dataclasses import dataclass

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.views.run_list import RunSummary

IMPROVEMENT = "improvement"
"""The kind of the row of an improvement."""


@dataclass(frozen=True, slots=True)
class RunGroup:
    """One row for several runs.

    Attributes:
        key: the group's id; of a chain that of its first run with ``chain:`` before it, which no run has.
        name: what it is called.
        kind: ``sweep``, ``improvement`` or ``chain``.
        status: of the whole.
        note: how many runs have which status, and why it waits or failed.
        runs: those of its runs that are listed, in their own order.
        folder: the folder of the group or the improvement; None for a chain.
        fraction: share of its runs that are over, 0 to 1; None where that is not known.
        best: the best held-out accuracy of its runs; None without one.
        part_of: the id of the improvement, and the number of its round, that it trains; None for other groups.
    """

    key: str
    name: str
    kind: str
    status: str
    note: str
    runs: tuple[RunSummary, ...]
    folder: GroupFolder | ImprovementFolder | None = None
    fraction: float | None = None
    best: float | None = None
    part_of: tuple[str, int] | None = None
