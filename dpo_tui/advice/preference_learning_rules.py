"""Rules on what is learnt: over-fitting, chosen answers that lose probability, KL to the reference.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats. Thresholds of the loss are those of
DPO's own loss, which starts at ln 2 and can fall to 0; for others they are multiplied by `Evidence.loss_unit`.
"""

import math
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import chance_standard_error, mean, one_sided_t, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.held_out import held_out_of, pairs_held_out
from dpo_tui.strategies.dpo_losses import with_sft_loss
from dpo_tui.strategies.metric_expectations import KL_REASONABLE

EVAL_LOSS_RISE = 0.05
"""Rise of the held-out loss above its minimum, in nats, from which on it counts as over-fitting."""
GENERALISATION_GAP = 0.1
"""Difference of training and held-out loss in nats, and of their accuracies, from which on a run over-fits."""
MEMORISED_LOSS_SHARE = 0.5
"""Training loss as a share of the held-out loss, below which the pairs have been memorised."""
CHOSEN_LOSS_SHARE = 0.3
"""Fall of the chosen answers' log-probability as a share of its value at the start. A fall by all of it counts even
when it has come to a stop."""
CHOSEN_LOSS_NATS = 20.0
"""The same fall in nats; both must be reached."""


def over_fitting(run: Evidence) -> Advice | None:
    """The training loss falls while the held-out loss rises, or stays far above it."""
    held_out, trained = run.series("eval_loss"), run.values("loss")
    evaluated = held_out_of(run)
    if len(held_out) < 3 or not trained or (evaluated is not None and evaluated.is_few):  # noqa: PLR2004
        return None
    best_step, best = min(held_out, key=lambda point: point[1])
    last_step, last = held_out[-1]
    training = mean(part(trained, 0.75, 1))
    scale = run.loss_scale
    unit, floor = (scale.unit, scale.floor) if scale else (1.0, 0.0)
    risen = (
        last_step != best_step
        and last - best >= max(EVAL_LOSS_RISE * unit, 0.05 * abs(best))
        and last - training >= GENERALISATION_GAP * unit
    )
    accuracy_gap = _accuracy_gap(run)
    memorised = training - floor <= MEMORISED_LOSS_SHARE * (last - floor)
    if not risen and (accuracy_gap is None or not memorised):
        return None
    epochs = run.setting("num_train_epochs", 3)
    remedy = {"num_train_epochs": 2.0} if epochs > 2 and run.settings.get("max_steps") is None else {}  # noqa: PLR2004
    symptom = (
        f"the held-out loss has risen from {best:.2f} (step {best_step}) to {last:.2f}"
        if risen
        else (f"the held-out loss stays at {last:.2f}, and held-out pairs are right less often, by {accuracy_gap:.0%}")
    )
    return Advice(
        "over-fitting",
        "warning",
        f"Over-fitting: the training loss falls to {training:.2f} while {symptom}: the pairs are learnt by heart. "
        "Fewer epochs, or more and more diverse pairs.",
        remedy,
        f"held-out loss {best:.3f} at step {best_step}, {last:.3f} at step {last_step}; training {training:.3f}",
    )


def chosen_falls(run: Evidence) -> Advice | None:
    """The chosen answers become much less likely. Both rewards falling is common; a fall this large does harm."""
    chosen, logps = run.values("rewards/chosen"), run.values("logps/chosen")
    strategy = run.strategy
    if strategy is None or not strategy.has_reference or strategy.lowers_chosen(run.settings):
        return None
    if len(chosen) < 8 or not logps:  # noqa: PLR2004 - two points a quarter
        return None
    early, late = mean(part(chosen, 0.5, 0.75)) / run.beta, mean(part(chosen, 0.75, 1)) / run.beta
    start = abs(mean(part(logps, 0, 0.1)))
    fallen = -late
    if fallen < max(CHOSEN_LOSS_NATS, CHOSEN_LOSS_SHARE * start) or (late > early and fallen < start):
        return None
    remedy = _holding_chosen(run)
    words = "Lower the rate, or add the sft loss" if "loss_type" in remedy else "Lower the rate"
    still_falling = " and keep losing" if late <= early else ""
    return Advice(
        "chosen-falls",
        "warning",
        f"The chosen answers lose probability{still_falling} ({fallen:z.0f} nats an answer below the reference): the "
        f"margin is there only because the rejected ones fall faster. {words}.",
        remedy,
        f"mean log-ratio of chosen {early:z.1f} nats in the third quarter, {late:z.1f} in the last; {start:.0f} "
        "nats at the start",
    )


def kl(run: Evidence) -> Advice | None:
    """KL to the reference is above 10 nats an answer, with 95 % by the standard error of the estimate."""
    estimates = run.values("eval_kl") or run.values("kl")
    errors, answers = run.values("eval_kl_stderr"), run.values("eval_kl_n")
    doubt = errors[-1] * one_sided_t(answers[-1] if answers else math.inf) if errors else 0.0
    if not estimates or estimates[-1] - doubt <= KL_REASONABLE:
        return None
    error = f" ± {errors[-1]:.1f}" if errors else ""
    count = f", {answers[-1]:.0f} answers" if answers else ""
    return Advice(
        "kl",
        "warning",
        f"KL to the reference is about {estimates[-1]:z.1f}{error} nats an answer, and below {KL_REASONABLE:g} is "
        "reasonable: the policy drifts far from the reference. Raise beta, lower the rate, or stop earlier.",
        _higher_beta(run),
        f"estimate {estimates[-1]:z.2f}{error}{count}",
    )


def _holding_chosen(run: Evidence) -> dict[str, Any]:
    """A remedy: a part of the sft loss; where the run has that already, half the rate."""
    rate = run.setting("learning_rate", 0.0)
    slower = {"learning_rate": float(f"{rate / 2:.3g}")} if rate else {}
    if run.strategy is not None and not run.strategy.reads("loss_type"):
        return slower
    return with_sft_loss(run.settings) or slower


def _higher_beta(run: Evidence) -> dict[str, Any]:
    """A remedy: twice β, within what is usual for the loss."""
    betas = run.strategy.betas(run.settings) if run.strategy else None
    most = min(betas.high, max(1.0, 2 * betas.usual)) if betas else 1.0
    return {"beta": float(f"{min(run.beta * 2, most):.3g}")} if run.beta < most else {}


def _accuracy_gap(run: Evidence) -> float | None:
    """Training accuracy minus held-out accuracy; None where the difference is small or may be chance."""
    trained, held_out = run.values("rewards/accuracies"), run.values("eval_rewards/accuracies")
    if not trained or not held_out:
        return None
    gap = mean(part(trained, 0.75, 1)) - held_out[-1]
    return gap if gap > max(GENERALISATION_GAP, 2 * chance_standard_error(pairs_held_out(run))) else None
