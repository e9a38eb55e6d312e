"""Rules on the training curve: NaN, learning rate, β, and the number of steps.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats. Thresholds of the loss are those of
DPO's own loss, which starts at ln 2 and can fall to 0; for others they are multiplied by `Evidence.loss_unit`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence, is_finite
from dpo_tui.advice.held_out import held_out_of
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.text.numbers import plain_number

SETTLED_STEPS = 20
"""Steps after which a curve is judged: warm-up is over, and it holds two windows of ten steps."""
USUAL_WARMUP = 0.1
"""Share of the steps over which the rate warms up, as TRL's examples of DPO have it."""
HARMFUL_LOSS = 0.85
"""Mean loss of the last third above which training does harm: chance is 0.693, and a tenth of wrong labels alone does
not lift a healthy loss above this."""
THROWN_NATS, THROWN_ACCURACY = 50.0, 0.75
"""Mean |log-ratio| of the chosen answers in the last third, more than all they had at the start, and the training
accuracy up to which such a throw is harm: losses that are bounded do not rise."""
LOST_TOKENS_SHARE = 0.5
"""Share of the tokens that were predicted at the start, below which the policy has lost its language: DPO moves the
probabilities of answers that the model knows, and on intact runs this share stays above nine tenths."""
_MIN_TOKEN_LINES = {"eval_mean_token_accuracy": 2, "mean_token_accuracy": 10}
"""Values of a metric from which on its course says something; the first evaluation is from before the first step."""
FLAT_LOSS_NATS = 0.005
"""Distance of the loss from its start up to which it has not moved; at β 0.1 that is a tenth of a nat."""
LITTLE_LOSS_NATS = 0.04
"""Distance of the loss from its start up to which it has hardly fallen, with a β outside its usual range."""
STILL_NATS = 0.1
"""Median |margin| / β below which the policy has hardly moved, in the second half of a run."""
STILL_NATS_EARLY = 0.02
"""The same in the first half: healthy runs start slowly, too."""
MOVED_NATS = 0.5
"""|margin| / β above which the policy has moved, whatever the loss says."""
FEW_STEPS = 30
"""Optimizer steps below which a run is too short: 500 pairs are 63 steps an epoch at an effective batch of 8."""
MANY_EPOCHS = 4.0
"""Epochs up to which more of them are advised."""
LEARNT_LOSS_SHARE = 0.8
"""Share of its start to which the loss must have fallen to count as learnt, however few the steps were."""
_METRIC_NAMES = {"loss": "The loss", "eval_loss": "The held-out loss", "grad_norm": "The gradient"}
_MIN_LOG_LINES = 5
"""With fewer log lines there is no curve to judge."""


def not_a_number(run: Evidence) -> Advice | None:
    """The loss or the gradient norm is NaN or infinite; no later metric has a meaning."""
    for line in reversed(run.metrics):
        broken = [name for name in _METRIC_NAMES if name in line and not is_finite(line[name])]
        if broken:
            name = broken[0]
            if _never_a_number(run):
                message = (
                    "The loss is not a number before the first update: the base model itself computes no numbers on "
                    "these rows. Its weights hold NaN or infinite values, or overflow in this precision. Generate a "
                    "text with the base model, and load it again from its source."
                )
                return Advice(
                    "nan", "error", message, {}, f"{name} = {line[name]} from the first evaluation or step on"
                )
            message = (
                f"{_METRIC_NAMES[name]} is not a number since step {_first_broken_step(run, name)}: the model is "
                "broken. Stop, lower the rate, and look at the longest and oddest pairs."
            )
            return Advice("nan", "error", message, _lower_rate(run), f"{name} = {line[name]}")
        if "loss" in line:
            return None
    return None


def _never_a_number(run: Evidence) -> bool:
    """Whether the losses before the first update were logged, and none was a number."""
    first = [line.get("loss", line.get("eval_loss")) for line in run.metrics if line["step"] <= 1 and _has_loss(line)]
    return bool(first) and not any(map(is_finite, first))


def _has_loss(line: Mapping[str, Any]) -> bool:
    return "loss" in line or "eval_loss" in line


def rate_high(run: Evidence) -> Advice | None:
    """The loss is well above its start, or the policy was thrown far and learnt little, or has lost its language."""
    losses, start, unit = run.values("loss"), run.loss_start, run.loss_unit
    if run.step < FEW_STEPS / 3 or len(losses) < _MIN_LOG_LINES:
        return None
    late = mean(part(losses, 2 / 3, 1))
    accuracy = mean(part(run.values("rewards/accuracies"), 2 / 3, 1))
    harmful = start is not None and unit is not None and late >= start + (HARMFUL_LOSS - LN2) * unit
    # A loss of means per token that falls is no harm, whatever the accuracy of whole answers.
    learns = run.compares_means and start is not None and unit is not None and late < start - FLAT_LOSS_NATS * unit
    thrown = _nats_thrown(run) if accuracy <= THROWN_ACCURACY and not learns else 0.0
    lost = _lost_tokens(run)
    if not harmful and not thrown and lost is None:
        return None
    symptom = f"The loss is {late:.2f} on average"
    if harmful and start is not None:
        symptom += f", worse than the {start:.2f} of tossing a coin, and jumped to {max(losses):.1f}"
    elif thrown:
        symptom += f", and the chosen answers have moved by {thrown:.0f} nats with {accuracy:.0%} of the pairs right"
    if lost is not None:
        symptom += f", and of the chosen answers' tokens {lost[1]:.0%} are predicted, {lost[0]:.0%} before"
    severe = thrown or lost is not None or (start is not None and unit is not None and late > start + LN2 * unit)
    return Advice(
        "rate-high",
        "error" if severe else "warning",
        f"{symptom}: the learning rate {plain_number(run.setting('learning_rate', 0.0))} is too high here. Lower it, "
        "or warm up longer.",
        _lower_rate(run) | run.longer_warmup(USUAL_WARMUP),
        f"mean loss of the last third {late:.3f}, highest {max(losses):.3f}, accuracy {accuracy:.2f}",
    )


def _lost_tokens(run: Evidence) -> tuple[float, float] | None:
    """The share of the chosen answers' tokens that is predicted, before and now, if most of it has been lost.

    No loss asks for that, so that it is harm with every loss, also one that falls meanwhile, such as ``ipo``.
    """
    names = ("eval_mean_token_accuracy", "mean_token_accuracy")
    for name in names:
        known = run.values(name)
        # One batch more or less of a short answer changes the share of a single line: parts of the curve are compared.
        if len(known) < _MIN_TOKEN_LINES[name]:
            continue
        before, now = (
            (known[0], known[-1]) if name == names[0] else (mean(part(known, 0, 0.1)), mean(part(known, 2 / 3, 1)))
        )
        return (before, now) if before > 0 and now < LOST_TOKENS_SHARE * before else None
    return None


def _nats_thrown(run: Evidence) -> float:
    """How far the chosen answers have moved, if by more than all they had at the start; 0 if less."""
    chosen, logps = [value for _, value in run.moved("rewards/chosen")], run.values("logps/chosen")
    if not chosen or not logps:
        return 0.0
    moved = mean([abs(value) for value in part(chosen, 2 / 3, 1)]) / run.beta
    return moved if moved >= max(THROWN_NATS, abs(mean(part(logps, 0, 0.1)))) else 0.0


def beta(run: Evidence) -> Advice | None:
    """β is so small that the loss hardly changes when the policy moves, or so large that it swings."""
    betas = run.strategy.betas(run.settings) if run.strategy else None
    start, unit = run.loss_start, run.loss_unit
    if betas is None or start is None or unit is None or run.step < FEW_STEPS / 3:
        return None
    if betas.low <= run.beta <= betas.high:
        return None
    margins, losses = run.values("rewards/margins"), run.values("loss")
    if len(losses) < _MIN_LOG_LINES:
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    if run.beta < betas.low and abs(late - start) < LITTLE_LOSS_NATS * unit and moved >= MOVED_NATS:
        return Advice(
            "beta",
            "warning",
            f"The policy moves ({moved:.1f} nats a pair) and the loss stays at {late:.3f}: with beta {run.beta:g} "
            f"hardly anything holds it to the reference; {betas.advice}.",
            {"beta": betas.usual},
            f"median |margin| / β {moved:.2f} nats, mean loss of the last third {late:.4f}",
        )
    spread = _standard_deviation(part(losses, 1 / 3, 1))
    if run.beta > betas.high and (late > start or spread > LN2 * unit or moved < STILL_NATS):
        return Advice(
            "beta",
            "warning",
            f"With beta {run.beta:g} the smallest move of the policy swings the loss (by {spread:.2f} around "
            f"{late:.2f}): it is held too tightly to learn more; {betas.advice}.",
            {"beta": betas.usual},
            f"mean loss of the last third {late:.3f}, deviation {spread:.3f}, median |margin| / β {moved:.3f} nats",
        )
    return None


def too_short(run: Evidence) -> Advice | None:
    """The whole run has so few steps that warm-up and decay take all of them."""
    steps = run.max_steps
    if steps is None or steps >= FEW_STEPS or run.step < min(3, steps):
        return None
    losses, start, unit = run.values("loss"), run.loss_start, run.loss_unit
    if not losses:
        return None
    held_out = held_out_of(run)
    if unit is None or start is None:
        learnt = held_out is not None and held_out.proves_learning
    else:
        learnt = mean(part(losses, 2 / 3, 1)) < start - (1 - LEARNT_LOSS_SHARE) * LN2 * unit
    if learnt:
        return None
    rows = run.strategy.data.value if run.strategy else "examples"
    advised = run.strategy.enough_examples if run.strategy else None
    enough = f"; {advised} and more are advised" if advised else ""
    rate = run.setting("learning_rate", 0.0)
    slow = f" The learning rate {plain_number(rate)} is low for LoRA, too." if _faster_for_lora(run) else ""
    return Advice(
        "too-short",
        "warning",
        f"{steps} steps are too few to learn from {rows}: the loss is still {losses[-1]:.2f}. Train longer (2 to 4 "
        f"epochs), in smaller batches, or on more {rows}{enough}.{slow}",
        _more_steps(run, steps) | _faster_for_lora(run),
        f"{steps} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}",
    )


def _more_steps(run: Evidence, steps: int) -> dict[str, Any]:
    """A remedy: no limit of the steps, more epochs, and where those are enough already smaller batches."""
    epochs = run.setting("num_train_epochs", 3.0)
    remedy: dict[str, Any] = {"max_steps": None, "num_train_epochs": max(3.0, epochs)}
    if run.settings.get("max_steps") is not None or epochs < 3:  # noqa: PLR2004 - the epochs that are advised
        return remedy
    remedy["num_train_epochs"] = max(MANY_EPOCHS, epochs)
    # As many parts of a batch as bring FEW_STEPS, if all of them become steps of their own.
    parts = max(int(run.setting("gradient_accumulation_steps", 1)), 1)
    wanted = FEW_STEPS / max(steps * remedy["num_train_epochs"] / max(epochs, 1e-9), 1.0)
    remedy["gradient_accumulation_steps"] = max(int(parts / wanted), 1) if wanted > 1 else parts
    return remedy


def _faster_for_lora(run: Evidence) -> dict[str, Any]:
    """A remedy: the rate that is advised for an adapter, where it is lower."""
    rates, rate = run.learning_rates, run.setting("learning_rate", 0.0)
    return {"learning_rate": rates.lora} if rates and run.settings.get("use_lora") and 0 < rate < rates.lora else {}


def rate_low(run: Evidence) -> Advice | None:
    """The loss stays at its start because the policy hardly moves."""
    losses, margins = run.values("loss"), [value for _, value in run.moved("rewards/margins")]
    start, unit = run.loss_start, run.loss_unit
    if start is None or unit is None or run.step < SETTLED_STEPS or not losses or not margins:
        return None
    late = mean(part(losses, 2 / 3, 1))
    moved = median([abs(value) for value in part(margins, 2 / 3, 1)]) / run.beta
    in_first_half = run.max_steps is not None and run.step < run.max_steps / 2
    if abs(late - start) > FLAT_LOSS_NATS * unit or moved >= (STILL_NATS_EARLY if in_first_half else STILL_NATS):
        return None
    rate = run.setting("learning_rate", 0.0)
    lora = bool(run.settings.get("use_lora", True))
    rates = run.learning_rates
    faster = max(float(f"{10 * rate:.3g}"), 0.0 if rates is None else rates.lora if lora else rates.low)
    advised = f" For LoRA, about {plain_number(rates.lora)} is advised." if rates and lora and rate < rates.lora else ""
    return Advice(
        "rate-low",
        "warning",
        f"Stuck at {start:.4g}: after {run.step} steps the policy has hardly moved. The learning rate "
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
    return next((line["step"] for line in run.metrics if name in line and not is_finite(line[name])), run.step)


def _standard_deviation(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.sqrt(mean([(value - centre) ** 2 for value in values]))
