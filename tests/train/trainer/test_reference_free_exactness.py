"""ORPO, CPO and SimPO against TRL's own trainers: the same losses, gradients and weights, step by step."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.config.schema import Config
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import Trained, ours, plain_trl_without_reference
from tests.support.training import make_config

STEPS = 12
COMPARED = (
    "loss",
    "grad_norm",
    "learning_rate",
    "nll_loss",
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "log_odds_ratio",
    "log_odds_chosen",
)
METHODS: list[dict[str, Any]] = [
    {"strategy": "orpo", "beta": 0.3},
    {"strategy": "simpo"},
    {"strategy": "simpo", "cpo_alpha": 0.5, "label_smoothing": 0.1, "simpo_gamma": 0.4},
    {"strategy": "cpo"},
    {"strategy": "cpo", "loss_type": ["ipo"], "beta": 0.5},
    {"strategy": "cpo", "loss_type": ["hinge"], "cpo_alpha": 0.2},
]


@pytest.fixture(scope="module")
def varied_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and answers of many lengths, some cut at the end."""
    shuffle = random.Random(7)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    path = tmp_path_factory.mktemp("varied") / "pairs.jsonl"
    rows = [{"prompt": f"{n} {text(12)}", "chosen": text(20), "rejected": text(12)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(model: Path, pairs: Path, **changes: Any) -> Config:
    values = {
        "max_steps": STEPS,
        "max_seq_length": 48,
        "learning_rate": 5e-3,
        "eval_split": 0.0,
        "sample_prompts": 0,
        "save_steps": 1000,
    }
    return make_config(model, pairs, **(values | changes))


def largest_difference(one: Trained, other: Trained) -> float:
    assert len(one.log) == len(other.log) == STEPS
    both = [name for name in COMPARED if name in one.log[0]]
    assert len(both) >= 10
    steps = list(zip(one.log, other.log, strict=True))
    return float(max(abs(mine[name] - theirs[name]) for mine, theirs in steps for name in both))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(str(value) for value in method.values()))
def test_every_step_is_trls(home: Path, tiny_model: Path, varied_pairs: Path, method: dict[str, Any]) -> None:
    """≤ 1e-4 apart over 12 steps with shared prompts and the LM head at labels; cosine ≥ 0.9999."""
    config = config_of(tiny_model, varied_pairs, **method)
    plain, mine = plain_trl_without_reference(config), ours(config)
    second = [weight for name, weight in plain.trainer.model.named_parameters() if "lora_B" in name]
    assert all(weight.abs().max() > 1e-3 for weight in second), "it learns nothing, so nothing is compared"
    assert largest_difference(plain, mine) <= 1e-4
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
    report = mine.trainer.shortcuts.report()
    assert report["share_prefix"]["on"] and report["share_prefix"]["saved"] > 0.1
    assert report["labelled_head"]["on"] and report["labelled_head"]["saved"] > 0.1


LAYOUTS: dict[str, dict[str, Any]] = {
    "accumulation": {"gradient_accumulation_steps": 4},
    "full": {"use_lora": False, "learning_rate": 1e-4, "gradient_accumulation_steps": 2},
    "cut at the start": {"truncation_mode": "keep_end", "max_seq_length": 32},
    "eager": {"attn_implementation": "eager", "gradient_checkpointing": False, "per_device_train_batch_size": 3},
    "nothing shared": {"share_prefix": "off"},
}
# Each layout once, with one strategy or the other.
QUICK = {
    ("orpo", "accumulation"),
    ("simpo", "full"),
    ("orpo", "cut at the start"),
    ("simpo", "eager"),
    ("orpo", "nothing shared"),
}
BY_STRATEGY = [
    pytest.param(
        strategy, changes, id=f"{strategy}-{name}", marks=[] if (strategy, name) in QUICK else pytest.mark.slow
    )
    for strategy in ("orpo", "simpo")
    for name, changes in LAYOUTS.items()
]


@pytest.mark.parametrize(("strategy", "changes"), BY_STRATEGY)
def test_other_layouts_are_trls_too(
    home: Path, tiny_model: Path, varied_pairs: Path, strategy: str, changes: dict[str, Any]
) -> None:
    config = config_of(tiny_model, varied_pairs, strategy=strategy, **changes)
    plain, mine = plain_trl_without_reference(config), ours(config)
    assert largest_difference(plain, mine) <= 1e-4
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999


def test_without_trls_fused_head_the_losses_are_the_same(
    home: Path, tiny_model: Path, varied_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL before 1.16 has none: then every position is projected, and prompts are shared all the same."""
    import trl.trainer.utils

    config = config_of(tiny_model, varied_pairs, strategy="orpo")
    with_head = ours(config)
    monkeypatch.delattr(trl.trainer.utils, "add_fused_lm_head")
    without = ours(config)
    assert not without.trainer.shortcuts.has_fused_head
    assert without.trainer.shortcuts.report()["share_prefix"]["saved"] > 0.1
    assert largest_difference(with_head, without) <= 1e-4
    for name in ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected"):
        assert with_head.log[-1][name] == pytest.approx(without.log[-1][name], abs=1e-4)
