"""Families whose attention, dropout, RoPE or experts need care: the losses of plain TRL, shortcuts as they come."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.schema import Config
from tests.support.families import build
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import ours, plain_trl
from tests.support.training import make_config


@pytest.fixture(scope="module")
def long_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 30 to 300 tokens, so that batches of one length and another follow each other."""
    shuffle = random.Random(7)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    path = tmp_path_factory.mktemp("long") / "pairs.jsonl"
    rows = [{"prompt": f"{n} {text(90)}", "chosen": text(80), "rejected": text(40)} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def family(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write the model of a family."""
    return lambda name, **changes: build(name, tmp_path_factory.mktemp(name) / "model", tiny_model, **changes)


def config_of(model: Path, pairs: Path, **changes: Any) -> Config:
    values = {
        "num_train_epochs": 2,
        "max_steps": 9,
        "max_seq_length": 400,
        "learning_rate": 1e-3,
        "eval_split": 0.0,
        "sample_prompts": 0,
        "kl_prompts": 0,
        "save_steps": 1000,
        "per_device_train_batch_size": 2,
        "lora_r": 16,
    }
    return make_config(model, pairs, **(values | changes))


NO_DROPOUT = {"attention_dropout": 0.0, "dropout": 0.0, "residual_dropout": 0.0}


@pytest.mark.parametrize(
    ("name", "shares", "once"),
    [
        ("llama", True, True),
        ("gpt-neo", False, True),
        ("opt", True, True),
        ("seed-oss", True, True),
        ("granite", True, True),
        ("phi3-longrope", True, False),
        ("llama-dynamic-ntk", True, False),
        ("mixtral", True, True),
        ("qwen3-moe", True, True),
        ("gpt-oss", True, True),
        ("mistral-window-64", False, True),
    ],
)
def test_losses_are_trls(home: Path, family: Any, long_pairs: Path, *, name: str, shares: bool, once: bool) -> None:
    """Nine steps, more than an epoch, so that the reference would be scored once; TRL's model has no dropout."""
    changes = {"attention_dropout": 0.2} if name == "granite" else {}
    still = NO_DROPOUT if name in ("opt", "seed-oss", "granite") else {}
    plain = plain_trl(config_of(family(name, **still), long_pairs, precompute_ref_log_probs="off"))
    mine = ours(config_of(family(name, **changes), long_pairs))
    assert plain.log[0]["loss"] == pytest.approx(0.6931, abs=1e-4) or plain.log[0].get("aux_loss")
    for theirs, our in zip(plain.log, mine.log, strict=True):
        for metric in ("loss", "aux_loss", "logps/chosen", "logps/rejected"):
            tolerance = 1e-4 if "loss" in metric else 1e-3
            assert our.get(metric, 0) == pytest.approx(theirs.get(metric, 0), abs=tolerance), metric
    report = mine.trainer.shortcuts.report()
    assert report["share_prefix"]["on"] is shares, report
    assert report["reference_once"]["on"] is once, report
    assert (report["share_prefix"]["saved"] > 0.1) is shares
    if shares:
        # Of every row of policy and reference the head predicts one token less: no pass is left out of the count.
        rows = 2 * (18 + (12 if once else 18))
        assert report["share_prefix"]["tokens_plain"] - report["labelled_head"]["positions_plain"] == rows
