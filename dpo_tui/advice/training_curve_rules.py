"""Does the policy move, and does it move well? Rules on the training curve.

Log-ratios are in nats: a reward divided by β is log π − log π_ref of a whole answer.
"""

import math
from collections.abc import Sequence

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.text.numbers import figure

SETTLED = 20
"""Steps after which a curve says something: warm-up is over, and a window of ten steps fits in twice."""
_WORSE_THAN_COIN = 0.85
"""Mean loss of the last third above which training does harm: a policy that is right half the time has 0.693, and a
tenth of wrong labels alone does not lift a healthy loss above this."""
_FLAT = 0.005
"""Nats of loss within which a curve has not left 0.6931; at β 0.1 that is a log-ratio of a tenth of a nat."""
_STILL = 0.1
"""Nats of log-ratio below which the policy has hardly moved on a pair by the middle of a run."""
_FROZEN = 0.02
"""… and before the middle: healthy runs start slowly, too."""
_MOVED = 0.5
"""Nats of log-ratio above which it has moved, whatever the loss says."""
_FEW_STEPS = 30
"""Optimizer steps below which training has hardly begun: 500 pairs are 63 steps an epoch at a batch of 8."""
_LEARNT = 0.8
"""Part of 0.6931 below which the loss has fallen however few the steps were."""


def not_a_number(run: Evidence) -> Advice | None:
    """NaN or infinity in the loss or the gradient; nothing after it means anything."""
    for line in reversed(run.metrics):
        broken = [name for name in ("loss", "grad_norm") if name in line and not _finite(line[name])]
        if broken:
            return Advice(
                "nan",
                "error",
                f"{_called(broken[0])} is not a number since step {_since(run, broken[0])}: the model is broken. Stop, "
                "lower the rate, and look at the longest and oddest pairs.",
                _slower(run),
                f"{broken[0]} = {line[broken[0]]}",
            )
        if "loss" in line:
            return None
    return None


def rate_high(run: Evidence) -> Advice | None:
    """The loss swings above that of tossing a coin, where healthy training falls below it."""
    losses = run.series("loss")
    if not run.sigmoid or run.step < _FEW_STEPS / 3 or len(losses) < 5:  # noqa: PLR2004 - fewer points are no curve
        return None
    late = part([value for _, value in losses], 2 / 3, 1)
    accuracy = mean(part(run.values("rewards/accuracies"), 2 / 3, 1))
    if mean(late) < _WORSE_THAN_COIN:
        return None
    rate = run.setting("learning_rate", 0.0)
    worst = max(value for _, value in losses)
    return Advice(
        "rate-high",
        "error" if mean(late) > 2 * LN2 else "warning",
        f"The loss is {mean(late):.2f} on average, worse than the 0.69 of tossing a coin, and jumped to {worst:.1f}: "
        f"the learning rate {figure(rate)} is too high here. Lower it, or warm up longer.",
        _slower(run) | {"warmup_ratio": max(0.1, run.setting("warmup_ratio", 0.1))},
        f"mean loss of the last third {mean(late):.3f}, highest {worst:.3f}, accuracy {accuracy:.2f}",
    )


def beta(run: Evidence) -> Advice | None:
    """β so small that the loss hardly sees the policy move, or so large that it overreacts."""
    betas = run.strategy.betas if run.strategy else None
    if betas is None or not run.sigmoid or run.step < _FEW_STEPS / 3:
        return None
    low, high = betas
    if low <= run.beta <= high:
        return None
    margins, losses = run.values("rewards/margins"), run.values("loss")
    if len(losses) < 5:  # noqa: PLR2004
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    if run.beta < low and abs(late - LN2) < 4 * _FLAT and moved >= _MOVED:
        return Advice(
            "beta",
            "warning",
            f"The policy moves ({moved:.1f} nats a pair) and the loss stays at {late:.3f}: with beta {run.beta:g} "
            "hardly anything holds it to the reference. 0.1 is usual.",
            {"beta": 0.1},
            f"median |margin| / β {moved:.2f} nats, mean loss of the last third {late:.4f}",
        )
    spread = _spread(part(losses, 1 / 3, 1))
    if run.beta > high and (late > LN2 or spread > LN2 or moved < _STILL):
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
    """The whole run is so few steps that warm-up and decay are all of it."""
    steps = run.max_steps
    if steps is None or steps >= _FEW_STEPS or run.step < min(3, steps):
        return None
    losses = run.values("loss")
    if not losses or (run.sigmoid and mean(part(losses, 2 / 3, 1)) < _LEARNT * LN2):
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
    """The loss stays at 0.6931 because the policy does not move."""
    if not run.sigmoid or run.step < SETTLED:
        return None
    losses, margins = run.values("loss"), run.values("rewards/margins")
    if not losses or not margins:
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    young = run.max_steps is not None and run.step < run.max_steps / 2
    if abs(late - LN2) > _FLAT or moved >= (_FROZEN if young else _STILL):
        return None
    rate = run.setting("learning_rate", 0.0)
    lora = bool(run.settings.get("use_lora", True))
    rates = run.learning_rates
    faster = max(10 * rate, 0.0 if rates is None else rates.lora if lora else rates.low)
    advised = f" For LoRA, TRL advises about {figure(rates.lora)}." if rates and lora and rate < rates.lora else ""
    return Advice(
        "rate-low",
        "warning",
        f"Stuck at 0.6931: after {run.step} steps the policy has hardly moved. The learning rate {figure(rate)} is too "
        f"low here.{advised}",
        {"learning_rate": faster},
        f"mean loss of the last third {late:.4f}, median |margin| / β {moved:.3f} nats",
    )


def _slower(run: Evidence) -> dict[str, float]:
    rate, rates = run.setting("learning_rate", 0.0), run.learning_rates
    return {"learning_rate": max(float(f"{rate / 10:.3g}"), rates.low if rates else 0.0)} if rate else {}


def _since(run: Evidence, name: str) -> int:
    return next((line["step"] for line in run.metrics if name in line and not _finite(line[name])), run.step)


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _called(name: str) -> str:
    return {"loss": "The loss", "grad_norm": "The gradient"}[name]


def _spread(values: Sequence[float]) -> float:
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))
