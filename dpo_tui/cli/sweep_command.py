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
from dpo_tui.groups.group_store import create_group
from dpo_tui.groups.sweep import parse_sweep, prepare_sweep
from dpo_tui.groups.sweep_values import label
from dpo_tui.processes.json_child import Message
from dpo_tui.runs.start_run import ARGV_VARIABLE
from dpo_tui.text.printable import printable
from dpo_tui.views.sweep_plan_text import plan_lines

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
    for member, one in zip(ready.plan.members[1:], ready.members[1:], strict=True):
        for advice in one.advice:
            if advice not in ready.members[0].advice and advice.severity != "info":
                narrate(f"{advice.severity}: with {label(member.values)}: {advice.message}")
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


def start_time(text: str, now: float) -> float:
    """Read ``--after``: a time of day, a time from now such as ``2h``, or a date with a time.

    Args:
        text: ``22:00`` (the next one, by this machine's clock), ``90m``, or ``2026-11-28T02:00``.
        now: Unix time.

    Raises:
        UsageError: it is none of them, has passed, or is more than a year away.
    """
    if found := _FROM_NOW.fullmatch(text.strip()):
        return _within_a_year(text, now + float(found[1]) * _SECONDS[found[2]], now)
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
    return _within_a_year(text, begin, now)


def _within_a_year(text: str, begin: float, now: float) -> float:
    if begin > now + 365 * _SECONDS["d"]:
        raise UsageError(f"--after {text}: that is more than a year away")
    return begin


def _narrate_merge(message: Message) -> None:
    narrate(printable(str(message["message"]), single_line=True))
