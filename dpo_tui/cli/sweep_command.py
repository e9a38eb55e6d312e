"""`dpo-tui train --sweep`: show the plan of a sweep, ask, start its group, follow it."""

import json
import os
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.follow_group import follow_group
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.train_checks import narrate_checks
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_control import start_group
from dpo_tui.groups.group_plan import GroupMember
from dpo_tui.groups.group_store import create_group
from dpo_tui.groups.sweep import PreparedSweep, parse_sweep, prepare_sweep
from dpo_tui.groups.sweep_forecast import SweepForecast
from dpo_tui.groups.sweep_values import label
from dpo_tui.processes.json_child import Message
from dpo_tui.runs.start_run import ARGV_VARIABLE
from dpo_tui.text.durations import duration
from dpo_tui.text.printable import printable

_MOST_LISTED = 12
_FROM_NOW = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def sweep_command(
    configs: tuple[Path, ...],
    sweeps: tuple[str, ...],
    changes: dict[str, Any],
    *,
    name: str | None,
    number: int | None,
    at_most: int | None,
    after: str | None,
    early_stop: bool,
    yes: bool,
    detach: bool,
    dry_run: bool,
) -> None:
    """Check, show, start and follow a sweep; see `dpo_tui.cli.train`.

    Raises:
        UsageError: the options do not go together, or the sweep changes nothing.
        ConfigError: a combination cannot work.
    """
    if len(configs) > 1:
        raise UsageError("--sweep is for one config", hint="start a sweep for each")
    sweep = parse_sweep(sweeps, number)
    ready = prepare_sweep(
        configs[0],
        sweep,
        changes,
        name=name,
        at_most=at_most,
        not_before=start_time(after, time.time()) if after else None,
        early_stop=early_stop,
        argv=sys.argv,
        report=_narrate_merge,
    )
    narrate_checks(ready.members[0], str(configs[0]))
    for line in plan_lines(ready):
        narrate(line)
    if dry_run:
        narrate("nothing was started")
        return
    asks = not (yes or detach) and is_terminal() and sys.stdin.isatty()
    if asks and not click.confirm("Start them?", default=True, err=True):
        narrate("nothing was started")
        return
    os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
    folder = create_group(ready.plan, ready.configs)
    start_group(folder)
    if detach:
        narrate(f"  dpo-tui status {folder.id}   shows how it goes")
        narrate(f"  dpo-tui compare {folder.id}  ranks its runs")
        click.echo(folder.id)
        return
    click.echo(folder.id)
    sys.exit(follow_group(folder))


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
        each, whole = duration(sum(known) / count), duration(sum(known) / slots)
        lines.append(f"about {each} of training a run, {whole} in all; `dpo-tui estimate` says how sure that is")
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


def start_time(text: str, now: float) -> float:
    """Read ``--after``: a time of day, a time from now such as ``2h``, or a date with a time.

    Args:
        text: ``22:00`` (the next one, by this machine's clock), ``90m``, or ``2026-11-28T02:00``.
        now: Unix time.

    Raises:
        UsageError: it is none of them, or has passed.
    """
    if found := _FROM_NOW.fullmatch(text.strip()):
        return now + float(found[1]) * _SECONDS[found[2]]
    if found := _CLOCK.fullmatch(text.strip()):
        today = datetime.fromtimestamp(now).replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
        return (today if today.timestamp() > now else today + timedelta(days=1)).timestamp()
    try:
        begin = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"--after {text}: not a time", hint="for example: --after 22:00, --after 2h, --after 2026-11-28T02:00"
        ) from None
    if begin <= now:
        raise UsageError(f"--after {text}: that is past")
    return begin


def _narrate_merge(message: Message) -> None:
    narrate(printable(str(message["message"]), single_line=True))
