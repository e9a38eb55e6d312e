"""What is said of a run to which no rule applies: healthy only with evidence from enough held-out examples."""

from typing import Any

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import wilson_interval
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence

SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True}


def said(
    *evaluations: dict[str, Any],
    held_out: int | None = 48,
    accuracy: float = 0.8,
    settings: dict[str, Any] | None = None,
    over: bool = False,
) -> Advice:
    """What is said of 60 steps whose loss falls a little, with these evaluations."""
    lines = [
        {"step": step, "loss": 0.69 - step / 1000, "rewards/accuracies": accuracy, "rewards/margins": 0.2}
        for step in range(1, 61)
    ]
    metrics = sorted([*lines, *evaluations], key=lambda line: line["step"])
    receipt = {"data": {"train": 320, "held_out": held_out}, "effective_batch": 4} if held_out is not None else {}
    return apply_rules(Evidence(SETTINGS | (settings or {}), metrics, receipt, max_steps=600, over=over))[0]


BEFORE = {"step": 0, "eval_loss": 0.6931, "eval_rewards/accuracies": 0.0}


def after(accuracy: float | None, loss: float = 0.65) -> dict[str, Any]:
    found: dict[str, Any] = {"step": 60, "eval_loss": loss}
    return found if accuracy is None else found | {"eval_rewards/accuracies": accuracy}


@pytest.mark.parametrize(
    ("accuracy", "count", "rule"),
    [
        (0.65, 48, "healthy"),
        (0.64, 48, "unclear"),  # 95 % interval from 0.499
        (0.60, 48, "unclear"),
        (0.56, 400, "healthy"),
        (0.54, 400, "unclear"),
        (1.0, 10, "healthy"),
        (1.0, 9, "few-held-out"),
        (0.7, 12, "unclear"),
    ],
)
def test_an_accuracy_is_healthy_when_its_own_interval_is_above_chance(accuracy: float, count: int, rule: str) -> None:
    found = said(BEFORE, after(accuracy), held_out=count, accuracy=0.8)
    assert (found.rule, found.is_problem) == (rule, False)
    assert str(count) in found.message


def test_few_pairs_are_too_few_to_tell_and_are_counted() -> None:
    found = said(BEFORE, after(2 / 3), held_out=3)
    assert found.message.startswith("Too few to tell: 3 pairs are held out, 2 of them right.")


def test_a_held_out_loss_that_does_not_fall_is_not_healthy() -> None:
    found = said(BEFORE, after(0.8, loss=0.70))
    assert found.rule == "unclear" and "has not fallen (0.693 → 0.700)" in found.message


def test_a_run_that_was_not_evaluated_before_its_first_step_starts_where_its_loss_must() -> None:
    assert said(after(0.8)).rule == "healthy"
    assert said(after(0.8, loss=0.695)).rule == "unclear"
    assert said(after(0.8, loss=0.995), settings={"loss_type": ["hinge"]}).rule == "healthy"


@pytest.mark.parametrize(
    ("evaluations", "held_out", "over", "words"),
    [
        ((), 0, False, "nothing held out to tell"),
        ((), None, False, "nothing held out to tell"),
        ((BEFORE,), 48, False, "the first evaluation is still to come"),
        ((BEFORE,), 48, True, "nothing was evaluated"),
    ],
)
def test_without_an_evaluation_it_learns_and_is_not_healthy(
    evaluations: tuple[Any, ...], held_out: int | None, over: bool, words: str
) -> None:
    found = said(*evaluations, held_out=held_out, over=over)
    assert found.rule == "learning" and words in found.message
    assert said(*evaluations, held_out=held_out, accuracy=0.61).rule == "learning"
    assert said(*evaluations, held_out=held_out, accuracy=0.52, settings={"learning_rate": 1e-7}).rule == "unclear"


def test_an_accuracy_of_an_unknown_number_of_pairs_proves_nothing() -> None:
    found = said(BEFORE, after(0.9), held_out=None)
    assert found.rule == "unclear" and "does not say of how many pairs" in found.message
    timed = {**after(0.9), "eval_runtime": 4.0, "eval_samples_per_second": 12.0}
    assert said(BEFORE, timed, held_out=None).message.endswith("held-out accuracy 90% of 48.")


@pytest.mark.parametrize(("last", "rule"), [(1.2, "healthy"), (1.99, "unclear"), (2.1, "unclear")])
def test_a_strategy_without_an_accuracy_is_judged_by_its_held_out_loss(last: float, rule: str) -> None:
    lines = [{"step": step, "loss": 2 - step / 100} for step in range(1, 61)]
    metrics = [{"step": 0, "eval_loss": 2.0}, *lines, {"step": 60, "eval_loss": last}]
    receipt = {"data": {"held_out": 20}}
    assert apply_rules(Evidence({"strategy": "sft"}, metrics, receipt))[0].rule == rule


def test_the_interval_is_that_of_wilson() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, and 15 of 148; 20 of 20."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(1.0, 20) == pytest.approx((0.8389, 1.0), abs=5e-5)
    assert wilson_interval(0.5, 0) == (0.0, 1.0)


def falling(steps: int, *evaluations: dict[str, Any], by: float = 0.01, max_steps: int | None = None) -> Advice:
    """What is said of demonstrations, which have no accuracy, whose loss falls by so much a step from 2."""
    lines = [{"step": step, "loss": 2 - by * step} for step in range(1, steps + 1)]
    receipt = {"data": {"held_out": 20}} if evaluations else {}
    return apply_rules(Evidence({"strategy": "sft"}, [*lines, *evaluations], receipt, max_steps=max_steps))[0]


def test_the_figures_are_the_first_and_the_last_fifth_and_the_last_evaluation() -> None:
    held_out = said(BEFORE, after(0.8), {"step": 60, "eval_kl": 2.46, "eval_kl_stderr": 0.3})
    assert held_out.message == (
        "Healthy: loss 0.69 → 0.64, accuracy 80%, margin 0.20, held-out accuracy 80% of 48, KL 2.5 ± 0.3."
    )
    loss = falling(60, {"step": 0, "eval_loss": 2.0}, {"step": 60, "eval_loss": 1.2})
    assert loss.message == "Healthy: loss 1.99 → 1.46, held-out loss 2.00 → 1.20."


def test_a_single_evaluation_has_nothing_to_be_compared_with() -> None:
    found = falling(60, {"step": 60, "eval_loss": 1.2})
    assert found.rule == "unclear" and "one evaluation alone, of held-out loss 1.200" in found.message
    assert (
        "has not fallen (2.000 → 2.100)"
        in falling(60, {"step": 0, "eval_loss": 2.0}, {"step": 60, "eval_loss": 2.1}).message
    )


def test_without_accuracy_and_evaluation_the_loss_alone_says_whether_it_learns() -> None:
    assert falling(60).rule == "learning"
    assert falling(60, by=0.0).rule == falling(60, by=-0.0001).rule == "unclear"


@pytest.mark.parametrize(
    ("steps", "max_steps", "message"),
    [
        (0, None, "No numbers yet."),
        (9, 60, "Too early to tell: step 9 of 60."),
        (9, None, "Too early to tell: step 9."),
        (4, 40, "Too early to tell: step 4 of 40."),
    ],
)
def test_before_the_tenth_step_nothing_is_said(steps: int, max_steps: int | None, message: str) -> None:
    assert falling(steps, max_steps=max_steps).message == message
    assert falling(10, max_steps=60).rule == "learning"
