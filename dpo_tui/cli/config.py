"""`dpo-tui config init|check|show|convert|fix`: make, check, print, convert and mend config files."""

import re
import textwrap
from pathlib import Path

import click

from dpo_tui.advice.config_rules import advise
from dpo_tui.cli.output import narrate
from dpo_tui.cli.run_argument import RUN
from dpo_tui.config.files import LoadedConfig, load
from dpo_tui.config.files import convert as convert_file
from dpo_tui.config.passthrough import require_passthrough
from dpo_tui.config.recipes import RECIPES, Recipe, recipe_of
from dpo_tui.config.schema import PASSTHROUGH, SECTIONS
from dpo_tui.config.toml_text import inline, template, to_toml
from dpo_tui.errors import UsageError
from dpo_tui.start.adapter_start import require_mergeable
from dpo_tui.start.reference_refusal import reference_refusal
from dpo_tui.start.slurm_check import check_launcher
from dpo_tui.text.printable import printable

_WIDTH = 80
_FILE = click.Path(path_type=Path)


@click.group()
def config() -> None:
    """Make, check, show, convert and mend config files."""


@config.command()
@click.option("-o", "--output", type=_FILE, help="Write to this file instead of stdout; it must not exist.")
@click.option("--recipe", metavar="NAME", help="Fill in the loss and settings of a recipe; `list` prints them all.")
def init(output: Path | None, recipe: str | None) -> None:
    """Print a config file with every setting explained."""
    if recipe == "list":
        for one in RECIPES.values():
            click.echo(f"{one.name:<13} {one.title}: {_assignments(one)}")
            for line in textwrap.wrap(f"Take it {one.when}. From: {one.source}", _WIDTH - 14):
                click.echo(f"{'':<13} {line}")
        return
    if recipe is None:
        _write_or_print(template(), output)
        return
    chosen = recipe_of(recipe)
    heading = f"Recipe {chosen.name}, {chosen.title} ({chosen.source}): {_assignments(chosen)}"
    _write_or_print(template(chosen.values, heading), output)


@config.command()
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Say everything that is wrong, or unwise, in a config file."""
    loaded = load(file)
    require_passthrough(loaded)
    require_mergeable(loaded)
    if (refusal := reference_refusal(loaded)) is not None:
        raise refusal
    for note in check_launcher(loaded.config):
        click.echo(textwrap.fill(f"slurm: {note}", _WIDTH, subsequent_indent="  "))
    for advice in advise(loaded.config):
        click.echo(textwrap.fill(f"{advice.severity}: {advice.message}", _WIDTH, subsequent_indent="  "))
    click.echo(f"{printable(str(file))}: {len(loaded.origins)} settings, all valid{_dialect(loaded)}")


@config.command()
@click.option(
    "--all", "everything", is_flag=True, help="What finally reaches TRL, PEFT and transformers, too; takes seconds."
)
@click.argument("file", type=_FILE)
def show(file: Path, everything: bool) -> None:
    """Print every setting with its value and where it came from."""
    loaded = load(file)
    if everything:
        require_passthrough(loaded)
    for table, section in SECTIONS.items():
        click.echo(f"[{table}]")
        if table in PASSTHROUGH:
            for name, value in getattr(loaded.config, table).items():
                _show_row(name, inline(value), loaded.origin(f"{table}.{name}"))
            continue
        for name in section.model_fields:
            value = getattr(loaded.config, name)
            unused = name == "warmup_ratio" and loaded.config.warmup_steps is not None
            _show_row(name, "—" if value is None or unused else str(value), loaded.origin(name))
    if everything:
        _show_arguments(loaded)


@config.command()
@click.argument("file", type=_FILE)
@click.option("-o", "--output", type=_FILE, help="Write to this file instead of stdout; it must not exist.")
def convert(file: Path, output: Path | None) -> None:
    """Turn a config of another tool into ours and say what became of every key.

    Keys that would change the training and have no counterpart are written into the table [undecided] of the result,
    from which no run starts until they are removed.
    """
    converted = convert_file(file)
    for row in converted.outcomes:
        target = f" → {row.to}" if row.outcome == "renamed" else ""
        why = f": {row.why}" if row.why else ""
        narrate(f"{row.outcome:<9} {printable(row.key, single_line=True)}{target}{printable(why, single_line=True)}")
    for name in sorted(converted.missing):
        narrate(f"missing   {name}: the file names none")
    narrate(f"read as {converted.dialect or 'a dpo-tui config'}")
    if converted.undecided:
        narrate(f"! {len(converted.undecided)} to decide about: see [undecided] at the end of the result")
    _write_or_print(converted.to_toml(), output)


@config.command()
@click.argument("run", type=RUN)
@click.option("-o", "--output", type=_FILE, help="The file to write; made from the run's name when left out.")
def fix(run: str, output: Path | None) -> None:
    """Write the config of a run with its diagnosis' remedy worked in, to train again.

    RUN is an id, a unique prefix of it, a name, or `last`. Prints the file's name.
    """
    # A diagnosis reads a run; the other commands read a config.
    from dpo_tui.advice.remedies import config_with_remedy, remedy_lines
    from dpo_tui.groups.group_store import find_run

    mended, advice = config_with_remedy(find_run(run).path)
    narrate(advice.message)
    for line in remedy_lines(advice.remedy):
        narrate(f"  {printable(line, single_line=True)}")
    target = output or Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', mended.name)}.toml")
    _write_or_print(f"# {advice.rule}: {' '.join(advice.message.split())}\n\n{to_toml(mended)}", target)
    click.echo(target)
    narrate(f"  dpo-tui train {target}   starts it")


def _show_arguments(loaded: LoadedConfig) -> None:
    """Print what the settings become for each library: a child, which imports them, makes their arguments."""
    # Only this starts a child, which needs a GPU that no run holds.
    from dpo_tui.config.argument_origins import origin_of
    from dpo_tui.hardware.tool_gpu import tool_environment
    from dpo_tui.processes.torch_tool import run_tool

    narrate("asking TRL, PEFT and transformers …")
    # Where a run would train: the precision follows the device.
    environment = tool_environment(loaded.config.gpus)
    found = run_tool("library_arguments", {"settings": loaded.config.model_dump()}, environment=environment)
    for library, arguments in found["libraries"].items():
        click.echo(f"\n{library}")
        defaults = found["defaults"].get(library, {})
        for name, value in arguments.items():
            shown = "—" if value is None else inline(value)
            _show_row(name, shown, origin_of(loaded, library, name, value, defaults))


def _assignments(recipe: Recipe) -> str:
    return ", ".join(f"{name} = {inline(value)}" for name, value in recipe.values.items())


def _show_row(name: str, value: str, origin: str) -> None:
    click.echo(f"  {printable(name, single_line=True):<30} {printable(value, single_line=True):<34} {origin}")


def _write_or_print(text: str, output: Path | None) -> None:
    """Print a text, or write it to a new file.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                output.unlink()  # the next try would refuse to overwrite an incomplete file
                raise
    except FileExistsError:
        raise UsageError(f"{output}: exists already", hint="name another file, or remove it first") from None
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror}") from None
    narrate(f"wrote {output}")


def _dialect(loaded: LoadedConfig) -> str:
    return f" (read as {loaded.dialect})" if loaded.dialect else ""
