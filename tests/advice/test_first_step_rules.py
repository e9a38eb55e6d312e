"""What is wrong before the first update: a base that computes nothing, one that knows nothing, another reference."""

import math
from typing import Any

import pytest

from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence

SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True}


def first(settings: dict[str, Any], *lines: dict[str, Any]) -> str:
    return apply_rules(Evidence(SETTINGS | settings, lines, max_steps=100))[0].rule


def steps(*norms: float, **more: Any) -> list[dict[str, Any]]:
    return [{"step": step, "loss": 0.69, "grad_norm": norm, **more} for step, norm in enumerate(norms, 1)]


def test_a_gradient_of_exactly_zero_from_the_first_step_on_is_a_broken_base() -> None:
    assert first({}, *steps(0.0, 0.0, 0.0)) == "broken-base"
    assert first({}, *steps(0.0, 0.0)) == "too-early", "one more step tells"
    assert first({}, *steps(0.0, 0.0, 1e-6)) == "too-early"
    assert first({}, *steps(0.3, 0.2, 0.1, 0.0, 0.0)) == "too-early", "hinge that has learnt every pair"


@pytest.mark.parametrize(
    ("known", "logps", "rule"),
    [
        (0.01, -400.0, "broken-base"),
        (0.05, -50.0, "broken-base"),
        (0.06, -400.0, "too-early"),
        (0.01, -49.0, "too-early"),
        (0.6, -1e5, "broken-base"),
        (0.6, -9e4, "too-early"),
        (math.nan, -400.0, "too-early"),
    ],
)
def test_a_base_that_predicts_none_of_the_answers_has_another_tokenizer(known: float, logps: float, rule: str) -> None:
    line = {"mean_token_accuracy": known, "logps/chosen": logps, "rewards/margins": 0.0}
    assert first({}, {"step": 1, "loss": 0.69, **line}) == rule
    held_out = {f"eval_{name}": value for name, value in line.items()}
    assert first({}, {"step": 0, "eval_loss": 0.69, **held_out}) == rule
    assert first({}, {"step": 2, "loss": 0.69, **line}) == "too-early", "that is after the first update"


@pytest.mark.parametrize(("known", "loss", "rule"), [(0.01, 9.0, "broken-base"), (0.3, 9.0, "too-early")])
def test_demonstrations_tell_it_by_the_loss_of_a_token(known: float, loss: float, rule: str) -> None:
    assert first({"strategy": "sft"}, {"step": 1, "loss": loss, "mean_token_accuracy": known}) == rule
    assert first({"strategy": "sft"}, {"step": 1, "loss": 4.9, "mean_token_accuracy": known}) == "too-early"


@pytest.mark.parametrize("loss", ["hinge", "ipo", "apo_zero", "sigmoid_norm"])
def test_another_reference_is_found_whatever_the_loss(loss: str) -> None:
    beta = 5.0 if loss == "sigmoid_norm" else 0.1
    line = {"step": 1, "loss": 3.0, "rewards/chosen": 2.0 * beta, "rewards/margins": 4.0 * beta}
    assert first({"loss_type": [loss], "beta": beta}, line) == "wrong-reference"
    near = {"step": 1, "loss": 3.0, "rewards/chosen": 0.9 * beta, "rewards/margins": 1.9 * beta}
    assert first({"loss_type": [loss], "beta": beta}, near) == "too-early"
    assert first({"strategy": "of tomorrow"}, line) == "too-early", "it may have no reference"


def test_a_base_that_computes_no_numbers_is_named_as_such_and_not_as_another_reference() -> None:
    nan = {"rewards/chosen": math.nan, "rewards/margins": math.nan}
    before = {"step": 0, "eval_loss": math.nan, **{f"eval_{name}": value for name, value in nan.items()}}
    for lines in ([before], [before, {"step": 1, "loss": math.nan, **nan}], [{"step": 1, "loss": None, **nan}]):
        found = apply_rules(Evidence(SETTINGS, lines))
        assert [advice.rule for advice in found] == ["nan"]
        assert "before the first update" in found[0].message and not found[0].remedy


def test_a_loss_that_was_a_number_at_first_names_the_step_and_a_lower_rate() -> None:
    lines = [{"step": 1, "loss": 0.69}, {"step": 2, "loss": 0.7}, {"step": 2, "eval_loss": math.nan}]
    found = apply_rules(Evidence(SETTINGS, lines))[0]
    assert "The held-out loss is not a number since step 2" in found.message
    assert found.remedy == {"learning_rate": 5e-7}
