"""`dpo-tui stop`, `checkpoint`, `resume`, `rename` and `rm`: requests to a run, and changes to its folder."""

import sys
from contextlib import suppress
from typing import Any

import click

from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.run_argument import RUN, RUN_OR_GROUP, for_each, found_all
from dpo_tui.errors import RunError, UsageError
from dpo_tui.groups import group_control
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_removal import removal_of
from dpo_tui.groups.group_store import find_run, group_name
from dpo_tui.improve import improvement_control, improvement_store
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import groups_of
from dpo_tui.improve.remove_improvement import remove_improvement_with_runs
from dpo_tui.runs import control_requests, naming, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from dpo_tui.text.printable import printable


@click.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="End them at once; what came after the last checkpoint is lost.")
def stop(runs: tuple[str, ...], now: bool) -> None:
    """Stop runs: each saves a checkpoint at its next step. RUN is an id, a unique prefix, a name, or `last`.

    Of a GROUP no other run starts, and all that run are stopped; an improvement stops with its training.
    """

    def request(folder: RunFolder | GroupFolder | ImprovementFolder) -> None:
        if isinstance(folder, ImprovementFolder):
            improvement_control.stop_improvement(folder, now=now)
            narrate(f"Asked improvement {folder.id} to stop. `dpo-tui resume {folder.id}` goes on where it was.")
            return
        if isinstance(folder, GroupFolder):
            group_control.stop_group(folder, now=now)
            effect = "end at once" if now else "save a checkpoint at their next step and stop"
            narrate(f"Asked group {folder.id}: its runs {effect}. `dpo-tui resume {folder.id}` goes on from there.")
            return
        control_requests.request_stop(folder, now=now)
        with suppress(RunError):  # a live run whose state cannot be read can be asked too
            if (status := status_of(folder)).status == "stopped":  # it had not started
                narrate(f"Run {folder.id}: {printable(status.reason)}.")
                return
        effect = "ends at once" if now else "saves a checkpoint at its next step and stops"
        narrate(f"Asked run {folder.id}: it {effect}. `dpo-tui resume {folder.id}` goes on from there.")

    for_each(found_all(runs), request)


@click.command()
@click.argument("run", type=RUN)
def checkpoint(run: str) -> None:
    """Save a checkpoint without stopping. RUN is an id, a unique prefix, a name, or `last`."""
    folder = find_run(run)
    control_requests.request_checkpoint(folder)
    narrate(f"Asked run {folder.id}: it saves a checkpoint at its next step and goes on.")


@click.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
@click.option(
    "--accept-changed-data", is_flag=True, help="Go on although the data has changed; the receipt will say so."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="K=V",
    help="Go on on other GPUs or on another number of processes (gpus, gpu_count, ranks; the effective batch stays), "
    "or change what its job asks Slurm for, as in [slurm].",
)
@click.option("--detach", is_flag=True, help="Return at once, also in a terminal; the runs go on in the background.")
def resume(runs: tuple[str, ...], accept_changed_data: bool, assignments: tuple[str, ...], detach: bool) -> None:
    """Go on with runs that stopped, failed or were lost. RUN is an id, a unique prefix of it, a name, or `last`.

    A GROUP goes on with its runs that have not started, were stopped or were lost; if there is none of these, it tries
    those that failed again. Runs that are done stay as they are. An improvement goes on where it was.

    In a terminal this follows them, one after the other, as `train` does: Ctrl-C stops with a checkpoint.
    """
    # Not at the top: pydantic would slow `stop` and `checkpoint` down.
    from dpo_tui.cli.follow import RunLog, follow
    from dpo_tui.cli.follow_group import follow_group
    from dpo_tui.cli.follow_improvement import follow_improvement
    from dpo_tui.config.files import parse_assignment

    changes = dict(parse_assignment(text) for text in assignments)
    logs: list[RunLog] = []
    groups: list[GroupFolder] = []
    improvements: list[ImprovementFolder] = []

    def start(folder: RunFolder | GroupFolder | ImprovementFolder) -> None:
        if not isinstance(folder, RunFolder) and (accept_changed_data or changes):
            option = "--set" if changes else "--accept-changed-data"
            kind = "a group" if isinstance(folder, GroupFolder) else "an improvement"
            raise UsageError(
                f"{option} is for a run, and {folder.id} is {kind}", hint="resume its runs one by one with it"
            )
        if isinstance(folder, ImprovementFolder):
            improvement_control.resume_improvement(folder)
            narrate(f"Improvement {folder.id} goes on.")
            improvements.append(folder)
            return
        if isinstance(folder, GroupFolder):
            before = group_control.resume_group(folder)
            narrate(f"Group {folder.id} goes on: {before.tally()} before.")
            groups.append(folder)
            return
        log = RunLog(folder)
        log.skip()
        _resume(folder, accept_changed_data, changes)
        logs.append(log)

    follows = is_terminal() and not detach
    try:
        for_each(found_all(runs), start)
    finally:
        for log in logs:
            if not follows:
                narrate(f"Watch it with: dpo-tui logs -f {log.folder.id}")
            click.echo(log.folder.id)
        for driven in [one.id for one in groups] + [one.id for one in improvements]:
            click.echo(driven)
    worst = 0
    for log in logs if follows else []:
        log.wait_for_supervisor()
        worst = follow(log.folder, log) or worst
    for group in groups if follows else []:
        worst = follow_group(group) or worst
    for improvement in improvements if follows else []:
        worst = follow_improvement(improvement) or worst
    sys.exit(worst)


def _resume(folder: RunFolder, accept_changed_data: bool, changes: dict[str, Any]) -> None:
    from dpo_tui.start import prepare

    resumed = prepare.resume(folder, accept_changed_data=accept_changed_data, changes=changes)
    if resumed.checkpoint is None and not resumed.skipped:
        narrate(f"Run {folder.id} never reached a checkpoint: it starts from the beginning.")
    elif resumed.checkpoint is None:
        narrate(f"Run {folder.id} has no checkpoint that is whole: it starts from the beginning.")
    else:
        condition = "" if resumed.compared else ", if its files are as they were written"
        narrate(f"Run {folder.id} goes on from {resumed.checkpoint.name}{condition}.")
    for checkpoint, reason in resumed.skipped.items():
        narrate(f"{checkpoint} {reason}.")


@click.command()
@click.argument("run", type=RUN)
@click.argument("name")
def rename(run: str, name: str) -> None:
    """Call a run by another NAME, whatever its state. RUN is an id, a unique prefix, a name, or `last`."""
    folder = find_run(run)
    new_name = naming.rename(folder, name)
    narrate(f"Run {folder.id} is called {printable(new_name)} from now on.")


@click.command()
@click.argument("runs", type=RUN_OR_GROUP, metavar="RUN…", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where no terminal can be asked.")
def rm(runs: tuple[str, ...], yes: bool) -> None:
    """Delete runs with their checkpoints and adapters. RUN is an id, a unique prefix, a name, or `last`.

    A GROUP is deleted with all its runs, and an improvement with those of its rounds.
    """
    folders = found_all(runs)
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "rm asks before it deletes, and there is no terminal to ask",
            hint=f"To delete without a question: dpo-tui rm --yes {' '.join(folder.id for folder in folders)}",
        )

    def delete(folder: RunFolder | GroupFolder | ImprovementFolder) -> None:
        if isinstance(folder, ImprovementFolder):
            _delete_improvement(folder, yes)
            return
        if isinstance(folder, GroupFolder):
            _delete_group(folder, yes)
            return
        if not yes and not click.confirm(f"Delete run {_described(folder)} and all that it made?", err=True):
            narrate(f"Run {folder.id} is kept.")
            return
        store.remove(folder)
        narrate(f"Deleted run {folder.id}.")

    for_each(folders, delete)


def _delete_group(folder: GroupFolder, yes: bool) -> None:
    removal = removal_of(folder)
    name = printable(group_name(folder), single_line=True)
    goes = "" if removal.unreadable else f", its {len(removal.runs)} runs and all that they made"
    kept = printable(removal.remaining(), single_line=True)
    if not yes:
        if kept:
            narrate(kept)
        if not click.confirm(f"Delete group {folder.id} {name}{goes}?", err=True):
            narrate(f"Group {folder.id} is kept.")
            return
    removal.carry_out()
    narrate(f"Deleted group {folder.id}{'' if removal.unreadable else f' and its {len(removal.runs)} runs'}.")
    if kept and yes:
        narrate(kept)


def _delete_improvement(folder: ImprovementFolder, yes: bool) -> None:
    name = printable(improvement_store.improvement_name(folder), single_line=True)
    question = (
        f"Delete improvement {folder.id} {name}, its {len(groups_of(folder))} rounds' runs and all that they made?"
    )
    if not yes and not click.confirm(question, err=True):
        narrate(f"Improvement {folder.id} is kept.")
        return
    runs = remove_improvement_with_runs(folder)
    narrate(f"Deleted improvement {folder.id} and its {runs} runs.")


def _described(folder: RunFolder) -> str:
    try:
        status = status_of(folder)
    except RunError as error:
        return f"{folder.id} (unreadable: {printable(error.message, single_line=True)})"
    name = printable(status.state.name, single_line=True) if status.state else ""
    return f"{folder.id} {name} ({status.status})"
