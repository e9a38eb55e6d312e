"""Runs side by side: what differs and what came of it, from their files alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import store


def make_run(name: str, digest: str, metrics: dict[str, Any], *, held_out: int = 0, **settings: Any) -> str:
    config = from_values({"model_name": "m", "dataset": "d", "name": name, **settings})
    folder = store.create(to_toml(config), name=name, devices=[])
    lines = [{"t": 1.0, "step": 10, **metrics}]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.receipt.write_text(json.dumps({"data": {"sha256": digest, "held_out": held_out}}))
    return folder.id


def invoke(*words: str) -> Any:
    return CliRunner().invoke(cli, ["compare", *words], catch_exceptions=False)


def test_only_what_differs_is_shown_and_the_best_is_marked(home: Path) -> None:
    first = make_run("slow", "x", {"eval_loss": 0.6, "eval_rewards/accuracies": 0.7}, learning_rate=1e-6)
    second = make_run("fast", "x", {"eval_loss": 0.5, "eval_rewards/accuracies": 0.9}, learning_rate=5e-6)
    done = invoke(first, second)
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines() if line}
    assert "1e-6" in lines["learning_rate"]
    assert "5e-6" in lines["learning_rate"]
    assert "beta" not in lines
    assert lines["held-out loss"].endswith("0.5 *")
    assert lines["held-out accuracy"].endswith("0.9 *")

    shown = json.loads(invoke("slow", "fast", "--json").stdout)
    assert shown["settings"] == {"learning_rate": [1e-6, 5e-6]}
    assert shown["results"]["eval_loss"] == [0.6, 0.5]
    assert shown["best"] == {"eval_rewards/accuracies": 1, "eval_loss": 1}
    assert shown["same_held_out"] is True


def test_figures_from_different_held_out_pairs_come_with_a_warning(home: Path) -> None:
    """Held-out figures compare only on the same pairs."""
    first = make_run("one", "x", {"eval_loss": 0.6})
    second = make_run("two", "y", {"eval_loss": 0.5})
    assert "do not compare" in invoke(first, second).stderr
    assert "do not compare" not in invoke(first, first).stderr


def test_no_run_is_best_by_figures_that_do_not_compare(home: Path) -> None:
    figures = {"eval_loss": 0.5, "eval_rewards/margins": 2.0, "eval_rewards/accuracies": 0.9}
    make_run("plain", "x", {"eval_loss": 0.6, "eval_rewards/margins": 0.1, "eval_rewards/accuracies": 0.7})
    make_run("simpo", "x", figures, strategy="simpo", beta=2.0)
    make_run("stiff", "x", figures, beta=0.5)
    make_run("other data", "y", figures)
    for other in ("simpo", "stiff"):
        assert json.loads(invoke("plain", other, "--json").stdout)["best"] == {"eval_rewards/accuracies": 1}
    assert json.loads(invoke("plain", "other data", "--json").stdout)["best"] == {}


def test_none_of_several_equal_runs_is_best(home: Path) -> None:
    for name, accuracy in (("low", 0.5), ("high", 1.0), ("as high", 1.0)):
        make_run(name, "x", {"eval_rewards/accuracies": accuracy})
    assert json.loads(invoke("low", "high", "as high", "--json").stdout)["best"] == {}


def test_runs_without_numbers_are_compared_all_the_same(home: Path) -> None:
    first = make_run("one", "x", {})
    second = make_run("two", "x", {"eval_loss": float("nan"), "loss": 0.5})
    shown = json.loads(invoke(first, second, "--json").stdout)
    assert shown["results"] == {"loss": [None, 0.5]}
    assert shown["best"] == {}


@pytest.mark.parametrize(("held_out", "said"), [(50, "are the same within chance"), (2000, "is ahead of slow by more")])
def test_an_accuracy_that_chance_alone_may_make_is_called_so(home: Path, held_out: int, said: str) -> None:
    """0.70 and 0.76 differ by 0.06: on 50 pairs chance makes ±0.17, on 2,000 ±0.03 (Agresti and Caffo)."""
    make_run("slow", "x", {"eval_rewards/accuracies": 0.70}, held_out=held_out, learning_rate=1e-6)
    make_run("fast", "x", {"eval_rewards/accuracies": 0.76}, held_out=held_out, learning_rate=5e-6)
    done = invoke("slow", "fast")
    assert f"Held-out accuracy on {held_out:,} pairs: fast" in done.stdout
    assert said in done.stdout
    assert "another seed shows it" in done.stdout


def test_all_that_differs_between_seeds_is_called_chance(home: Path) -> None:
    make_run("one", "x", {"eval_rewards/accuracies": 0.5}, held_out=2000, seed=1)
    make_run("two", "x", {"eval_rewards/accuracies": 0.9}, held_out=2000, seed=2)
    assert json.loads(invoke("one", "two", "--json").stdout)["notes"] == [
        "Only the seed differs: what differs in the results is chance."
    ]


def test_nothing_is_said_of_accuracies_on_different_pairs(home: Path) -> None:
    make_run("one", "x", {"eval_rewards/accuracies": 0.5}, held_out=2000)
    make_run("two", "y", {"eval_rewards/accuracies": 0.9}, held_out=2000)
    assert "Held-out accuracy on" not in invoke("one", "two").stdout


def test_files_of_one_name_in_two_folders_are_told_apart(home: Path) -> None:
    make_run("one", "x", {}, dataset="/data/monday/pairs.jsonl")
    make_run("two", "y", {}, dataset="/data/sunday/pairs.jsonl")
    (line,) = [line for line in invoke("one", "two").stdout.splitlines() if line.startswith("dataset")]
    assert "monday/pairs.jsonl" in line
    assert "sunday/pairs.jsonl" in line
