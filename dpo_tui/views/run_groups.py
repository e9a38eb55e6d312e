"""Runs that belong together as one row that folds: those of a sweep, of an improvement, and the stages of a chain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.sweep_values import label
from dpo_tui.runs.status_names import LIVE, UNKNOWN
from dpo_tui.views.group_row import IMPROVEMENT, RunGroup
from dpo_tui.views.run_list import RunList, RunSummary


class GroupedRunList(RunList):
    """The runs of the home folder, and the groups.

    Attributes:
        groups: newest first; those of rounds are in the one of their improvement.
    """

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[RunGroup] = []
        self._groups_read: list[RunGroup] = []

    def poll(self, now: float) -> bool:
        """Read what may have changed; see `RunList.poll`.

        Raises:
            HomeError: the home folder cannot be read.
        """
        changed = super().poll(now)
        self._groups_read = read_groups(self._groups_read, {run.id: run for run in self.summaries})
        groups = _with_improvements(self._groups_read)
        changed, self.groups = changed or groups != self.groups, groups
        return changed


def read_groups(known: Sequence[RunGroup], runs: Mapping[str, RunSummary]) -> list[RunGroup]:
    """Read all groups; may read many files, so call it from a thread.

    Args:
        known: as they were read before. An ended group whose runs are as they were is not read again.
        runs: all runs by id.
    """
    if not (paths.home() / "groups").is_dir():
        return []
    from dpo_tui.groups.group_store import all_groups  # not needed for the first paint where there are no groups

    before = {group.key: group for group in known}
    return [_read(folder, before.get(folder.id), runs) for folder in all_groups()]


def _read(folder: GroupFolder, before: RunGroup | None, runs: Mapping[str, RunSummary]) -> RunGroup:
    from dpo_tui.groups.group_status import group_status
    from dpo_tui.groups.group_store import group_name

    own = tuple(sorted((run for run in runs.values() if _group_of(run) == folder.id), key=_number_in_group))
    if before is not None and before.status not in LIVE and before.runs == own:
        return before
    accuracies = [run.held_out for run in own if run.held_out is not None]
    best = max(accuracies, default=None)
    try:
        status = group_status(folder)
    except RunError as error:
        return RunGroup(folder.id, group_name(folder) or folder.id, "group", UNKNOWN, error.message, own, folder)
    reason = f" · {status.reason}" if status.reason and status.status != "done" else ""
    over = sum(one.over for one in status.members) / len(status.members) if status.members else None
    note = f"{status.tally()}{reason}"
    belongs = status.plan.part_of or {}
    number = belongs.get("round")
    part_of = (str(belongs.get("improvement")), number) if isinstance(number, int) else None
    return RunGroup(
        folder.id, status.plan.name, status.plan.kind, status.status, note, own, folder, over, best, part_of
    )


def _with_improvements(groups: list[RunGroup]) -> list[RunGroup]:
    if not (paths.home() / "improvements").is_dir():
        return groups
    from dpo_tui.views.improvement_rows import with_improvements  # nor are these where there are none

    return with_improvements(groups)


def with_groups(
    listed: Sequence[RunSummary], groups: Sequence[RunGroup], toggled: Collection[str], *, unfold_all: bool = False
) -> list[RunSummary | RunGroup]:
    """The rows of the list: each group where the first of its runs would be, and below it its runs if it is unfolded.

    An improvement that works comes first, whatever its runs do: for most of the time none of them trains.

    Args:
        listed: the runs to list, in their order.
        groups: all groups; one of whose runs none is listed is left out, unless none has started yet.
        toggled: as in `is_unfolded`, like ``unfold_all``.
        unfold_all: likewise.
    """
    owners = {run.id: group for group in groups for run in group.runs}
    chains = _chains(listed)
    here = {one.id for one in listed}
    rows: list[RunSummary | RunGroup] = []
    shown: set[str] = set()

    def add(group: RunGroup) -> None:
        shown.add(group.key)
        rows.append(group)
        if is_unfolded(group, toggled, unfold_all):
            rows.extend(one for one in group.runs if one.id in here)

    for group in groups:
        if _comes_first(group, bool(listed), unfold_all):
            add(group)
    for run in listed:
        of_run = owners.get(run.id) or chains.get(run.id)
        if of_run is None:
            rows.append(run)
        elif of_run.key not in shown:
            add(of_run)
    return rows


def _comes_first(group: RunGroup, any_listed: bool, filtered: bool) -> bool:
    """Whether the row of a group does not wait for that of one of its runs."""
    if group.kind == IMPROVEMENT and not filtered and (group.status in LIVE or not group.runs):
        return True
    return not group.runs and (group.status in LIVE or not any_listed)


def is_unfolded(group: RunGroup, toggled: Collection[str], unfold_all: bool) -> bool:
    """Whether the runs of a group are listed below it: those of a chain are at first, others are not.

    Args:
        group: the group.
        toggled: keys of those that the user has folded or unfolded.
        unfold_all: whether all are unfolded, as while a filter looks for runs.
    """
    return unfold_all or ((group.folder is None) != (group.key in toggled))


def group_at(rows: Sequence[RunSummary | RunGroup], key: str | None, *, around: bool = False) -> RunGroup | None:
    """The group whose row has a key, or, with ``around``, also the one that the run of that key is in."""
    groups = [row for row in rows if isinstance(row, RunGroup)]
    return next((one for one in groups if key == one.key or (around and key in {run.id for run in one.runs})), None)


def names_of_live(runs: GroupedRunList) -> list[str]:
    """The names of what goes on by itself: runs, and improvements, also while no run of theirs trains."""
    working = [group.name for group in runs.groups if group.kind == IMPROVEMENT and group.status in LIVE]
    return working + [run.name for run in runs.summaries if run.status in LIVE]


def values_of(run: RunSummary) -> str:
    """The settings that tell a run from the others of its group, as text; empty for other runs."""
    belongs = run.about.get("group")
    return label(values) if isinstance(belongs, dict) and isinstance(values := belongs.get("values"), dict) else ""


def _group_of(run: RunSummary) -> str:
    belongs = run.about.get("group")
    return str(belongs.get("id", "")) if isinstance(belongs, dict) else ""


def _number_in_group(run: RunSummary) -> tuple[int, str]:
    belongs: dict[str, Any] = run.about.get("group") or {}
    number = belongs.get("member")
    return (number if isinstance(number, int) else 0, run.id)


def _chains(runs: Sequence[RunSummary]) -> dict[str, RunGroup]:
    """Chains of runs that were started as one command, by the id of each of their runs."""
    by_id = {run.id: run for run in runs}
    first: dict[str, str] = {}
    for run in sorted(runs, key=lambda one: one.id):
        after = str(run.about.get("after") or "")
        # Ids sort by age, so the run before has its place already; one that is gone begins no chain.
        first[run.id] = first.get(after, run.id) if after in by_id else run.id
    members: dict[str, list[RunSummary]] = {}
    for run_id, start in first.items():
        members.setdefault(start, []).append(by_id[run_id])
    found: dict[str, RunGroup] = {}
    for own in members.values():
        if len(own) > 1:
            group = _chain(tuple(own))
            found |= dict.fromkeys((run.id for run in own), group)
    return found


def _chain(runs: tuple[RunSummary, ...]) -> RunGroup:
    statuses = [run.status for run in runs]
    live = next((status for status in statuses if status in LIVE and status != "queued"), "")
    waiting = "queued" if "queued" in statuses else ""
    broken = next((status for status in ("failed", "lost", "stopped", UNKNOWN) if status in statuses), "done")
    done = statuses.count("done")
    note = (
        f"stage {min(done + 1, len(runs))} of {len(runs)}" if live or waiting else f"{done} of {len(runs)} stages done"
    )
    name = " → ".join(run.name for run in runs)
    return RunGroup(
        f"chain:{runs[0].id}", name, "chain", live or waiting or broken, note, runs, None, done / len(runs), None
    )
