"""`dpo-tui queue`: what waits for what, and in which order; move, pause, unpause and drop waiting runs."""

from collections.abc import Sequence
from typing import Any

import click

from dpo_tui import paths
from dpo_tui.cli.output import narrate, print_json, terminal_columns
from dpo_tui.cli.run_argument import RUN_OR_GROUP, for_each, found_in_queue
from dpo_tui.cli.run_summary_text import clip, fit
from dpo_tui.groups import group_control
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import group_status
from dpo_tui.runs import waiting_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.queue import devices_in_use
from dpo_tui.runs.store import name_of
from dpo_tui.runs.waiting_line import WaitingRun, waiting_runs
from dpo_tui.text.printable import printable

_UNLIMITED = 1 << 20
_PLACE, _ID, _NAME = 3, 20, 16


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def queue(ctx: click.Context, as_json: bool) -> None:
    """Show which runs wait, in their order, for what, and who has the GPUs.

    The commands take runs that wait. RUN is an id, a unique prefix of it, a name, or `last`; or a group, for all of its
    runs that wait.
    """
    if ctx.invoked_subcommand is not None:
        return
    waiting = waiting_runs(paths.runs())
    holding = sorted(devices_in_use(paths.runs()).items())
    if as_json:
        print_json(
            {"waiting": [_document(place, run) for place, run in enumerate(waiting, 1)], "in_use": _held(holding)}
        )
        return
    width = terminal_columns() or _UNLIMITED
    for device, folder in holding:
        click.echo(clip(f"{device} in use by run {folder.id} {name_of(folder)}", width))
    for place, run in enumerate(waiting, 1):
        cells = (fit(str(place), _PLACE), fit(run.folder.id, _ID), fit(run.state.name, _NAME))
        head = " ".join(cells)
        reason = run.status.reason.partition("\n")[0]
        click.echo(f"{head} {clip(reason, width - len(head) - 1)}".rstrip())
    if not waiting:
        narrate("No run waits.")


def _document(place: int, run: WaitingRun) -> dict[str, Any]:
    state = run.state
    return {
        "place": place,
        "id": run.folder.id,
        "name": state.name,
        "reason": run.status.reason,
        "paused": run.paused,
        "after": state.after,
        "devices": state.devices,
        "device_request": state.device_request.to_document() if state.device_request else None,
        "launcher": state.launcher,
        "queued_at": state.queued_at,
        "group": state.group,
    }


def _held(holding: list[tuple[str, RunFolder]]) -> list[dict[str, Any]]:
    return [{"device": device, "id": folder.id, "name": name_of(folder)} for device, folder in holding]


@queue.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
def up(runs: tuple[str, ...]) -> None:
    """Move waiting runs to the head of the queue, in the order in which they are named."""
    # The last one first: each moves to the very head.
    for_each(list(reversed(_waiting_of(found_in_queue(runs)))), lambda folder: _move(folder, first=True))


@queue.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
def down(runs: tuple[str, ...]) -> None:
    """Move waiting runs to the end of the queue."""
    for_each(_waiting_of(found_in_queue(runs)), lambda folder: _move(folder, first=False))


def _move(folder: RunFolder, first: bool) -> None:
    waiting_line.move(folder, "first" if first else "last")
    narrate(f"Run {folder.id} is {'first' if first else 'last'} in line.")


@queue.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
def pause(runs: tuple[str, ...]) -> None:
    """Keep waiting runs from starting; others overtake them."""

    def act(folder: RunFolder | GroupFolder) -> None:
        if isinstance(folder, GroupFolder):
            group_control.pause_group(folder)
            for_each(_waiting_of([folder]), waiting_line.pause)
            narrate(f"Group {folder.id} starts no run before `dpo-tui queue unpause {folder.id}`; what runs goes on.")
            return
        waiting_line.pause(folder)
        narrate(f"Run {folder.id} does not start before `dpo-tui queue unpause {folder.id}`.")

    for_each(found_in_queue(runs), act)


@queue.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
def unpause(runs: tuple[str, ...]) -> None:
    """Let paused runs start when their turn comes, at the place that they had."""

    def act(folder: RunFolder | GroupFolder) -> None:
        if isinstance(folder, GroupFolder):
            group_control.unpause_group(folder)
            for run in _waiting_of([folder]):
                waiting_line.unpause(run)
            narrate(f"Group {folder.id} starts runs again.")
            return
        was_paused = waiting_line.unpause(folder)
        narrate(f"Run {folder.id} {'starts when its turn comes' if was_paused else 'was not paused'}.")

    for_each(found_in_queue(runs), act)


@queue.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
def drop(runs: tuple[str, ...]) -> None:
    """Take waiting runs out of the queue: they are stopped before they start.

    A GROUP is paused first, since it would put its next runs in their place.
    """

    def act(folder: RunFolder | GroupFolder) -> None:
        if isinstance(folder, GroupFolder):
            is_driven = group_status(folder).live
            if is_driven:
                group_control.pause_group(folder)
            for_each(_waiting_of([folder]), act)
            if is_driven:
                narrate(f"Group {folder.id} starts no other run before `dpo-tui queue unpause {folder.id}`.")
            return
        waiting_line.drop(folder)
        name = printable(name_of(folder), single_line=True)
        narrate(f"Run {folder.id} {name} is out of the queue. `dpo-tui resume {folder.id}` queues it again.")

    for_each(found_in_queue(runs), act)


def _waiting_of(folders: Sequence[RunFolder | GroupFolder]) -> list[RunFolder]:
    """The runs, and of groups those that wait in the queue."""
    found: list[RunFolder] = []
    for folder in folders:
        if isinstance(folder, GroupFolder):
            members = group_status(folder).members
            waiting = [one.run for one in members if one.run is not None and one.status == "queued"]
            if not waiting:
                narrate(f"No run of group {folder.id} waits in the queue.")
            found += waiting
        else:
            found.append(folder)
    return found
