"""load_best_model_at_end and its companions become load_best and early_stopping_patience."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.dialects import axolotl, llama_factory, ms_swift, trl
from dpo_tui.config.dialects.conversion import Conversion
from dpo_tui.config.files import from_values
from dpo_tui.config.passthrough import passthrough_problems
from dpo_tui.config.problems import unknown_key

ON = {"load_best_model_at_end": True}


def converted(raw: dict[str, Any]) -> Conversion:
    return trl.convert({"model_name_or_path": "m", "dataset_name": "d", **raw}, Path())


@pytest.mark.parametrize(
    ("keys", "load_best"),
    [
        (ON, "loss"),
        (ON | {"metric_for_best_model": "eval_loss", "greater_is_better": False}, "loss"),
        (ON | {"metric_for_best_model": "eval_rewards/accuracies", "greater_is_better": "true"}, "accuracy"),
        (ON | {"metric_for_best_model": "rewards/margins"}, "margin"),
        ({"early_stopping_patience": "3", "metric_for_best_model": "rewards/margins"}, "margin"),
        ({"load_best_model_at_end": False, "metric_for_best_model": "rewards/margins"}, None),
        ({"early_stopping_patience": None}, None),
    ],
)
def test_the_metric_becomes_what_is_compared(keys: dict[str, Any], load_best: str | None) -> None:
    conversion = converted(keys)
    assert conversion.values.get("load_best") == load_best
    assert not [row for row in conversion.outcomes if row.outcome == "undecided"]
    assert conversion.values.get("early_stopping_patience") == (3 if "3" in keys.values() else None)


@pytest.mark.parametrize(
    ("keys", "undecided"),
    [
        (ON | {"metric_for_best_model": "f1"}, {"load_best_model_at_end", "metric_for_best_model"}),
        (ON | {"greater_is_better": True}, {"greater_is_better"}),
    ],
)
def test_another_metric_or_direction_is_for_the_user_to_decide(keys: dict[str, Any], undecided: set[str]) -> None:
    assert {row.key for row in converted(keys).outcomes if row.outcome == "undecided"} == undecided


def test_the_patience_of_the_other_tools_brings_what_it_compares() -> None:
    files = [
        axolotl.convert({"base_model": "m", "rl": "dpo", "early_stopping_patience": 2}, Path()),
        llama_factory.convert({"model_name_or_path": "m", "stage": "dpo", "early_stopping_steps": 2}, Path()),
        ms_swift.convert({"model": "m", "rlhf_type": "dpo", "early_stop_interval": 2}, Path()),
    ]
    for conversion in files:
        assert (conversion.values["early_stopping_patience"], conversion.values["load_best"]) == (2, "loss")


def test_trls_names_lead_to_the_setting() -> None:
    for name in ("load_best_model_at_end", "metric_for_best_model"):
        assert "did you mean load_best" in unknown_key(name, 1).message
        config = from_values({"model_name": "m", "dataset": "d", "trl": {name: "loss"}})
        (problem,) = passthrough_problems(config)
        assert "load_best" in problem.message
