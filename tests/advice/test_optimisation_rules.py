"""Rate, β, length and NaN: the figures from which on each rule speaks, and the settings that its remedy has."""

import math
from typing import Any

import pytest

from dpo_tui.advice import optimisation_rules as rules
from dpo_tui.advice.advice import Advice
from dpo_tui.advice.evidence import Evidence
from dpo_tui.strategies.metric_expectations import LN2

SETTINGS: dict[str, Any] = {
    "strategy": "dpo",
    "beta": 0.1,
    "learning_rate": 5e-6,
    "use_lora": True,
    "warmup_ratio": 0.1,
}


def evidence(
    loss: float,
    *,
    start: float = LN2,
    steps: int = 60,
    nats: float = 0.0,
    max_steps: int | None = None,
    more: dict[str, Any] | None = None,
    **settings: Any,
) -> Evidence:
    """A run whose loss is this one from the middle on, with a margin of so many nats."""
    found = SETTINGS | settings
    lines = [
        {
            "step": step,
            "loss": start if step <= steps / 2 else loss,
            "rewards/margins": nats * found["beta"],
            **(more or {}),
        }
        for step in range(1, steps + 1)
    ]
    return Evidence(found, lines, max_steps=max_steps or steps)


@pytest.mark.parametrize(("loss", "severity"), [(0.84, None), (0.86, "warning"), (1.38, "warning"), (1.40, "error")])
def test_a_loss_is_harmful_above_085_and_severe_above_twice_its_start(loss: float, severity: str | None) -> None:
    found = rules.rate_high(evidence(loss))
    assert (found.severity if found else None) == severity
    if found is not None:
        assert f"The loss is {loss:.2f} on average, worse than the 0.69 of tossing a coin" in found.message
        assert dict(found.remedy) == {"learning_rate": 5e-7}


def test_a_longer_warm_up_of_the_run_is_kept_and_few_steps_are_not_judged() -> None:
    found = rules.rate_high(evidence(1.0, warmup_ratio=0.3))
    assert found is not None and "warmup_ratio" not in found.remedy
    assert rules.rate_high(evidence(1.0, steps=9)) is None
    assert rules.rate_high(evidence(1.0, steps=10)) is not None


@pytest.mark.parametrize(
    ("moved", "logp", "accuracy", "said"),
    [
        (60.0, -55.0, 0.7, True),
        (49.0, -10.0, 0.7, False),  # less than fifty nats
        (60.0, -70.0, 0.7, False),  # less than all they had
        (60.0, -55.0, 0.8, False),  # and the pairs are learnt
    ],
)
def test_a_policy_thrown_further_than_its_answers_had_is_too_high_a_rate(
    moved: float, logp: float, accuracy: float, said: bool
) -> None:
    more = {"rewards/chosen": -moved * 0.1, "logps/chosen": logp, "rewards/accuracies": accuracy}
    found = rules.rate_high(evidence(0.6, more=more))
    assert (found is not None) is said
    if found is not None:
        assert found.severity == "error"
        assert "the chosen answers have moved by 60 nats with 70% of the pairs right" in found.message


def rate_low(nats: float, *, loss: float = LN2, max_steps: int | None = None, **settings: Any) -> Advice | None:
    return rules.rate_low(evidence(loss, nats=nats, max_steps=max_steps, **settings))


@pytest.mark.parametrize(
    ("nats", "max_steps", "said"), [(0.09, 60, True), (0.11, 60, False), (0.05, 200, False), (0.01, 200, True)]
)
def test_a_policy_that_hardly_moves_is_judged_more_mildly_in_the_first_half(
    nats: float, max_steps: int, said: bool
) -> None:
    assert (rate_low(nats, max_steps=max_steps) is not None) is said


def test_the_rate_is_raised_tenfold_or_to_what_is_advised() -> None:
    assert rate_low(0.0, loss=LN2 - 0.01) is None, "it has moved after all"
    for rate, use_lora, faster, is_advised in (
        (1e-8, True, 5e-6, True),
        (5e-6, True, 5e-5, False),
        (1e-9, False, 1e-7, False),
    ):
        found = rate_low(0.0, learning_rate=rate, use_lora=use_lora)
        assert found is not None and dict(found.remedy) == {"learning_rate": faster}, rate
        assert ("is advised" in found.message) is is_advised, rate


def test_a_beta_far_below_the_usual_leaves_the_loss_where_it_is() -> None:
    found = rules.beta(evidence(LN2 - 0.02, nats=2.0, beta=1e-4))
    assert found is not None and "the loss stays at 0.673" in found.message and dict(found.remedy) == {"beta": 0.1}
    assert rules.beta(evidence(LN2 - 0.06, nats=2.0, beta=1e-4)) is None, "the loss falls"
    assert rules.beta(evidence(LN2 - 0.02, nats=0.4, beta=1e-4)) is None, "the policy has not moved"
    assert rules.beta(evidence(LN2 - 0.02, nats=2.0, beta=0.1)) is None, "that is usual"


@pytest.mark.parametrize(("loss", "nats", "said"), [(0.75, 1.0, True), (0.60, 0.05, True), (0.60, 1.0, False)])
def test_a_beta_far_above_the_usual_holds_the_policy_or_swings_the_loss(loss: float, nats: float, said: bool) -> None:
    assert (rules.beta(evidence(loss, nats=nats, beta=20.0)) is not None) is said


def test_a_run_of_thirty_steps_is_not_too_short_nor_one_that_has_learnt() -> None:
    assert rules.too_short(evidence(0.69, steps=30)) is None
    assert rules.too_short(evidence(0.50, steps=29)) is None, "it has learnt"
    found = rules.too_short(evidence(0.60, steps=29))
    assert found is not None and found.message.startswith("29 steps are too few to learn from pairs")
    assert rules.too_short(evidence(0.69, steps=2, max_steps=29)) is None, "it has only begun"
    assert rules.too_short(evidence(0.69, steps=2)) is not None, "that was all of it"


def test_numbers_that_break_later_are_not_blamed_on_the_base() -> None:
    """With logging_steps = 10 the first line may be broken already, and nothing is known of the base."""
    lines = [{"step": step, "loss": math.nan} for step in (10, 20)]
    found = rules.not_a_number(Evidence(SETTINGS, lines))
    assert found is not None and "is not a number since step 10" in found.message
    assert dict(found.remedy) == {"learning_rate": 5e-7}
    gradient = [{"step": 1, "loss": 0.7, "grad_norm": 1.0}, {"step": 2, "loss": 0.7, "grad_norm": math.inf}]
    broken = rules.not_a_number(Evidence(SETTINGS, gradient))
    assert broken is not None and broken.message.startswith("The gradient is not a number since step 2")


def test_a_broken_evaluation_is_found_behind_the_training_line_of_its_step() -> None:
    fine = {"step": 4, "loss": 0.6}
    assert rules.not_a_number(Evidence(SETTINGS, [fine, {"step": 4, "eval_loss": math.nan}])) is not None
    assert rules.not_a_number(Evidence(SETTINGS, [{"step": 2, "loss": math.nan}, fine])) is None, "it is over"
    assert rules.not_a_number(Evidence(SETTINGS, [fine, {"step": 4, "eval_kl": 1.0}])) is None
