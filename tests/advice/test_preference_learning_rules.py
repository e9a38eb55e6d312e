"""Over-fitting, chosen answers that fall, KL: the figures from which on each is said, and its remedy."""

from typing import Any

import pytest

from dpo_tui.advice import preference_learning_rules as rules
from dpo_tui.advice.advice import Advice
from dpo_tui.advice.evidence import Evidence

SETTINGS = {"strategy": "dpo", "beta": 0.1, "learning_rate": 5e-6, "num_train_epochs": 3.0}
RECEIPT = {"data": {"train": 1000, "held_out": 100}, "effective_batch": 8}


def over_fitting(
    *held_out: float,
    training: float = 0.3,
    accuracies: tuple[float, float] = (0.8, 0.8),
    pairs: int = 100,
    **settings: Any,
) -> Advice | None:
    """The rule on forty steps that end at this training loss, evaluated at equal distances."""
    trained, evaluated = accuracies
    lines: list[dict[str, Any]] = [
        {"step": step, "loss": 0.69 if step <= 20 else training, "rewards/accuracies": trained} for step in range(1, 41)
    ]
    lines += [
        {"step": 40 * place // (len(held_out) - 1), "eval_loss": loss, "eval_rewards/accuracies": evaluated}
        for place, loss in enumerate(held_out)
    ]
    receipt = {"data": {"train": 1000, "held_out": pairs}, "effective_batch": 8}
    return rules.over_fitting(Evidence(SETTINGS | settings, sorted(lines, key=lambda line: line["step"]), receipt))


def test_a_held_out_loss_that_has_risen_names_its_lowest_step_and_fewer_epochs() -> None:
    found = over_fitting(0.69, 0.55, 0.61)
    assert found is not None
    assert "training loss falls to 0.30 while the held-out loss has risen from 0.55 (step 20) to 0.61" in found.message
    assert dict(found.remedy) == {"num_train_epochs": 2.0}
    for settings in ({"num_train_epochs": 2.0}, {"max_steps": 40}):
        shorter = over_fitting(0.69, 0.55, 0.61, **settings)
        assert shorter is not None and not shorter.remedy


@pytest.mark.parametrize(
    ("held_out", "training"),
    [
        ((0.69, 0.55, 0.59), 0.3),  # risen by less than 0.05
        ((0.69, 0.50, 0.56), 0.5),  # the training loss is not 0.1 lower
        ((0.69, 0.60, 0.55), 0.3),  # it is still falling
        ((0.55, 0.61), 0.3),  # two evaluations are no curve
    ],
)
def test_a_held_out_loss_that_has_not_risen_for_certain_is_none(held_out: tuple[float, ...], training: float) -> None:
    assert over_fitting(*held_out, training=training) is None


@pytest.mark.parametrize(
    ("training", "accuracies", "pairs", "said"),
    [
        (0.25, (0.99, 0.80), 100, True),
        (0.30, (0.99, 0.80), 100, False),  # more than half of the held-out loss
        (0.25, (0.89, 0.80), 100, False),  # the accuracies are nearer than a tenth
        (0.25, (0.99, 0.80), 40, True),
        (0.25, (0.99, 0.80), 20, False),  # and 19 points may be chance among 20 pairs
    ],
)
def test_pairs_learnt_by_heart_are_known_by_loss_and_accuracy_together(
    training: float, accuracies: tuple[float, float], pairs: int, said: bool
) -> None:
    found = over_fitting(0.69, 0.55, 0.55, training=training, accuracies=accuracies, pairs=pairs)
    assert (found is not None) is said
    if found is not None:
        assert "stays at 0.55, and held-out pairs are right less often, by 19%" in found.message


def chosen_falls(
    third: float, last: float, *, start: float = -100.0, steps: int = 40, **settings: Any
) -> Advice | None:
    """The rule on a run whose chosen answers are this many nats below the reference in its last two quarters."""
    lines = [
        {
            "step": step,
            "rewards/chosen": 0.1 * (0.0 if step <= steps / 2 else third if step <= steps * 3 / 4 else last),
            "logps/chosen": start if step <= max(1, steps / 10) else start - 60,
        }
        for step in range(1, steps + 1)
    ]
    return rules.chosen_falls(Evidence(SETTINGS | settings, lines, RECEIPT))


@pytest.mark.parametrize(
    ("third", "last", "start", "said"),
    [
        (-20.0, -31.0, -100.0, True),
        (-20.0, -29.0, -100.0, False),  # less than three tenths of what they had
        (-15.0, -19.0, -10.0, False),  # less than twenty nats
        (-15.0, -20.5, -10.0, True),
        (-40.0, -35.0, -100.0, False),  # they rise again
        (-120.0, -101.0, -100.0, True),  # they rise, and have lost all they had
    ],
)
def test_a_fall_counts_by_nats_and_by_the_share_that_was_lost(
    third: float, last: float, start: float, said: bool
) -> None:
    found = chosen_falls(third, last, start=start)
    assert (found is not None) is said
    if found is not None:
        assert ("and keep losing" in found.message) is (last <= third)
        assert f"({-last:.0f} nats an answer below the reference)" in found.message


def test_a_fall_is_mended_by_the_sft_loss_and_where_that_is_there_by_half_the_rate() -> None:
    assert chosen_falls(-20, -40, steps=7) is None and chosen_falls(-20, -40, steps=8), "two points a quarter at least"
    first, second = chosen_falls(-20, -40), chosen_falls(-20, -40, loss_type=["sigmoid", "sft"])
    assert first is not None and dict(first.remedy) == {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    assert second is not None and dict(second.remedy) == {"learning_rate": 2.5e-6}


def kl(estimate: float, error: float | None = None, name: str = "eval_kl", **settings: Any) -> Advice | None:
    line = {"step": 5, name: estimate} | ({} if error is None else {"eval_kl_stderr": error})
    return rules.kl(Evidence(SETTINGS | settings, [{"step": 0, name: 0.0}, line]))


def test_kl_is_said_when_it_is_above_ten_by_more_than_its_error() -> None:
    assert kl(10.0) is None and kl(13.2, 2.0) is None, "1.645 standard errors: 95 % on one side"
    assert kl(10.1) is not None and kl(13.4, 2.0) is not None
    assert kl(11.0, name="kl") is not None, "as other trainers name it"


@pytest.mark.parametrize(("beta", "remedy"), [(0.1, 0.2), (0.3, 0.6), (0.7, 1.0), (1.0, None), (2.0, None)])
def test_kl_is_mended_by_twice_the_beta_up_to_what_is_usual(beta: float, remedy: float | None) -> None:
    found = kl(20.0, beta=beta)
    assert found is not None
    assert dict(found.remedy) == ({} if remedy is None else {"beta": remedy})
