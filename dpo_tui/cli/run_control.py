"""`dpo-tui stop`, `checkpoint`, `resume`, `rename` and `rm`: requests to a run, and changes to its folder."""

import sys
from contextlib import suppress
from typing import Any

import click

from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.run_argument import RUN, for_each, runs_named
from dpo_tui.errors import RunError, UsageError
from dpo_tui.runs import control_requests, naming, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from dpo_tui.text.printable import printable


@click.command()
@click.argument("runs", type=RUN, metavar="RUN…", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="End them at once; what came after the last checkpoint is lost.")
def stop(runs: tuple[str, ...], now: bool) -> None:
    """Stop runs: each saves a checkpoint at its next step. RUN is an id, a unique prefix, a name, or `last`."""

    def request(folder: RunFolder) -> None:
        control_requests.request_stop(folder, now=now)
        with suppress(RunError):  # a live run whose state cannot be read can be asked too
            if (status := status_of(folder)).status == "stopped":  # it had not started
                narrate(f"Run {folder.id}: {printable(status.reason)}.")
                return
        effect = "ends at once" if now else "saves a checkpoint at its next step and stops"
        narrate(f"Asked run {folder.id}: it {effect}. `dpo-tui resume {folder.id}` goes on from there.")

    for_each(runs_named(runs), request)


@click.command()
@click.argument("run", type=RUN)
def checkpoint(run: str) -> None:
    """Save a checkpoint without stopping. RUN is an id, a unique prefix, a name, or `last`."""
    folder = store.find(run)
    control_requests.request_checkpoint(folder)
    narrate(f"Asked run {folder.id}: it saves a checkpoint at its next step and goes on.")


@click.command()
@click.argument("runs", type=RUN, metavar="RUN…", nargs=-1, required=True)
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

    In a terminal this follows them, one after the other, as `train` does: Ctrl-C stops with a checkpoint.
    """
    # Not at the top: pydantic would slow `stop` and `checkpoint` down.
    from dpo_tui.cli.follow import RunLog, follow
    from dpo_tui.config.files import parse_assignment

    changes = dict(parse_assignment(text) for text in assignments)
    logs: list[RunLog] = []

    def start(folder: RunFolder) -> None:
        log = RunLog(folder)
        log.skip()
        _resume(folder, accept_changed_data, changes)
        logs.append(log)

    follows = is_terminal() and not detach
    try:
        for_each(runs_named(runs), start)
    finally:
        for log in logs:
            if not follows:
                narrate(f"Watch it with: dpo-tui logs -f {log.folder.id}")
            click.echo(log.folder.id)
    worst = 0
    for log in logs if follows else []:
        log.wait_for_supervisor()
        worst = follow(log.folder, log) or worst
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
    folder = store.find(run)
    new_name = naming.rename(folder, name)
    narrate(f"Run {folder.id} is called {printable(new_name)} from now on.")


@click.command()
@click.argument("runs", type=RUN, metavar="RUN…", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where no terminal can be asked.")
def rm(runs: tuple[str, ...], yes: bool) -> None:
    """Delete runs with their checkpoints and adapters. RUN is an id, a unique prefix, a name, or `last`."""
    folders = runs_named(runs)
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "rm asks before it deletes, and there is no terminal to ask",
            hint=f"To delete without a question: dpo-tui rm --yes {' '.join(folder.id for folder in folders)}",
        )

    def delete(folder: RunFolder) -> None:
        if not yes and not click.confirm(f"Delete run {_described(folder)} and all that it made?", err=True):
            narrate(f"Run {folder.id} is kept.")
            return
        store.remove(folder)
        narrate(f"Deleted run {folder.id}.")

    for_each(folders, delete)


def _described(folder: RunFolder) -> str:
    try:
        status = status_of(folder)
    except RunError as error:
        return f"{folder.id} (unreadable: {printable(error.message, single_line=True)})"
    name = printable(status.state.name, single_line=True) if status.state else ""
    return f"{folder.id} {name} ({status.status})"
