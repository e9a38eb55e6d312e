"""Quantisation other than NF4, by [model_init] quantization_config: real bitsandbytes, on the CPU."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.passthrough import passthrough_problems
from tests.support.trained_both_ways import ours
from tests.support.training import make_config


@pytest.mark.parametrize(
    ("table", "layer"),
    [
        ({"load_in_8bit": True}, "Linear8bitLt"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False}, "Linear4bit"),
    ],
    ids=["int8", "fp4"],
)
@pytest.mark.usefixtures("home")
def test_an_adapter_trains_over_it(tiny_model: Path, tiny_pairs: Path, table: dict[str, Any], layer: str) -> None:
    settings = {"max_steps": 4, "eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0, "learning_rate": 1e-2}
    config = make_config(tiny_model, tiny_pairs, **settings, model_init={"quantization_config": table})
    assert passthrough_problems(config) == []
    trained = ours(config)
    kinds = {type(module).__name__ for module in trained.trainer.model.modules()}
    assert layer in kinds
    assert trained.log[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and trained.log[-1]["loss"] < 0.69


@pytest.mark.parametrize("more", [{"use_4bit": True}, {"use_lora": False}], ids=str)
def test_two_sources_of_it_and_full_fine_tuning_are_refused(more: dict[str, Any]) -> None:
    values = {"model_name": "m", "dataset": "d", "model_init": {"quantization_config": {"load_in_8bit": True}}, **more}
    assert [problem.key for problem in passthrough_problems(from_values(values))] == ["model_init.quantization_config"]
