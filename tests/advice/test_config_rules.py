"""What is allowed in a config but unwise is remarked on, at the limits that docs/advice.md names, with its remedy."""

from typing import Any

import pytest

from dpo_tui.advice.config_rules import advise
from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config

# With full fine-tuning nothing about the rate of an adapter is said.
QUIET = {"model_name": "m", "dataset": "d", "use_lora": False, "learning_rate": 5e-7}


def config(**changes: Any) -> Config:
    return from_values(QUIET | changes)


def said(**changes: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """The rules that speak, with their severity and remedy."""
    return {advice.rule: (advice.severity, dict(advice.remedy)) for advice in advise(config(**changes))}


def test_nothing_is_said_of_what_is_usual() -> None:
    assert said() == {}


@pytest.mark.parametrize(
    ("rate", "lora", "expected"),
    [
        (9e-8, False, ("warning", {"learning_rate": 1e-7})),
        (1e-7, False, None),
        (1e-6, False, None),
        (1.1e-6, False, ("warning", {"learning_rate": 1e-6})),
        (9e-8, True, ("warning", {"learning_rate": 1e-7})),
        (5e-7, True, ("info", {"learning_rate": 5e-6})),
        (1e-6, True, None),
        (5e-6, True, None),
        (5.1e-6, True, ("warning", {"learning_rate": 5e-6})),
    ],
)
def test_a_rate_outside_dpos_range_is_warned_of(rate: float, lora: bool, expected: Any) -> None:
    assert said(learning_rate=rate, use_lora=lora).get("learning-rate") == expected


@pytest.mark.parametrize("rate", [2e-4, 1e-8])
def test_the_rate_of_stage_one_is_left_alone(rate: float) -> None:
    assert said(strategy="sft", learning_rate=rate) == {}


@pytest.mark.parametrize(
    ("beta", "warned"), [(0.009, True), (0.01, False), (0.1, False), (0.5, False), (2.0, False), (2.1, True)]
)
def test_a_beta_beyond_the_usual_is_warned_of(beta: float, warned: bool) -> None:
    assert said(beta=beta) == ({"beta": ("warning", {"beta": 0.1})} if warned else {})
    if warned:
        (advice,) = advise(config(beta=beta))
        assert ("hardly holds the policy" if beta < 0.1 else "hardly lets the policy move") in advice.message


def test_an_alpha_that_is_not_twice_the_rank_is_remarked_on() -> None:
    lora = {"use_lora": True, "learning_rate": 5e-6, "lora_r": 16}
    assert said(**lora) == said(**lora, lora_alpha=32) == {}
    assert said(**lora, lora_alpha=16) == {"alpha": ("info", {"lora_alpha": 32})}
    assert said(**lora, lora_alpha=16, use_rslora=True) == {}, "another scaling"
    assert said(use_lora=False, lora_r=16, lora_alpha=16) == {}, "there is no adapter"


def test_high_dropout_is_warned_of() -> None:
    lora = {"use_lora": True, "learning_rate": 5e-6}
    assert said(**lora, lora_dropout=0.1) == {}
    assert said(**lora, lora_dropout=0.11) == {"dropout": ("warning", {"lora_dropout": 0.05})}
    assert said(use_lora=False, lora_dropout=0.5) == {}


def test_more_than_four_epochs_are_warned_of() -> None:
    assert said(num_train_epochs=4) == {}
    assert said(num_train_epochs=5) == {"epochs": ("warning", {"num_train_epochs": 3})}
    assert said(num_train_epochs=5, max_steps=10) == {}, "the steps decide, not the epochs"
