"""Dropout is switched off wherever a model has it, and its saved config keeps the rates that it came with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.train.model.dropout_rates import config_as_loaded, config_rates, disable_dropout, module_rates
from tests.support.families import FAMILIES, build, options_of
from tests.support.training import losses, make_config, train

WITH_DROPOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "torch's modules": ("gpt-neo", {"attention_dropout": 0.3, "resid_dropout": 0.2}),
    "attributes of attention": ("llama", {"attention_dropout": 0.3}),
    "attributes of layers": ("opt", {"dropout": 0.3}),
    "whole layers": ("opt", {"dropout": 0.0, "layerdrop": 0.5}),
    "both": ("seed-oss", {}),
}


def made(kind: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(FAMILIES[kind].model_type, **options_of(kind, vocab_size=100, **changes))
    return AutoModelForCausalLM.from_config(config)


def differs_in_training(model: Any) -> bool:
    model.train()
    ids = torch.arange(1, 31)[None]
    with torch.no_grad():
        return not all(torch.equal(model(ids).logits, model(ids).logits) for _ in range(4))


@pytest.mark.parametrize("kind", WITH_DROPOUT.values(), ids=WITH_DROPOUT.keys())
def test_two_passes_in_training_are_the_same(kind: tuple[str, dict[str, Any]]) -> None:
    name, changes = kind
    model = made(name, **changes)
    assert module_rates(model)
    assert differs_in_training(model)
    before = model.config.to_dict()
    rates = disable_dropout(model)
    assert not differs_in_training(model)
    assert module_rates(model) == config_rates(model) == []
    with config_as_loaded(rates):
        assert model.config.to_dict() == before
    assert config_rates(model) == []


def test_a_rate_that_is_read_from_the_config_in_every_pass_is_reached() -> None:
    class ReadsConfig(torch.nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(states, self.config.attention_dropout, self.training)

    model = made("llama", attention_dropout=0.5)
    layer = ReadsConfig(model.config)
    disable_dropout(layer)
    assert torch.equal(layer(torch.ones(100)), torch.ones(100))


def test_what_only_sounds_like_a_rate_is_left_alone() -> None:
    module = torch.nn.Linear(2, 2)
    module.drop_last, module.drop_block_size, module.dropout_seed = True, 7, "x"  # type: ignore[assignment]
    assert module_rates(module) == []
    disable_dropout(module)
    assert (module.drop_last, module.drop_block_size) == (True, 7)


@pytest.mark.parametrize("use_lora", [True, False], ids=["lora", "full"])
def test_a_run_starts_where_policy_and_reference_agree(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, *, use_lora: bool
) -> None:
    """OPT's dropout of 0.1 is a function's; with disable_dropout = true the first loss is ln 2, as the docs say."""
    model = build("opt", tmp_path / "opt", tiny_model)
    settings = {"sample_prompts": 0, "kl_prompts": 0, "max_steps": 2, "eval_split": 0.0, "use_lora": use_lora}
    folder = train(make_config(model, tiny_pairs, precompute_ref_log_probs="off", **settings))
    assert losses(folder)[1] == pytest.approx(0.6931, abs=1e-4)
    if not use_lora:
        assert json.loads((folder.merged / "config.json").read_text())["dropout"] == 0.1
        for checkpoint in folder.checkpoints.glob("checkpoint-*"):
            assert json.loads((checkpoint / "config.json").read_text())["dropout"] == 0.1
