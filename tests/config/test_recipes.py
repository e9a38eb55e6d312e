"""Recipes: each makes a valid config, names its source, and is what its strategy takes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dpo_tui.advice.config_rules import advise
from dpo_tui.cli import cli
from dpo_tui.config.files import from_values, load
from dpo_tui.config.recipes import RECIPES, Recipe, recipe_of
from dpo_tui.errors import ConfigError
from dpo_tui.views.run_plan import RunPlan, recipe_changes, with_recipe, with_values


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_a_valid_config_without_a_warning(tmp_path: Path, recipe: Recipe) -> None:
    printed = CliRunner().invoke(cli, ["config", "init", "--recipe", recipe.name])
    assert printed.exit_code == 0 and recipe.source in " ".join(printed.output.replace("#", " ").split())
    path = tmp_path / "config.toml"
    path.write_text(printed.output, encoding="utf-8")
    config = load(path).config
    assert {name: getattr(config, name) for name in recipe.values} == dict(recipe.values)
    assert not [advice for advice in advise(config) if advice.severity != "info"]
    assert config == from_values({"model_name": config.model_name, "dataset": config.dataset, **recipe.values})


def test_the_recipes_are_listed_and_an_unknown_one_is_refused_with_them() -> None:
    listed = CliRunner().invoke(cli, ["config", "init", "--recipe", "list"]).output
    assert all(recipe.name in listed and recipe.title in listed for recipe in RECIPES.values())
    with pytest.raises(ConfigError, match="no recipe 'dpa'") as refused:
        recipe_of("dpa")
    assert "dpo-norm" in (refused.value.hint or "")


def test_one_recipe_after_another_leaves_nothing_of_the_first() -> None:
    """And what the user set besides stays."""
    plan = with_recipe(with_values(RunPlan(), {"lora_r": 8, "learning_rate": 2e-6}), "conservative")
    assert (plan.config.loss_type, plan.config.label_smoothing) == (["robust"], 0.1)
    plan = with_recipe(plan, "orpo")
    assert not plan.problems, "label_smoothing does nothing with ORPO"
    assert (plan.config.strategy, plan.config.label_smoothing, plan.config.lora_r) == ("orpo", 0.0, 8)
    assert "learning_rate = 8e-6 (was 5e-7)" in recipe_changes(plan)
    changed = with_values(plan, {"beta": 0.3})
    assert "beta = 0.1 (now 0.3, by you)" in recipe_changes(changed)
    assert with_recipe(plan, "none").config.strategy == "dpo"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_what_a_recipe_writes_is_not_advised_against_by_the_check_of_it(tmp_path: Path, recipe: Recipe) -> None:
    """Not even as a remark: an adapter is trained, and the rate is one for an adapter."""
    path = tmp_path / "config.toml"
    path.write_text(CliRunner().invoke(cli, ["config", "init", "--recipe", recipe.name]).output, encoding="utf-8")
    assert advise(load(path).config) == []
