"""The status of an improvement: from its files, its lock, and the groups of its rounds. Standard library only."""

from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import read_plan as read_group_plan
from dpo_tui.groups.group_store import all_groups
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan, read_plan
from dpo_tui.improve.improvement_state import ImprovementState, read_improvement_state
from dpo_tui.runs import run_lock
from dpo_tui.runs.process import boot_id, host_name
from dpo_tui.runs.status_names import ENDED, OVER


@dataclass(frozen=True)
class ImprovementStatus:
    """An improvement at one moment.

    Args:
        plan: what was asked for.
        state: as its driver left it.
        status: as its files and its lock show it: that of the state, or ``lost``.
        reason: why; empty when the status needs none.
        live: whether it has a driver.
    """

    plan: ImprovementPlan
    state: ImprovementState
    status: str
    reason: str
    live: bool

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it unless somebody resumes it."""
        return self.status in OVER

    @property
    def progress(self) -> str:
        """What it does now, in words; empty where it does nothing."""
        if not self.live or not self.state.step:
            return ""
        share = f" {self.state.done} of {self.state.total}" if self.state.total else ""
        return f"{self.state.step}{share}"


def improvement_status(folder: ImprovementFolder) -> ImprovementStatus:
    """Determine the status of an improvement.

    Raises:
        RunError: its plan or its state cannot be read.
    """
    live = run_lock.owner(folder.lock) is not None
    plan, state = read_plan(folder), read_improvement_state(folder)
    status, reason = _status(state, live)
    return ImprovementStatus(plan, state, status, reason, live)


def groups_of(folder: ImprovementFolder) -> list[GroupFolder]:
    """The groups of its rounds that there are, in the order of the rounds."""
    found = []
    for group in all_groups():
        try:
            part_of = read_group_plan(group).part_of or {}
        except RunError:
            continue
        if part_of.get("improvement") == folder.id:
            found.append((part_of.get("round", 0), group))
    return [group for _, group in sorted(found, key=lambda one: (one[0], one[1].id))]


def document(folder: ImprovementFolder, status: ImprovementStatus) -> dict[str, Any]:
    """An improvement as one flat object, for ``status --json``."""
    state = {name: value for name, value in status.state.to_dict().items() if name not in ("status", "reason")}
    return {
        "id": folder.id,
        "kind": "improvement",
        "name": status.plan.name,
        "status": status.status,
        "reason": status.reason,
        "live": status.live,
        "rounds": status.plan.rounds,
        "model": status.plan.model,
        "report": str(folder.report) if folder.report.exists() else None,
        "groups": [group.id for group in groups_of(folder)],
        "dir": str(folder.path),
        **state,
    }


def _status(state: ImprovementState, live: bool) -> tuple[str, str]:
    if live or state.status in ENDED:
        return state.status, state.reason
    if state.driver_pid is None:
        return "lost", "its driver was never started"
    if state.host != host_name():
        return state.status, f"on host {state.host}"
    if boot_id() and state.boot_id != boot_id():
        return "lost", "the box restarted while it ran"
    return "lost", f"its driver (process {state.driver_pid}) was killed; what it has asked for is kept"
