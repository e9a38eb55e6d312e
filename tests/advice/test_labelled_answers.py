"""Advice on KTO: it has no accuracy, so that held-out loss and margin are the evidence; a healthy run is left alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.diagnose import apply_rules, diagnose
from dpo_tui.advice.evidence import Evidence, read_evidence
from tests.support.repository import ROOT

RUN = ROOT / "tests" / "advice_runs_by_strategy" / "fine-kto-s42"
SETTINGS = {"strategy": "kto", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True, "desirable_weight": 1.0}


def run(losses: Sequence[float], margins: Sequence[float], held_out: int = 60, **settings: Any) -> Evidence:
    """A run of 60 steps whose held-out loss and margin go through these values."""
    steps = [60 * place // (len(losses) - 1) for place in range(len(losses))]
    evaluations = [
        {"step": step, "eval_loss": loss, "eval_rewards/margins": margin}
        for step, loss, margin in zip(steps, losses, margins, strict=True)
    ]
    trained = [{"step": step, "loss": 0.5 - step / 1000, "rewards/chosen": 0.01} for step in range(1, 61)]
    metrics = sorted([*evaluations, *trained], key=lambda line: int(line["step"]))
    return Evidence({**SETTINGS, **settings}, metrics, {"data": {"held_out": held_out}}, max_steps=60, over=True)


def test_the_recorded_run_on_the_shipped_sample_is_healthy_at_every_moment_that_tells() -> None:
    (advice,) = diagnose(RUN)
    assert advice.rule == "healthy"
    assert "held-out loss 0.50 → 0.36, held-out margin 1.60" in advice.message
    whole = read_evidence(RUN)
    for tenth in range(1, 10):
        seen = [line for line in whole.metrics if line["step"] <= whole.step * tenth / 10]
        found = apply_rules(replace(whole, metrics=seen, over=False))
        assert [one.rule for one in found] in (["healthy"], ["too-early"]), tenth


def test_a_lower_loss_and_a_margin_above_zero_are_the_evidence() -> None:
    assert apply_rules(run([0.5, 0.47, 0.45], [0.0, 0.1, 0.2]))[0].rule == "healthy"


def test_a_lower_loss_without_a_margin_is_none() -> None:
    """Where most answers are desirable, liking every answer better lowers the loss."""
    found = apply_rules(run([0.5, 0.47, 0.45], [0.0, -0.01, -0.02]))[0]
    assert found.rule == "unclear"
    assert "held-out margin -0.02: the good answers are not preferred to the bad ones" in found.message


def test_a_loss_that_does_not_fall_is_no_evidence() -> None:
    assert apply_rules(run([0.5, 0.499, 0.5], [0.0, 0.001, 0.001]))[0].rule == "unclear"


def test_few_held_out_answers_are_called_by_their_name() -> None:
    found = apply_rules(run([0.5, 0.4, 0.3], [0.0, 0.5, 0.9], held_out=6))[0]
    assert "6 labelled answers are held out" in found.message


def test_a_reference_that_differs_at_the_start_is_named_with_the_loss_that_it_should_be() -> None:
    lines = [{"step": 1, "loss": 0.31, "rewards/chosen": 1.2, "rewards/rejected": 1.1}]
    found = apply_rules(Evidence(SETTINGS, lines))[0]
    assert found.rule == "wrong-reference"
    assert "instead of 0.500" in found.message


@pytest.mark.parametrize(("strategy", "settings"), [("kto", {"learning_rate"}), ("dpo", {"loss_type", "loss_weights"})])
def test_the_remedy_for_falling_answers_is_one_that_the_strategy_takes(strategy: str, settings: set[str]) -> None:
    lines = [
        {"step": step, "loss": 0.4, "rewards/chosen": -step / 10, "logps/chosen": -50 - step, "rewards/margins": 0.5}
        for step in range(2, 82)
    ]
    found = apply_rules(Evidence({**SETTINGS, "strategy": strategy}, lines))
    falls = next(one for one in found if one.rule == "chosen-falls")
    assert set(falls.remedy) == settings
    assert ("sft loss" in falls.message) == (strategy == "dpo")


def test_trl_s_kl_term_is_not_taken_for_the_estimate_of_kl(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 0.45, "kl_term": 50.0} for step in range(2, 82)]
    assert "kl" not in {one.rule for one in apply_rules(Evidence(SETTINGS, lines))}
