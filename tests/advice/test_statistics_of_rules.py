"""The doubt of a measurement counts: KL of few answers, accuracies near chance, and tokens that are predicted."""

import math
from statistics import stdev
from typing import Any

import pytest

from dpo_tui.advice.curve_statistics import one_sided_t, standard_error
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence

SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True, "warmup_ratio": 0.1}


def ids(lines: list[dict[str, Any]], **settings: Any) -> list[str]:
    receipt = {"data": {"train": 640, "held_out": 48}, "effective_batch": 8}
    return [one.rule for one in apply_rules(Evidence(SETTINGS | settings, lines, receipt, max_steps=60, over=True))]


@pytest.mark.parametrize(("count", "quantile"), [(4, 2.353), (8, 1.895), (16, 1.753), (64, 1.669), (1000, 1.646)])
def test_the_expansion_of_the_quantile_is_that_of_student(count: int, quantile: float) -> None:
    """Quantiles as printed in tables: of 3, 7, 15, 63 and 999 degrees of freedom."""
    assert one_sided_t(count) == pytest.approx(quantile, rel=0.01)


def test_the_error_of_a_mean_is_that_of_its_values() -> None:
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(stdev([1.0, 2.0, 4.0]) / math.sqrt(3))
    assert standard_error([3.0]) == 0.0


@pytest.mark.parametrize(("answers", "error", "said"), [(64, 4.0, True), (8, 4.0, False), (8, 3.0, True)])
def test_a_kl_of_few_answers_must_be_further_above_its_bound(answers: int, error: float, said: bool) -> None:
    """17 ± 4 of 64 answers is above 10 with 95 %, of 8 answers it is not."""
    line = {"step": 30, "eval_kl": 17.0, "eval_kl_stderr": error, "eval_kl_n": answers}
    assert ("kl" in ids([line])) is said


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "apo_zero", "sigmoid_norm"])
@pytest.mark.parametrize(("last", "said"), [(0.4, True), (0.6, False)])
def test_a_policy_that_predicts_half_of_its_tokens_no_more_has_lost_its_language(
    loss_type: str, last: float, said: bool
) -> None:
    """Whatever the loss does meanwhile: here it falls, as that of ipo may."""
    start = 25.0 if loss_type == "ipo" else 1.0 if loss_type == "apo_zero" else 0.6931
    lines: list[dict[str, Any]] = [{"step": 0, "eval_loss": start, "eval_mean_token_accuracy": 0.9}]
    for step in range(1, 61):
        moved = 0.0 if step == 1 else 1.0
        lines.append({
            "step": step, "loss": start * (1 - 0.005 * step), "rewards/accuracies": 0.8,
            "rewards/margins": 0.4 * moved, "rewards/chosen": 0.1 * moved, "logps/chosen": -60.0,
        })  # fmt: skip
    lines.append({
        "step": 60, "eval_loss": 0.7 * start, "eval_mean_token_accuracy": last, "eval_rewards/accuracies": 0.8,
        "eval_rewards/margins": 0.3,
    })  # fmt: skip
    beta = 5.0 if loss_type == "sigmoid_norm" else 0.1
    assert (ids(lines, loss_type=[loss_type], beta=beta)[0] == "rate-high") is said


@pytest.mark.parametrize(("trained", "said"), [(0.54, False), (0.7, True)])
def test_swapped_labels_need_a_training_accuracy_that_is_above_chance_too(trained: float, said: bool) -> None:
    """240 pairs of the second half: 54 % of them is within the interval of a coin."""
    lines: list[dict[str, Any]] = [{"step": 0, "eval_loss": 0.6931, "eval_rewards/accuracies": 0.0}]
    for step in range(1, 61):
        margin = 0.0 if step == 1 else 0.1
        lines.append({"step": step, "loss": 0.68, "rewards/accuracies": trained, "rewards/margins": margin})
    held_out = {"eval_loss": 0.72, "eval_rewards/accuracies": 0.3, "eval_rewards/margins": -0.1}
    lines.append({"step": 60, **held_out})
    assert ("swapped" in ids(lines)) is said
