"""Recipes on the shipped model and pairs, as long as the demo trains: they learn, and the advice finds no fault."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.config.files import from_values
from dpo_tui.config.recipes import RECIPES
from dpo_tui.config.schema import Config
from dpo_tui.demo import assets
from tests.support.training import lines, train

QUICK = ("simpo",)
SLOW = ("orpo", "dpo-norm")
# The logged accuracy compares sums over whole answers, which is not what a loss of means per token makes large.
OTHER_METRIC = ("dpo-norm",)
# The demo's own, which suit its toy model; recipes name rates of real models.
KEPT = ("learning_rate",)


def demo_config(**values: Any) -> Config:
    """The demo's settings with others of the loss; evaluated at the start, in the middle and at the end."""
    tables = tomllib.loads(assets.config_file().read_text(encoding="utf-8"))
    settings = {name: value for table in tables.values() for name, value in table.items() if name != "beta"}
    places = {"model_name": assets.model_dir(), "dataset": assets.pairs_file(), "eval_dataset": assets.heldout_file()}
    short = {"gpus": "none", "sample_prompts": 0, "kl_prompts": 0, "eval_steps": 25}
    return from_values(settings | {name: str(place) for name, place in places.items()} | short | values)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_it_learns_the_shipped_pairs_and_the_advice_is_silent(home: Path, name: str) -> None:
    config = demo_config(**{key: value for key, value in RECIPES[name].values.items() if key not in KEPT})
    folder = train(config)
    written = lines(folder.metrics)
    evaluated = [line for line in written if "eval_rewards/accuracies" in line]
    if name in OTHER_METRIC:
        assert evaluated[-1]["eval_loss"] < 0.9 * evaluated[0]["eval_loss"]
    else:
        assert evaluated[-1]["eval_rewards/accuracies"] > 0.9
    receipt = json.loads(folder.receipt.read_text(encoding="utf-8"))
    found = apply_rules(Evidence(config.model_dump(), written, receipt, max_steps=config.max_steps))
    assert [(one.rule, one.message) for one in found if one.severity != "info"] == []
    assert found[0].rule == "healthy"
