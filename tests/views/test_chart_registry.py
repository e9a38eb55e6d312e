"""The registry of charts: order, and metrics that it does not know."""

import pytest

from dpo_tui.strategies.cpo import CPO, SIMPO
from dpo_tui.strategies.orpo import ORPO
from dpo_tui.strategies.strategy import Strategy
from dpo_tui.views.chart_registry import charts_for


def test_loss_accuracy_margin_and_kl_come_first_and_unknown_metrics_last():
    """The first screen is not the alphabet."""
    found = charts_for(["zeta", "alpha", "eval_loss", "loss", "learning_rate", "kl", "rewards/chosen", "t", "epoch"])
    titles = [entry.style.title for entry in found]
    assert titles[:4] == ["loss", "preference accuracy", "reward margin", "KL (estimate)"]
    assert titles[4:] == ["rewards", "learning rate", "alpha", "zeta"]


def test_hostile_metric_names_are_made_printable():
    titles = [entry.style.title for entry in charts_for(["\x1b[31mred\x07"])]
    assert titles[-1] == "red�"


def titles(*metrics: str, expected: bool = True) -> list[str]:
    return [entry.style.title for entry in charts_for(metrics, expected=expected)]


def test_a_run_of_another_kind_shows_the_charts_that_have_values():
    assert titles("loss", "learning_rate", "mean_token_accuracy") == ["loss", "token accuracy", "learning rate"]
    assert titles("reward", "kl", "loss", "reward_std") == ["loss", "KL (estimate)", "reward", "reward deviation"]
    assert titles("accuracy", "loss", "margin", "train_runtime") == ["loss", "accuracy", "margin"]
    assert titles("eval_loss", "eval_mean_token_accuracy") == ["loss", "token accuracy"]


def test_preference_training_and_a_run_without_metrics_show_the_four_at_once():
    four = ["loss", "preference accuracy", "reward margin", "KL (estimate)"]
    assert titles() == titles("epoch", "step") == four
    assert titles("loss", "rewards/accuracies", "grad_norm")[:4] == four
    assert titles("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins") == four


def test_of_other_tools_only_charts_with_values_are_shown():
    assert titles("loss", "rewards/accuracies", expected=False) == ["loss", "preference accuracy"]


@pytest.mark.parametrize("strategy", [ORPO, SIMPO, CPO])
def test_a_run_without_a_reference_shows_what_its_description_names_and_no_divergence(strategy: Strategy):
    shown = titles(*(metric.name for metric in strategy.metrics))
    assert shown[:3] == ["loss", "preference accuracy", "reward margin"]
    assert "KL (estimate)" not in shown and "loss of the chosen answers" in shown
    assert ("log odds ratio" in shown) == (strategy is ORPO)


def test_a_run_of_kto_shows_its_margin_and_its_kl_term_and_no_empty_accuracy():
    """Its trainer logs no accuracy; what TRL calls kl there is a term of the loss, beside the estimate."""
    logged = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "kl_term", "num_tokens")
    assert titles(*logged, "eval_loss", "kl", "entropy")[:5] == [
        "loss", "reward margin", "KL (estimate)", "rewards", "KL term of the loss",
    ]  # fmt: skip
