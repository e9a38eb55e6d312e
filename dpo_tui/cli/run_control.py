"""`dpo-tui stop`, `checkpoint`, `resume`, `rename` and `rm`: requests to a run, and changes to its folder."""

import sys

import click

from dpo_tui.cli.output import narrate
from dpo_tui.runs import control_requests, naming, store
from dpo_tui.runs.status import status_of
from dpo_tui.text.printable import printable


@click.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="End it at once; what came after the last checkpoint is lost.")
def stop(run: str, now: bool) -> None:
    """Stop a run: at its next step it saves a checkpoint and ends. RUN is an id, a unique prefix, a name, or `last`."""
    folder = store.find(run)
    control_requests.request_stop(folder, now=now)
    if (status := status_of(folder)).status == "stopped":  # it had not started
        narrate(f"Run {folder.id}: {printable(status.reason)}.")
        return
    effect = "ends at once" if now else "saves a checkpoint at its next step and stops"
    narrate(f"Asked run {folder.id}: it {effect}. `dpo-tui resume {folder.id}` goes on from there.")


@click.command()
@click.argument("run")
def checkpoint(run: str) -> None:
    """Save a checkpoint without stopping. RUN is an id, a unique prefix, a name, or `last`."""
    folder = store.find(run)
    control_requests.request_checkpoint(folder)
    narrate(f"Asked run {folder.id}: it saves a checkpoint at its next step and goes on.")


@click.command()
@click.argument("run")
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
def resume(run: str, accept_changed_data: bool, assignments: tuple[str, ...]) -> None:
    """Go on with a run that stopped, failed or was lost. RUN is an id, a unique prefix of it, a name, or `last`."""
    # Not at the top: pydantic would slow `stop` and `checkpoint` down.
    from dpo_tui.config.files import parse_assignment
    from dpo_tui.start import prepare

    folder = store.find(run)
    changes = dict(parse_assignment(text) for text in assignments)
    resumed = prepare.resume(folder, accept_changed_data=accept_changed_data, changes=changes)
    if resumed.checkpoint is None:
        narrate(f"Run {folder.id} never reached a checkpoint: it starts from the beginning.")
    else:
        narrate(f"Run {folder.id} goes on from {resumed.checkpoint.name}, if its files are as they were written.")
    narrate(f"Watch it with: dpo-tui logs -f {folder.id}")
    click.echo(folder.id)


@click.command()
@click.argument("run")
@click.argument("name")
def rename(run: str, name: str) -> None:
    """Call a run by another NAME, whatever its state. RUN is an id, a unique prefix, a name, or `last`."""
    folder = store.find(run)
    new_name = naming.rename(folder, name)
    narrate(f"Run {folder.id} is called {printable(new_name)} from now on.")


@click.command()
@click.argument("run")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(run: str, yes: bool) -> None:
    """Delete a run with its checkpoints and its adapter. RUN is an id, a unique prefix, a name, or `last`."""
    folder = store.find(run)
    status = status_of(folder)
    name = printable(status.state.name, single_line=True) if status.state else ""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete run {folder.id} {name} ({status.status}) and all that it made?", abort=True, err=True)
    store.remove(folder)
    narrate(f"Deleted run {folder.id}.")
