"""Every loss of TRL gets the advice that DPO's own gets, at its own start, scale and β."""

import math
from typing import Any

import pytest

from dpo_tui.advice.config_rules import advise
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.config.files import from_values
from dpo_tui.strategies.dpo_losses import DPO_LOSSES, loss_scale

RECEIPT = {"data": {"train": 1000, "held_out": 48}, "effective_batch": 8}
LOSSES = [name for name in DPO_LOSSES if name != "sft"]


def settings_of(loss: str, **more: Any) -> dict[str, Any]:
    beta = DPO_LOSSES[loss].betas.usual
    smoothing = 0.1 if loss == "exo_pair" else 0.0
    settings = {"strategy": "dpo", "loss_type": [loss], "beta": beta, "label_smoothing": smoothing, "use_lora": True}
    return settings | {"learning_rate": 5e-6} | more


def run(
    loss: str,
    share: float,
    *,
    accuracy: float = 0.8,
    nats: float = 3.0,
    steps: int = 60,
    held_out: float = 0.8,
    **more: Any,
) -> list[str]:
    """The rules on a run whose loss moves by a share of what `sigmoid` can fall; above 0 is harm."""
    settings = settings_of(loss, **more)
    scale = loss_scale(settings)
    assert scale is not None and scale.start is not None
    beta, lines = settings["beta"], [{"step": 0, "eval_loss": scale.start, "eval_rewards/accuracies": 0.0}]
    for step in range(1, steps + 1):
        done = (step - 1) / steps
        lines.append(
            {
                "step": step,
                "loss": scale.start + share * done * math.log(2) * scale.unit,
                "rewards/accuracies": accuracy if step > 1 else 0.0,
                "rewards/margins": nats * done * beta,
                "rewards/chosen": nats / 2 * done * beta,
                "logps/chosen": -80.0,
            }
        )
    last = scale.start + share * math.log(2) * scale.unit
    lines.append({"step": steps, "eval_loss": last, "eval_rewards/accuracies": held_out, "eval_rewards/margins": 0.1})
    return [advice.rule for advice in apply_rules(Evidence(settings, lines, RECEIPT, max_steps=steps, over=True))]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_that_learns_is_healthy(loss: str) -> None:
    assert run(loss, -0.3) == ["healthy"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_well_above_its_start_is_too_high_a_rate(loss: str) -> None:
    assert run(loss, 0.6)[0] == "rate-high"
    assert "rate-high" not in run(loss, 0.1)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_policy_that_does_not_move_is_too_low_a_rate(loss: str) -> None:
    assert run(loss, -0.001, nats=0.01, accuracy=0.5, held_out=0.5) == ["rate-low"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("steps", [32, 34, 60])
def test_a_policy_that_moves_at_chance_has_a_weak_signal(loss: str, steps: int) -> None:
    assert run(loss, 0.05, accuracy=0.48, held_out=0.5, steps=steps)[0] == "weak-signal"


@pytest.mark.parametrize("loss", LOSSES)
def test_every_pair_right_at_once_is_trivial(loss: str) -> None:
    scale_fall = -2.4  # 80 % of what it can fall is gone by step 20 of 60
    found = run(loss, scale_fall, accuracy=1.0, held_out=1.0, nats=400.0)
    assert "trivial" in found


@pytest.mark.parametrize("loss", ["sigmoid_norm", "ipo"])
def test_a_loss_of_means_that_falls_is_no_weak_signal_and_not_healthy_either(loss: str) -> None:
    """TRL's accuracy compares whole answers, which these losses do not."""
    assert run(loss, -0.3, accuracy=0.45, held_out=0.5) == ["unclear"]
    assert run("sigmoid", -0.3, accuracy=0.45, held_out=0.5) == ["weak-signal"]


def test_held_out_pairs_that_prove_it_are_no_weak_signal() -> None:
    assert run("sigmoid", -0.1, accuracy=0.5, held_out=0.7) == ["healthy"]


@pytest.mark.parametrize("beta", [1.0, 5.0, 20.0])
def test_the_beta_of_sigmoid_norm_is_not_that_of_sigmoid(beta: float) -> None:
    config = from_values(
        {"model_name": "m", "dataset": "d", "loss_type": ["sigmoid_norm"], "beta": beta, "learning_rate": 5e-6}
    )
    assert not [advice for advice in advise(config) if advice.rule == "beta"]
    assert "beta" not in run("sigmoid_norm", -0.3, beta=beta)


@pytest.mark.parametrize(("beta", "words"), [(0.1, "hardly holds the policy"), (30.0, "hardly lets the policy move")])
def test_a_beta_of_sigmoid_is_corrected_to_that_of_sigmoid_norm(beta: float, words: str) -> None:
    config = from_values(
        {"model_name": "m", "dataset": "d", "loss_type": ["sigmoid_norm"], "beta": beta, "learning_rate": 5e-6}
    )
    (found,) = [advice for advice in advise(config) if advice.rule == "beta"]
    assert words in found.message and found.remedy == {"beta": 5.0}
    assert run("sigmoid_norm", -0.03, beta=0.1) == ["beta"]


def test_an_auxiliary_loss_moves_the_start_and_is_no_harm() -> None:
    """A mixture of experts adds its own loss: 0.75 at step 1 is where such a run starts."""
    lines = [{"step": step, "loss": 0.80 - step / 1000, "rewards/margins": 0.001} for step in range(1, 61)]
    flat = [{**line, "loss": 0.80} for line in lines]
    settings = settings_of("sigmoid", learning_rate=5e-7)
    assert apply_rules(Evidence(settings, flat, RECEIPT))[0].rule == "rate-low"
    assert Evidence(settings, flat).loss_start == pytest.approx(0.80)
    assert Evidence(settings, [{"step": 1, "loss": 2.4}]).loss_start == pytest.approx(math.log(2))


def test_few_held_out_pairs_are_not_called_learnt_by_heart() -> None:
    rising = [{"step": step, "eval_loss": 0.6 + step / 100} for step in (0, 20, 40, 60)]
    lines = [{"step": step, "loss": 0.69 - step / 100, "rewards/accuracies": 0.8} for step in range(1, 61)]
    metrics = sorted([*rising, *lines], key=lambda line: line["step"])
    many, few = ({"data": {"train": 1000, "held_out": count}, "effective_batch": 8} for count in (48, 4))
    assert apply_rules(Evidence(settings_of("sigmoid"), metrics, many))[0].rule == "over-fitting"
    assert apply_rules(Evidence(settings_of("sigmoid"), metrics, few))[0].rule == "few-held-out"


def test_chosen_answers_may_fall_where_the_loss_lowers_them() -> None:
    lines = [
        {"step": step, "loss": 0.9 - step / 200, "rewards/chosen": -step / 10, "logps/chosen": -100.0}
        for step in range(1, 81)
    ]
    found = {
        loss: [advice for advice in apply_rules(Evidence(settings_of(loss), lines)) if advice.rule == "chosen-falls"]
        for loss in ("sigmoid", "hinge", "apo_down")
    }
    assert found["sigmoid"] and not found["apo_down"]
    assert found["hinge"][0].remedy == {"loss_type": ["hinge", "sft"], "loss_weights": [1.0, 0.2]}
