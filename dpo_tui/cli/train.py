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
from dpo_tui.config.files import LoadedConfig, load, parse_assignment
from dpo_tui.config.sections.compute import ComputeSection
from dpo_tui.errors import UsageError
from dpo_tui.processes.json_child import Message
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.start_run import ARGV_VARIABLE, start
from dpo_tui.start.model_checks.own_code import UntrustedCodeError, remember_trust
from dpo_tui.start.prepare import Prepared, create_stages, prepare_stages
from dpo_tui.start.slurm_check import script_of
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.printable import printable

_MOST_ROWS_NAMED = 5


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
def train(
    *,
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    name: str | None,
    launcher: str | None,
    dry_run: bool,
    detach: bool,
) -> None:
    """Start training from one config, or from several, one after the other.

    A config whose model_name is "previous" goes on from the run before it: `dpo-tui train sft.toml dpo.toml`.

    In the foreground this follows the run: Ctrl-C stops it with a checkpoint, a lost connection does not.
    """
    if name and len(configs) > 1:
        raise UsageError("--name is for one config", hint="give each config a name of its own, in [run]")
    changes = dict(parse_assignment(assignment) for assignment in assignments)
    if launcher is not None:
        changes["launcher"] = launcher
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


def narrate_checks(prepared: Prepared, source: str) -> None:
    """Print what the checks of a config found: rows that cannot be used, settings that are unwise."""
    held_out = f", {prepared.held_out:,} of them held out" if prepared.held_out else ""
    counted = f"{prepared.usable:,} of {prepared.rows:,} rows can be used"
    if prepared.usable > prepared.rows:  # of a ranking, or of a pair as labelled answers, a row gives several
        counted = f"{prepared.rows:,} rows give {prepared.usable:,} {strategy_of(prepared.config).data.value}"
    narrate(f"{printable(source)}: {counted}{held_out}")
    unusable = [problem for problem in prepared.dropped if problem.check != "tie"]  # the notes count these
    for problem in unusable[:_MOST_ROWS_NAMED]:
        narrate(f"  {problem.label}: {printable(problem.message, single_line=True)}")
    if len(unusable) > _MOST_ROWS_NAMED:
        narrate(f"  and {len(unusable) - _MOST_ROWS_NAMED:,} more")
    for note in prepared.data_notes:
        narrate(f"data: {printable(note, single_line=True)}")
    for note in prepared.launcher_notes:
        narrate(f"slurm: {printable(note, single_line=True)}")
    for note in prepared.model_notes:
        narrate(f"model: {printable(note, single_line=True)}")
    for found in prepared.template:
        narrate(f"{found.severity}: {printable(found.sentence, single_line=True)}")
    for note in prepared.notes:
        narrate(f"profile: {note}")
    for advice in prepared.advice:
        narrate(f"{advice.severity}: {advice.message}")


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
