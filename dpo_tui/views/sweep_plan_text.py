"""The plan of a sweep in words, for `dpo-tui train --sweep` and the app's Check alike."""

import sys
import time

from dpo_tui.config.files import with_changes
from dpo_tui.groups.group_plan import GroupMember
from dpo_tui.groups.sweep import PreparedSweep, Sweep, prepare_combinations
from dpo_tui.groups.sweep_forecast import SweepForecast
from dpo_tui.groups.sweep_values import label
from dpo_tui.text.durations import duration
from dpo_tui.text.printable import printable
from dpo_tui.views.run_plan import RunPlan

_MOST_LISTED = 12
_MINUTE = 60.0


def planned_sweep(plan: RunPlan) -> PreparedSweep:
    """Check every combination of the sweep of a plan of New.

    Raises:
        ConfigError: a combination cannot work; it is named.
        DataError: likewise.
        UsageError: the sweep changes nothing.
    """
    base = plan.loaded()
    source = str(plan.file) if plan.file is not None else "the app"
    return prepare_combinations(
        lambda values: with_changes(base, values, "command line"), Sweep(dict(plan.sweep)), source=source, argv=sys.argv
    )


def plan_lines(ready: PreparedSweep) -> list[str]:
    """The plan in words: how many runs, which, on what, how long."""
    plan, count = ready.plan, len(ready.members)
    some = f" of {ready.possible:,} combinations, chosen at random by the seed" if count < ready.possible else ""
    lines = [f"sweep {printable(plan.name, single_line=True)}: {count:,} runs{some}"]
    for member in plan.members[:_MOST_LISTED]:
        lines.append(
            f"  {printable(member.name, single_line=True)}  {printable(label(member.values), single_line=True)}"
        )
    if count > _MOST_LISTED:
        lines.append(f"  and {count - _MOST_LISTED:,} more")
    lines.append(f"on {_where(plan.members[0])}, {_side_by_side(ready)}")
    forecast = SweepForecast()
    seconds = [forecast.seconds(one.config) for one in ready.members]
    known = [one for one in seconds if one is not None]
    if len(known) == count:
        slots = min(plan.members[0].slots or plan.bound, plan.at_most or count, count)
        each, whole = _about(sum(known) / count), _about(sum(known) / slots)
        lines.append(f"{each} of training a run, {whole} in all; `dpo-tui estimate` says how sure that is")
    else:
        lines.append("how long it takes is not known: the steps, or the size of the model, are not")
    if plan.not_before is not None:
        lines.append(f"starts no run before {time.strftime('%Y-%m-%d %H:%M', time.localtime(plan.not_before))}")
    if plan.early_stop:
        lines.append("runs that are clearly behind are stopped at evaluations (1/8, 1/4 and 1/2 of the steps)")
    return lines


def _where(member: GroupMember) -> str:
    if member.launcher == "slurm":
        return "Slurm"
    if member.device_request is not None:
        return f"{member.device_request.description} of {len(member.device_request.candidates)}"
    return ", ".join(member.devices) or "the processor"


def _side_by_side(ready: PreparedSweep) -> str:
    plan, slots = ready.plan, ready.plan.members[0].slots
    side = min(plan.bound if slots is None else slots, plan.at_most or len(plan.members), len(plan.members))
    return "one at a time" if side == 1 else f"{side} at a time"


def _about(seconds: float) -> str:
    """A forecast; below a minute a number of seconds would claim more than is known."""
    return f"about {duration(seconds)}" if seconds >= _MINUTE else "under a minute"
