"""`dpo-tui demo`: train the shipped toy model on the shipped pairs, without network and GPU, and show the result."""

import json
import os
import shutil
import sys
import textwrap
from itertools import chain
from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.follow import follow
from dpo_tui.cli.open_app import can_show_app, open_app
from dpo_tui.cli.output import narrate
from dpo_tui.config.files import load
from dpo_tui.demo import assets
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_all
from dpo_tui.runs.start_run import ARGV_VARIABLE, start
from dpo_tui.runs.status import status_of
from dpo_tui.start.prepare import create_run, prepare
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
def demo(no_tui: bool) -> None:
    """Train the shipped toy model on the shipped pairs, and show what changed."""
    narrate(textwrap.fill(_INTRODUCTION, _width(), break_on_hyphens=False) + "\n")
    os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
    folder = start_demo()
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


def start_demo() -> RunFolder:
    """Start the demo's run in the background."""
    shipped = {
        "model_name": str(assets.model_dir()),
        "dataset": str(assets.pairs_file()),
        "eval_dataset": str(assets.heldout_file()),
    }
    folder = create_run(prepare(load(assets.config_file(), shipped), name="demo"))
    start(folder)
    return folder


def _show_result(folder: RunFolder) -> None:
    metrics = _read_lines(folder.metrics)
    evaluations = [(line["step"], line["eval_rewards/accuracies"]) for line in metrics if "eval_loss" in line]
    click.echo("\nPreference accuracy on held-out pairs:")
    for step, accuracy in evaluations:
        bar = "█" * round(accuracy * 40)
        note = f"  ({_TIE_NOTE})" if step == 0 else ""
        click.echo(
            textwrap.fill(f"  step {step:>3}  {accuracy:>4.0%}  {bar}{note}", _width(), subsequent_indent=" " * 18)
        )
    _show_answers(_read_lines(folder.samples))
    click.echo()
    click.echo(textwrap.fill(_NEXT_STEPS, _width(), break_on_hyphens=False))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return list(chain.from_iterable(read_all(path)))


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
