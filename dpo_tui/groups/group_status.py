"""The status of a group and of its members: from its files, its lock, and the status of its runs.

Standard library only.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupMember, GroupPlan, read_plan
from dpo_tui.groups.group_state import GroupState, read_group_state
from dpo_tui.runs import run_lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import boot_id, host_name
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.status_names import ENDED, OVER, UNKNOWN
from dpo_tui.runs.store import all_runs

PLANNED, REFUSED, REMOVED = "planned", "refused", "removed"
"""Statuses of a member without a run: its turn has not come, its run could not be started, or was deleted since."""

BEHIND_REASON = "clearly behind (--early-stop-worst)"
"""How the reason begins for which a member is stopped that is clearly behind; its run's state says it too."""


@dataclass(frozen=True)
class MemberStatus:
    """A member at one moment.

    Args:
        member: from the plan.
        status: of its run, or one of `PLANNED`, `REFUSED` and `REMOVED`.
        reason: why; empty when the status needs none.
        run: its run; None while there is none.
        live: whether its run has a supervisor.
        behind: whether it was stopped because it was clearly behind.
        queued_at: Unix time at which its run entered the queue last; 0 while there is none.
    """

    member: GroupMember
    status: str
    reason: str = ""
    run: RunFolder | None = None
    live: bool = False
    behind: bool = False
    queued_at: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it ended without being asked to, and without a result."""
        return self.status in ("failed", "lost", REFUSED) or (self.status == UNKNOWN and not self.live)

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it unless somebody resumes it."""
        return self.status in OVER or self.status in (REFUSED, REMOVED) or (self.status == UNKNOWN and not self.live)


@dataclass(frozen=True)
class GroupStatus:
    """A group at one moment.

    Args:
        plan: what was asked for.
        state: what the driver wrote last.
        status: queued, running, stopping, done, failed, stopped or lost.
        reason: why; empty when the status needs none.
        members: in the order of the plan.
        live: whether it has a driver.
    """

    plan: GroupPlan
    state: GroupState
    status: str
    reason: str
    members: tuple[MemberStatus, ...]
    live: bool

    @property
    def over(self) -> bool:
        """Whether it ended, in any way."""
        return self.status in OVER

    @property
    def counts(self) -> Counter[str]:
        """How many members have which status; those that were stopped as behind are ``behind``."""
        return Counter("behind" if one.behind else one.status for one in self.members)

    @property
    def runs(self) -> list[RunFolder]:
        """The runs that there are."""
        return [one.run for one in self.members if one.run is not None]

    def tally(self) -> str:
        """How many members have which status, as text: ``8 done · 1 failed · 3 planned``."""
        return " · ".join(f"{count} {status}" for status, count in self.counts.items())


def group_status(folder: GroupFolder) -> GroupStatus:
    """Determine the status of a group.

    Raises:
        RunError: a file of it cannot be read as what it is.
    """
    plan = read_plan(folder)
    # The lock before the state: a driver that ends in between has recorded its end by then.
    live = run_lock.owner(folder.lock) is not None
    state = read_group_state(folder)
    # A file that was lost says nothing of its runs, which know whose they are.
    known = runs_of(folder.id) if state.driver_pid is None else {}
    members = tuple(member_status(member, state, folder.id, known) for member in plan.members)
    status, reason = _status(folder, state, members, live)
    return GroupStatus(plan, state, status, reason, members, live)


def member_status(
    member: GroupMember, state: GroupState, group: str, runs: Mapping[int, RunFolder] | None = None
) -> MemberStatus:
    """Determine the status of a member.

    Args:
        member: from the plan.
        state: of its group.
        group: its group's id.
        runs: runs of members by number, of which the state may not know yet.
    """
    key = str(member.number)
    run = (runs or {}).get(member.number)
    if run is None and key in state.runs:
        run = RunFolder(paths.runs() / state.runs[key])
    if key in state.refused and (run is None or not run.path.is_dir()):
        return MemberStatus(member, REFUSED, state.refused[key])
    if run is None:
        return MemberStatus(member, PLANNED)
    if not run.path.is_dir():
        return MemberStatus(member, REMOVED)
    try:
        status = status_of(run)
    except RunError as error:
        # Its supervisor may live, and goes on with the state that it has in memory.
        return MemberStatus(member, UNKNOWN, error.message, run, run_lock.owner(run.lock) is not None)
    if status.state is not None and not _is_member(status.state, group, member.number):
        # A wrong entry must not stop, resume or delete another's run. A driver finds the member's own, or makes it.
        return MemberStatus(member, PLANNED, f"state.json names run {run.id}, which is not of this group")
    behind = status.status in ("stopped", "stopping") and (key in state.behind or BEHIND_REASON in status.reason)
    queued_at = status.state.queued_at if status.state is not None else 0.0
    return MemberStatus(member, status.status, status.reason, run, status.live, behind, queued_at)


def runs_of(group: str) -> dict[int, RunFolder]:
    """The runs of a group by the number of their member, from the runs themselves."""
    found: dict[int, RunFolder] = {}
    for run in all_runs():
        try:
            state = read_state(run)
        except RunError:
            continue
        belongs = state.group if state is not None else None
        if belongs is not None and belongs.get("id") == group and isinstance(number := belongs.get("member"), int):
            found.setdefault(number, run)
    return found


def _is_member(state: State, group: str, number: int) -> bool:
    belongs = state.group or {}
    return belongs.get("id") == group and belongs.get("member") == number


def document(status: GroupStatus) -> dict[str, Any]:
    """A group as one object, for ``status --json``: flat, with the members as a list."""
    return {
        "id": status.plan.id,
        "kind": status.plan.kind,
        "name": status.plan.name,
        "status": status.status,
        "reason": status.reason,
        "live": status.live,
        "source": status.plan.source,
        "settings": status.plan.settings,
        "created_at": status.plan.created_at,
        "started_at": status.state.started_at,
        "ended_at": status.state.ended_at,
        "at_most": status.plan.at_most,
        "not_before": status.plan.not_before,
        "early_stop": status.plan.early_stop,
        "counts": dict(status.counts),
        "members": [
            {
                "number": one.member.number,
                "name": one.member.name,
                "values": one.member.values,
                "status": one.status,
                "reason": one.reason,
                "behind": one.behind,
                "run": one.run.id if one.run is not None else None,
            }
            for one in status.members
        ],
    }


def _status(folder: GroupFolder, state: GroupState, members: tuple[MemberStatus, ...], live: bool) -> tuple[str, str]:
    if state.status in ENDED:
        # Somebody may have resumed a member since.
        if state.status != "done" and all(one.status == "done" or one.behind for one in members):
            return "done", ""
        return state.status, state.reason
    if live:
        return state.status, state.reason
    if state.driver_pid is None:
        made = any(one.run is not None for one in members)
        return "lost", f"its {folder.state.name} is missing or torn" if made else "its driver was never started"
    if state.host != host_name():
        return state.status, f"on host {state.host}"
    if boot_id() and state.boot_id != boot_id():
        return "lost", "the box restarted while it ran"
    runs = "its runs go on, and no other one starts" if any(one.live for one in members) else "no run of it is started"
    return "lost", f"its driver (process {state.driver_pid}) was killed; {runs}"
