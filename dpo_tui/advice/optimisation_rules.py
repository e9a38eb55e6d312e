"""Rules on the training curve: NaN, learning rate, β, and the number of steps.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats.
"""

import math
from collections.abc import Sequence

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.text.numbers import plain_number

SETTLED_STEPS = 20
"""Steps after which a curve is judged: warm-up is over, and it holds two windows of ten steps."""
HARMFUL_LOSS = 0.85
"""Mean loss of the last third above which training does harm: chance is 0.693, and a tenth of wrong labels alone does
not lift a healthy loss above this."""
FLAT_LOSS_NATS = 0.005
"""Distance of the loss from 0.6931 up to which it has not moved; at β 0.1 that is a log-ratio of a tenth of a nat."""
STILL_NATS = 0.1
"""Median |margin| / β below which the policy has hardly moved, in the second half of a run."""
STILL_NATS_EARLY = 0.02
"""The same in the first half: healthy runs start slowly, too."""
MOVED_NATS = 0.5
"""|margin| / β above which the policy has moved, whatever the loss says."""
FEW_STEPS = 30
"""Optimizer steps below which a run is too short: 500 pairs are 63 steps an epoch at an effective batch of 8."""
LEARNT_LOSS_SHARE = 0.8
"""Share of 0.6931 below which the loss counts as fallen, however few the steps were."""
_METRIC_NAMES = {"loss": "The loss", "grad_norm": "The gradient"}


def not_a_number(run: Evidence) -> Advice | None:
    """The loss or the gradient norm is NaN or infinite; no later metric has a meaning."""
    for line in reversed(run.metrics):
        broken = [name for name in _METRIC_NAMES if name in line and not _finite(line[name])]
        if broken:
            start = _first_broken_step(run, broken[0])
            return Advice(
                "nan",
                "error",
                f"{_METRIC_NAMES[broken[0]]} is not a number since step {start}: the model is broken. Stop, "
                "lower the rate, and look at the longest and oddest pairs.",
                _lower_rate(run),
                f"{broken[0]} = {line[broken[0]]}",
            )
        if "loss" in line:
            return None
    return None


def rate_high(run: Evidence) -> Advice | None:
    """The mean loss is above that of chance (0.6931), where healthy training falls below it."""
    losses = run.series("loss")
    if not run.has_sigmoid_loss or run.step < FEW_STEPS / 3 or len(losses) < 5:  # noqa: PLR2004 - fewer points are no curve
        return None
    late = part([value for _, value in losses], 2 / 3, 1)
    accuracy = mean(part(run.values("rewards/accuracies"), 2 / 3, 1))
    if mean(late) < HARMFUL_LOSS:
        return None
    rate = run.setting("learning_rate", 0.0)
    worst = max(value for _, value in losses)
    return Advice(
        "rate-high",
        "error" if mean(late) > 2 * LN2 else "warning",
        f"The loss is {mean(late):.2f} on average, worse than the 0.69 of tossing a coin, and jumped to {worst:.1f}: "
        f"the learning rate {plain_number(rate)} is too high here. Lower it, or warm up longer.",
        _lower_rate(run) | {"warmup_ratio": max(0.1, run.setting("warmup_ratio", 0.1))},
        f"mean loss of the last third {mean(late):.3f}, highest {worst:.3f}, accuracy {accuracy:.2f}",
    )


def beta(run: Evidence) -> Advice | None:
    """β is so small that the loss hardly changes when the policy moves, or so large that it swings."""
    betas = run.strategy.betas if run.strategy else None
    if betas is None or not run.has_sigmoid_loss or run.step < FEW_STEPS / 3:
        return None
    low, high = betas
    if low <= run.beta <= high:
        return None
    margins, losses = run.values("rewards/margins"), run.values("loss")
    if len(losses) < 5:  # noqa: PLR2004
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    if run.beta < low and abs(late - LN2) < 4 * FLAT_LOSS_NATS and moved >= MOVED_NATS:
        return Advice(
            "beta",
            "warning",
            f"The policy moves ({moved:.1f} nats a pair) and the loss stays at {late:.3f}: with beta {run.beta:g} "
            "hardly anything holds it to the reference. 0.1 is usual.",
            {"beta": 0.1},
            f"median |margin| / β {moved:.2f} nats, mean loss of the last third {late:.4f}",
        )
    spread = _standard_deviation(part(losses, 1 / 3, 1))
    if run.beta > high and (late > LN2 or spread > LN2 or moved < STILL_NATS):
        return Advice(
            "beta",
            "warning",
            f"With beta {run.beta:g} the smallest move of the policy swings the loss (by {spread:.2f} around "
            f"{late:.2f}): it is held too tightly to learn more. 0.1 to 0.5 is usual.",
            {"beta": 0.1},
            f"mean loss of the last third {late:.3f}, deviation {spread:.3f}, median |margin| / β {moved:.3f} nats",
        )
    return None


def too_short(run: Evidence) -> Advice | None:
    """The whole run has so few steps that warm-up and decay take all of them."""
    steps = run.max_steps
    if steps is None or steps >= FEW_STEPS or run.step < min(3, steps):
        return None
    losses = run.values("loss")
    if not losses or (run.has_sigmoid_loss and mean(part(losses, 2 / 3, 1)) < LEARNT_LOSS_SHARE * LN2):
        return None
    epochs = run.setting("num_train_epochs", 3)
    remedy = {"max_steps": None, "num_train_epochs": max(3.0, epochs)}
    rows = run.strategy.data.value if run.strategy else "examples"
    advised = run.strategy.enough_examples if run.strategy else None
    enough = f"; {advised} and more are advised" if advised else ""
    return Advice(
        "too-short",
        "warning",
        f"{steps} steps are too few to learn from {rows}: the loss is still {losses[-1]:.2f}. Train longer (2 to 4 "
        f"epochs), or on more {rows}{enough}.",
        remedy,
        f"{steps} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}",
    )


def rate_low(run: Evidence) -> Advice | None:
    """The loss stays at 0.6931 because the policy hardly moves."""
    if not run.has_sigmoid_loss or run.step < SETTLED_STEPS:
        return None
    losses, margins = run.values("loss"), run.values("rewards/margins")
    if not losses or not margins:
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    in_first_half = run.max_steps is not None and run.step < run.max_steps / 2
    if abs(late - LN2) > FLAT_LOSS_NATS or moved >= (STILL_NATS_EARLY if in_first_half else STILL_NATS):
        return None
    rate = run.setting("learning_rate", 0.0)
    lora = bool(run.settings.get("use_lora", True))
    rates = run.learning_rates
    faster = max(10 * rate, 0.0 if rates is None else rates.lora if lora else rates.low)
    advised = (
        f" For LoRA, TRL advises about {plain_number(rates.lora)}." if rates and lora and rate < rates.lora else ""
    )
    return Advice(
        "rate-low",
        "warning",
        f"Stuck at 0.6931: after {run.step} steps the policy has hardly moved. The learning rate "
        f"{plain_number(rate)} is too low here.{advised}",
        {"learning_rate": faster},
        f"mean loss of the last third {late:.4f}, median |margin| / β {moved:.3f} nats",
    )


def _lower_rate(run: Evidence) -> dict[str, float]:
    """A remedy: a tenth of the learning rate, not below the strategy's usual range."""
    rate, rates = run.setting("learning_rate", 0.0), run.learning_rates
    return {"learning_rate": max(float(f"{rate / 10:.3g}"), rates.low if rates else 0.0)} if rate else {}


def _first_broken_step(run: Evidence, name: str) -> int:
    """The first step at which a metric is not finite."""
    return next((line["step"] for line in run.metrics if name in line and not _finite(line[name])), run.step)


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _standard_deviation(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.sqrt(mean([(value - centre) ** 2 for value in values]))
