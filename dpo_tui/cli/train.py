"""`dpo-tui train`: check the configs, start the runs, follow them.

Next, for a setting: `dpo_tui.config.files` reads the file, and `dpo_tui.start.prepare` checks the result and freezes it
in the run's folder.
"""

import json
import os
import sys
from pathlib import Path
from typing import get_args

import click

from dpo_tui.cli.follow import follow
from dpo_tui.cli.output import narrate
from dpo_tui.cli.train_checks import narrate_checks
from dpo_tui.config.files import LoadedConfig, load, parse_assignment
from dpo_tui.config.sections.compute import ComputeSection
from dpo_tui.errors import UsageError
from dpo_tui.processes.json_child import Message
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.start_run import ARGV_VARIABLE, start
from dpo_tui.start.model_checks.own_code import UntrustedCodeError, remember_trust
from dpo_tui.start.prepare import Prepared, create_stages, prepare_stages
from dpo_tui.start.slurm_check import script_of
from dpo_tui.text.printable import printable


@click.command()
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CONFIG…")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting of every config.")
@click.option("--name", help="What to call the run.")
@click.option(
    "--launcher",
    type=click.Choice(get_args(ComputeSection.model_fields["launcher"].annotation)),
    help="Where it runs: on this machine, or as a job of Slurm.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and start nothing; print the script of a Slurm job.")
@click.option("--detach", is_flag=True, help="Return at once; the run goes on in the background.")
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY=V,V…",
    help="Train a group of runs, one with each of these values; with several, one with each combination.",
)
@click.option(
    "--random", "number", type=click.IntRange(min=1), metavar="N", help="Of a sweep's combinations only N, at random."
)
@click.option(
    "--at-most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a sweep at most N runs at a time; of jobs, N in the queue.",
)
@click.option(
    "--after", metavar="TIME", help="Start no run of a sweep before this time: 22:00, 2h (from now), 2026-11-28T02:00."
)
@click.option(
    "--early-stop-worst",
    "early_stop",
    is_flag=True,
    help="Stop runs of a sweep whose held-out accuracy is clearly behind, at evaluations.",
)
@click.option("-y", "--yes", is_flag=True, help="Start a sweep without a question.")
def train(
    *,
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    name: str | None,
    launcher: str | None,
    dry_run: bool,
    detach: bool,
    sweeps: tuple[str, ...],
    number: int | None,
    at_most: int | None,
    after: str | None,
    early_stop: bool,
    yes: bool,
) -> None:
    """Start training from one config, or from several, one after the other.

    A config whose model_name is "previous" goes on from the run before it: `dpo-tui train sft.toml dpo.toml`.

    With --sweep it is a group of runs, one a free GPU: `dpo-tui train c.toml --sweep beta=0.05,0.1 --sweep
    learning_rate=1e-6,5e-6`. GROUP is its id or name, and goes where RUN does; `compare GROUP` ranks its runs.

    In the foreground this follows the run: Ctrl-C stops it with a checkpoint, a lost connection does not.
    """
    if name and len(configs) > 1:
        raise UsageError("--name is for one config", hint="give each config a name of its own, in [run]")
    changes = dict(parse_assignment(assignment) for assignment in assignments)
    if launcher is not None:
        changes["launcher"] = launcher
    if sweeps:
        from dpo_tui.cli.sweep_command import sweep_command

        sweep_command(
            configs,
            sweeps,
            changes,
            name=name,
            number=number,
            at_most=at_most,
            after=after,
            early_stop=early_stop,
            yes=yes,
            detach=detach,
            dry_run=dry_run,
        )
        return
    _require_no_sweep_option(number, at_most, after, early_stop or None)
    stages = _prepare_or_ask([load(path, changes) for path in configs], name)
    for path, stage in zip(configs, stages, strict=True):
        narrate_checks(stage, str(path))
    if dry_run:
        for stage in stages:
            if stage.config.launcher == "slurm":
                click.echo(script_of(stage.config).text, nl=False)
        narrate("nothing was started")
        return
    folders = start_stages(stages)
    for folder in folders:
        click.echo(folder.id)
    if detach:
        narrate(f"  dpo-tui status {folders[0].id}   shows how it goes")
        return
    worst = 0
    for folder in folders:
        worst = follow(folder) or worst
    sys.exit(worst)


def _prepare_or_ask(loaded: list[LoadedConfig], name: str | None) -> list[Prepared]:
    """Prepare the runs; ask in a terminal about each model's own code that has not been allowed yet.

    Raises:
        UntrustedCodeError: the answer is no, or there is no terminal to ask in.
    """
    while True:
        try:
            return prepare_stages(loaded, name, _narrate_merge)
        except UntrustedCodeError as error:
            # Code that a config allows by its digest and that has changed since is for whoever wrote the config.
            if not in_terminal() or any(one.config.trust_remote_code for one in loaded):
                raise
            for line in error.explanation:
                narrate(line)
            if not click.confirm("Run it?", default=False, err=True):
                raise
            remember_trust(error)


def in_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def start_stages(stages: list[Prepared]) -> list[RunFolder]:
    """Create and start the runs; each waits until the one before it has ended, well or not.

    Args:
        stages: in the order in which they are to run.
    """
    # The worker writes the command line into its receipt.
    os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
    folders = create_stages(stages)
    for folder in folders:
        start(folder)
    return folders


def _narrate_merge(message: Message) -> None:
    narrate(printable(str(message["message"]), single_line=True))


def _require_no_sweep_option(*given: object) -> None:
    for option, value in zip(("--random", "--at-most", "--after", "--early-stop-worst"), given, strict=True):
        if value is not None:
            raise UsageError(f"{option} is for a sweep", hint="add --sweep KEY=V,V, as in --sweep beta=0.05,0.1")
