"""`dpo-tui demo`: train the shipped toy model on the shipped pairs, without network and GPU, and show the result."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from dpo_tui.cli.follow import follow
from dpo_tui.cli.open_app import can_show_app, open_app
from dpo_tui.cli.output import narrate
from dpo_tui.config.files import load
from dpo_tui.config.recipes import recipe_of
from dpo_tui.demo import assets
from dpo_tui.errors import UsageError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_lines
from dpo_tui.runs.start_run import ARGV_VARIABLE, start
from dpo_tui.runs.status import status_of
from dpo_tui.start.prepare import create_run, prepare
from dpo_tui.strategies.metric_expectations import PREFERENCE_ACCURACY, PREFERENCE_MARGIN
from dpo_tui.text.printable import printable

_INTRODUCTION = (
    "dpo-tui demo: real DPO training of a toy. The model is tiny, ships with dpo-tui, and answers support "
    "questions now helpfully, now curtly; the pairs prefer the helpful answers. About a minute on two cores; "
    "nothing is downloaded."
)
_MOST_COLUMNS = 100
_TIE_NOTE = (
    "at step 0 policy and reference are the same model: margins are 0, which TRL counts as no win; chance is 50 %"
)
_NEXT_STEPS = (
    "The model is a toy: it knows nothing beyond these questions. For yours: `dpo-tui config init > config.toml`, name "
    "your model and your pairs in it, and `dpo-tui train config.toml`."
)


@click.command()
@click.option("--no-tui", is_flag=True, help="Plain text, also in a terminal.")
@click.option(
    "--recipe", metavar="NAME", help="Train with the loss of a recipe; `config init --recipe list` names them."
)
@click.option("--improve", is_flag=True, help="No pairs, only questions: rounds of sampled answers and a judge.")
def demo(no_tui: bool, recipe: str | None, improve: bool) -> None:
    """Train the shipped toy model on the shipped pairs, and show what changed."""
    if improve:
        if recipe:
            raise UsageError("--recipe is for the demo on pairs")
        from dpo_tui.cli.demo_improve import improve_demo

        sys.exit(improve_demo())
    settings = demo_settings(recipe)
    narrate(textwrap.fill(_INTRODUCTION, _width(), break_on_hyphens=False) + "\n")
    os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
    folder = start_demo(settings)
    code = follow(folder) if no_tui or not can_show_app() else _show_in_app(folder)
    if code == 0:
        _show_result(folder)
    sys.exit(code)


def _show_in_app(folder: RunFolder) -> int:
    """Show the run in the app, which exits when the run has ended; return the command's exit code."""
    from dpo_tui.views.run_feed import RunFeed

    open_app(RunFeed(folder), until_end=True)
    if status_of(folder).over:
        return follow(folder)
    narrate(f"The demo goes on without you: `dpo-tui attach {folder.id}` watches it again.")
    sys.exit(0)


def demo_settings(recipe: str | None = None) -> dict[str, Any]:
    """Return the settings of the demo's run that are not in its config file.

    Args:
        recipe: whose loss to train with, at a rate for the toy model; None for the config's own.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    shipped: dict[str, Any] = {
        "model_name": str(assets.model_dir()),
        "dataset": str(assets.pairs_file()),
        "eval_dataset": str(assets.heldout_file()),
    }
    if recipe is None:
        return shipped
    values = {name: value for name, value in recipe_of(recipe).values.items() if name != "learning_rate"}
    rate = assets.RECIPE_RATES.get(recipe)
    return shipped | values | ({"learning_rate": rate} if rate is not None else {})


def start_demo(settings: Mapping[str, Any] | None = None) -> RunFolder:
    """Start the demo's run in the background.

    Args:
        settings: from :func:`demo_settings`, those of the demo as it ships when left out.
    """
    changes = demo_settings() if settings is None else settings
    folder = create_run(prepare(load(assets.config_file(), changes), name="demo"))
    start(folder)
    return folder


def _show_result(folder: RunFolder) -> None:
    metrics = read_lines(folder.metrics)
    evaluations = [line for line in metrics if "eval_loss" in line]
    if not any(PREFERENCE_ACCURACY in name for line in evaluations for name in line):
        _show_margins(evaluations)
    else:
        _show_accuracies([(line["step"], line[f"eval_{PREFERENCE_ACCURACY}"]) for line in evaluations])
    _show_answers(read_lines(folder.samples))
    click.echo()
    click.echo(textwrap.fill(_NEXT_STEPS, _width(), break_on_hyphens=False))


def _show_margins(evaluations: list[dict[str, Any]]) -> None:
    """The evaluations of a method that compares no two answers to a prompt, such as KTO."""
    click.echo("\nMean reward of good answers above bad ones, held out:")
    for line in evaluations:
        click.echo(f"  step {line['step']:>3}  margin {line[f'eval_{PREFERENCE_MARGIN}']:.2f}")


def _show_accuracies(evaluations: list[tuple[int, float]]) -> None:
    click.echo("\nPreference accuracy on held-out pairs:")
    for step, accuracy in evaluations:
        bar = "█" * round(accuracy * 40)
        note = f"  ({_TIE_NOTE})" if step == 0 and accuracy == 0 else ""
        click.echo(
            textwrap.fill(f"  step {step:>3}  {accuracy:>4.0%}  {bar}{note}", _width(), subsequent_indent=" " * 18)
        )


def _show_answers(samples: list[dict[str, Any]]) -> None:
    width = _width()
    before = [sample for sample in samples if sample["when"] == "before"]
    after = {json.dumps(sample["prompt"]): sample["answer"] for sample in samples if sample["when"] == "after"}
    for sample in before:
        click.echo()
        for label, text in (
            ("question", sample["prompt"][-1]["content"]),
            ("before", sample["answer"]),
            ("after", after.get(json.dumps(sample["prompt"]), "—")),
        ):
            shown = printable(str(text), single_line=True)
            click.echo(textwrap.fill(shown, width, initial_indent=f"{label:>9}  ", subsequent_indent=" " * 11))


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _MOST_COLUMNS) - 2
