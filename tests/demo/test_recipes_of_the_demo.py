"""Each recipe, from the file that `config init --recipe` writes, learns the sample, and the advice is silent."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.cli import cli
from dpo_tui.cli.demo import demo_settings
from dpo_tui.config.files import load
from dpo_tui.config.recipes import RECIPES
from dpo_tui.config.schema import Config
from dpo_tui.demo import assets
from dpo_tui.errors import ConfigError
from dpo_tui.strategies.registry import settings_of_losses, strategy_of
from tests.support.training import lines, train


def written_config(folder: Path, recipe: str) -> Config:
    """The file of a recipe, with the model, the data, and what suits the toy model in half a minute."""
    path = folder / "run.toml"
    path.write_text(CliRunner().invoke(cli, ["config", "init", "--recipe", recipe]).output, encoding="utf-8")
    tables = tomllib.loads(assets.config_file().read_text(encoding="utf-8"))
    sample = {name: value for table in tables.values() for name, value in table.items()}
    sample = {name: value for name, value in sample.items() if name not in settings_of_losses()}
    short: dict[str, Any] = {"gpus": "none", "sample_prompts": 0, "kl_prompts": 0, "eval_steps": 25}
    return load(path, sample | demo_settings(recipe) | short).config


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_learns_the_sample_and_the_advice_is_silent(home: Path, tmp_path: Path, name: str) -> None:
    config = written_config(tmp_path, name)
    folder = train(config)
    written = lines(folder.metrics)
    evaluated = [line for line in written if "eval_loss" in line]
    if strategy_of(config).has_preference_accuracy:
        assert evaluated[-1]["eval_rewards/accuracies"] > 0.9
    else:
        assert evaluated[-1]["eval_rewards/margins"] > 0.2 and evaluated[-1]["eval_loss"] < evaluated[0]["eval_loss"]
    receipt = json.loads(folder.receipt.read_text(encoding="utf-8"))
    found = apply_rules(Evidence(config.model_dump(), written, receipt, max_steps=config.max_steps))
    assert [(one.rule, one.message) for one in found if one.severity != "info"] == []
    assert found[0].rule == "healthy"


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_of_a_recipe_keeps_its_loss_under_the_settings_of_the_sample(tmp_path: Path, name: str) -> None:
    config = written_config(tmp_path, name)
    kept = {setting: value for setting, value in RECIPES[name].values.items() if setting != "learning_rate"}
    assert {setting: getattr(config, setting) for setting in kept} == kept
    assert config.learning_rate == assets.RECIPE_RATES.get(name, 1e-3) and config.max_steps == 50


def test_an_unknown_recipe_starts_no_demo(home: Path) -> None:
    said = CliRunner().invoke(cli, ["demo", "--no-tui", "--recipe", "dpa"])
    assert isinstance(said.exception, ConfigError) and not (home / "runs").exists()
