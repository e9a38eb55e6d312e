"""Rows of the table of runs: one run, a run of a group, or a group."""

from collections.abc import Collection

from dpo_tui.runs.status_names import LIVE
from dpo_tui.text.durations import ago, duration
from dpo_tui.views.run_feed import finite_number
from dpo_tui.views.group_row import IMPROVEMENT, RunGroup
from dpo_tui.views.run_groups import values_of
from dpo_tui.views.run_list import RunSummary
from dpo_tui.widgets.run_table import RunRow


NOT_LOADED = ("Reading the runs …",)
NOTHING_FOUND = ("No run has that. esc lists all runs.",)
FIRST_STEPS = (
    "No runs yet.",
    "",
    "enter  a guided start: machine, model, data, settings, check; the shipped",
    "       demo is a whole run in a minute",
    "3      look at your data first: what it is, what is wrong with it",
    "5      read when DPO is the right tool, and what the curves mean",
)


def row_of(
    row: RunSummary | RunGroup, now: float, selected: Collection[str], unfolded: Collection[str], in_group: Collection[str]
) -> RunRow:
    """A run or a group as a row of the table.

    Args:
        row: the run or the group.
        now: seconds since the epoch.
        selected: ids of the runs that are selected.
        unfolded: keys of the groups that are unfolded.
        in_group: ids of the runs that stand below the row of their group.
    """
    if isinstance(row, RunGroup):
        return group_row(row, row.key in unfolded)
    return run_row(row, now, row.id in selected, row.id in in_group)


def group_row(group: RunGroup, unfolded: bool) -> RunRow:
    """A group as a row of the table.

    Args:
        group: the group.
        unfolded: whether its runs are listed below it.
    """
    improves = group.kind == IMPROVEMENT
    return RunRow(
        key=group.key,
        # It may sample or judge as well as train.
        status="working" if improves and group.status == "running" else group.status,
        name=f"{'▾' if unfolded else '▸'} {group.name}",
        model=group.runs[0].model if group.runs else "",
        fraction=group.fraction,
        held_out=group.best,
        # In a narrow table the end is cut: what an improvement does is worth more than what it is.
        note=f"{group.note} · {group.kind}" if improves else f"{group.kind}: {group.note}",
        figures=not improves,
    )


def run_row(run: RunSummary, now: float, selected: bool, in_group: bool = False) -> RunRow:
    """One run as a row of the table.

    Args:
        run: the run.
        now: seconds since the epoch, for how long ago it ended.
        selected: whether it is selected.
        in_group: whether it stands below the row of its group.
    """
    values, note = values_of(run) if in_group else "", run_note(run, now)
    return RunRow(
        key=run.id,
        status=run.status,
        name=f"└ {run.name}" if in_group else run.name,
        model=run.model,
        fraction=1.0 if run.status == "done" else run.fraction,
        label=run.spark_label,
        spark=run.spark,
        held_out=run.held_out,
        note=f"{values}  {note}".strip(),
        chosen=selected,
    )


def run_note(run: RunSummary, now: float) -> str:
    """The last column: why a run failed or waits, when it will end, or when it ended."""
    about = run.about
    reason = str(about.get("reason") or "").partition("\n")[0]
    if run.status in ("failed", "lost"):
        return f"{reason} → r resumes" if reason else "r resumes"
    if run.status in ("queued", "stalled", "unknown"):
        return reason
    if (eta := finite_number(about.get("eta_seconds"))) is not None:
        return f"ETA {duration(eta)}"
    if (ended := finite_number(about.get("ended_at"))) is not None:
        return ago(ended, now)
    return str(about.get("phase") or "") if run.status in LIVE else ""
