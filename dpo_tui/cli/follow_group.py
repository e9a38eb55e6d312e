"""Follow a group in the foreground: a line when a run of it starts or ends, a status line in a terminal."""

import shutil
import time

import click

from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.stop_on_interrupt import StopOnInterrupt
from dpo_tui.groups.group_control import stop_group
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import GroupStatus, MemberStatus, group_status
from dpo_tui.groups.sweep_values import label
from dpo_tui.runs import exit_codes
from dpo_tui.text.printable import printable

_POLL_SECONDS = 0.5


def follow_group(folder: GroupFolder) -> int:
    """Show a group until it ends, and return the command's exit code: 1 if a run of it failed, 130 if it was stopped.

    The first Ctrl-C asks the group to stop, its runs with a checkpoint; the second stops them at once. A hang-up ends
    this command only.
    """
    seen: dict[int, str] = {}
    shown = ""
    with StopOnInterrupt(
        lambda now: stop_group(folder, now=now), "stopping: its runs save a checkpoint at their next step"
    ):
        while True:
            status = group_status(folder)
            for one in status.members:
                if seen.get(one.member.number, "planned") != one.status and (line := _news(one)):
                    if shown:
                        click.echo("\r\x1b[K", nl=False, err=True)
                        shown = ""
                    narrate(line)
                seen[one.member.number] = one.status
            if status.over:
                if shown:
                    click.echo("\r\x1b[K", nl=False, err=True)
                return _print_end(folder, status)
            if is_terminal() and (text := _line(status)) != shown:
                click.echo(f"\r\x1b[K{text}", nl=False, err=True)
                shown = text
            time.sleep(_POLL_SECONDS)


def _news(one: MemberStatus) -> str:
    """A line about a member whose status has changed; empty for changes that say nothing."""
    name = f"{one.member.name} ({label(one.member.values)})"
    reason = f": {one.reason.partition(chr(10))[0]}" if one.reason else ""
    text = {
        "running": f"  {name} runs as {one.run.id if one.run else ''}",
        "done": f"✓ {name} is done",
        "stopped": f"■ {name}{reason or ' is stopped'}",  # the reason begins with the word
        "failed": f"✗ {name} failed{reason}",
        "lost": f"✗ {name} is lost{reason}",
        "refused": f"✗ {name} could not be started{reason}",
    }.get(one.status, "")
    return printable(text, single_line=True)


def _line(status: GroupStatus) -> str:
    reason = f" · {status.reason}" if status.reason else ""
    text = printable(f"{status.status} · {status.tally()}{reason}", single_line=True)
    return text[: shutil.get_terminal_size().columns - 1]


def _print_end(folder: GroupFolder, status: GroupStatus) -> int:
    reason = f": {status.reason}" if status.reason else ""
    narrate(
        printable(f"{status.status}: {status.tally()}{reason if status.status != 'done' else ''}", single_line=True)
    )
    narrate(f"  dpo-tui compare {folder.id}  ranks its runs")
    if status.status in ("stopped", "lost", "failed"):
        narrate(f"  dpo-tui resume {folder.id}   goes on")
    if any(one.failed for one in status.members):
        return exit_codes.FAILED
    if status.status == "stopped":
        return exit_codes.STOPPED
    return exit_codes.FAILED if status.status == "lost" else exit_codes.DONE
