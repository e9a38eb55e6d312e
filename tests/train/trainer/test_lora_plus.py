"""LoRA+: PEFT's optimizer in every trainer of ours, and refused where nothing would read it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.errors import TrainingError
from dpo_tui.train.worker.stop_requests import StopRequested
from tests.support.trained_both_ways import ours
from tests.support.training import losses, make_config, make_run, train

QUICK = {"sample_prompts": 0, "kl_prompts": 0, "eval_split": 0.0, "loraplus_lr_ratio": 8.0, "max_steps": 2}


@pytest.mark.parametrize("strategy", ["dpo", "sft", "kto", "orpo", "simpo"])
def test_b_learns_faster_than_a_in_every_strategy(
    home: Path, tiny_model: Path, tiny_pairs: Path, strategy: str
) -> None:
    """By rate, weight decay and step: after one step of Adam without decay a weight has moved by its rate."""
    changes = {"strategy": strategy, "max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    trained = ours(make_config(tiny_model, tiny_pairs, **(QUICK | changes | {"warmup_ratio": 0.0})))
    rates = {id(weight): group["lr"] for group in trained.trainer.optimizer.param_groups for weight in group["params"]}
    found = {name: rates.get(id(weight)) for name, weight in trained.trainer.model.named_parameters()}
    assert {rate for name, rate in found.items() if "lora_A" in name} == {1e-3}
    assert {rate for name, rate in found.items() if "lora_B" in name} == {8e-3}
    assert all(rate is None for name, rate in found.items() if "lora_" not in name)
    moved = [weight.abs().max().item() for name, weight in trained.trainer.model.named_parameters() if "lora_B" in name]
    assert max(moved) == pytest.approx(8e-3, rel=1e-3), "B begins at 0"


def test_the_optimizer_keeps_its_class_its_arguments_and_the_weight_decay(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    changes = {"optim": "adafactor", "weight_decay": 0.1, "adam_beta2": 0.9, "max_steps": 1}
    for optim in ("adamw_torch", "adafactor"):
        config = make_config(tiny_model, tiny_pairs, **(QUICK | changes | {"optim": optim}))
        optimizer = ours(config).trainer.optimizer.optimizer
        assert type(optimizer).__name__ == {"adamw_torch": "AdamW", "adafactor": "Adafactor"}[optim]
        assert {group["weight_decay"] for group in optimizer.param_groups if group["params"]} == {0.1}
        if optim == "adamw_torch":
            assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.9)}


def test_a_resume_goes_on_with_the_same_losses(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs, **(QUICK | {"max_steps": 6, "save_steps": 3, "eval_split": 0.2}))
    whole = losses(train(config))
    folder = make_run(config)
    from tests.train.trainer.test_labelled_trainer import _StopAfter

    with pytest.raises(StopRequested):
        train(config, folder, _StopAfter(folder, 3))
    assert max(losses(folder)) < 6
    train(config, folder)
    assert losses(folder) == pytest.approx(whole, abs=1e-6)


def test_without_it_the_optimizer_is_trainers_own(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    trained = ours(make_config(tiny_model, tiny_pairs, **(QUICK | {"loraplus_lr_ratio": None, "max_steps": 1})))
    assert len({group["lr"] for group in trained.trainer.optimizer.param_groups}) == 1
    assert torch.isfinite(trained.weights).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_lora": False}, "no adapter whose matrices"),
        ({"provider": "unsloth"}, "whose trainer makes the optimizer"),
        ({"loraplus_lr_ratio": 0}, "loraplus_lr_ratio"),
    ],
)
def test_where_nothing_would_read_it_it_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        from_values({"model_name": "m", "dataset": "d", "loraplus_lr_ratio": 4.0} | changes)


def test_an_optimizer_that_divides_the_weights_by_itself_is_refused() -> None:
    from dpo_tui.train.trainer.lora_plus import LoraPlus

    trainer = LoraPlus()
    trainer.optimizer, trainer.model, trainer.loraplus_lr_ratio = None, None, 4.0
    trainer.args = type("Arguments", (), {"optim": "galore_adamw", "weight_decay": 0.0})
    trainer.get_optimizer_cls_and_kwargs = lambda *_: (torch.optim.AdamW, {"lr": 1e-3, "params": []})
    with pytest.raises(TrainingError, match="divides the weights by itself"):
        trainer.create_optimizer()
