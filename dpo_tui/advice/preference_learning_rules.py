"""Rules on what is learnt: the reference, swapped labels, trivial pairs, over-fitting, falling chosen answers, KL.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats.
"""

import math

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import chance_standard_error, mean, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.optimisation_rules import MOVED_NATS
from dpo_tui.strategies.metric_expectations import KL_REASONABLE, LN2

REFERENCE_GAP, REFERENCE_GAP_WITH_DROPOUT = 1.0, 20.0
"""Nats by which the log-ratios may differ from 0 before the first update: rounding to bfloat16 moves them by a fraction
of a nat, dropout by more; a reference that is another model by many."""
EARLY_STEPS = 20
"""Steps within which an accuracy of 1.0 means leaked or trivial pairs."""
MIN_PAIRS_SEEN = 16
"""Pairs on which an accuracy of 1.0 must have been measured."""
PERFECT_ACCURACY = 0.995
"""Mean accuracy from which on it counts as 1.0."""
WEAK_ACCURACY = 0.6
"""Accuracy below which a policy that has moved has not learnt the pairs' preference."""
MOVED_NATS_AT_USUAL_RATE = 0.05
"""Mean |margin| / β above which the policy has moved, at a learning rate that is usual for LoRA or higher. At lower
rates `MOVED_NATS` counts: there a tenth of a nat may be the rounding of bfloat16."""
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


def wrong_reference(run: Evidence) -> Advice | None:
    """Policy and reference differ before the first update, although they start as one model with a loss of 0.6931."""
    # The metrics of step 1 are of its forward pass, before the first update.
    lines = [line for line in run.metrics if ("loss" in line or "eval_loss" in line) and line["step"] <= 1]
    if not lines or not run.has_sigmoid_loss:
        return None
    # A margin is the difference of two log-ratios: at least one of them is half as large.
    shares = {"rewards/chosen": 1.0, "rewards/rejected": 1.0, "rewards/margins": 0.5}
    rewards = [
        (line.get(f"{prefix}{name}"), share)
        for line in lines
        for prefix in ("", "eval_")
        for name, share in shares.items()
    ]
    gap = max(
        (abs(value) * share / run.beta for value, share in rewards if isinstance(value, (int, float))), default=0.0
    )
    if gap <= (REFERENCE_GAP if run.settings.get("disable_dropout", True) else REFERENCE_GAP_WITH_DROPOUT):
        return None
    losses = [line.get("loss", line.get("eval_loss")) for line in lines]
    loss = next((value for value in losses if isinstance(value, (int, float))), math.nan)
    return Advice(
        "wrong-reference",
        "error",
        f"Before the first step policy and reference differ already (by {gap:.1f} nats; loss {loss:.3f} instead of "
        "0.693): the reference is not the model that training started from. After stage one, merge its adapter and "
        "train from the merged model.",
        {},
        f"largest |reward| / β up to step {lines[-1]['step']}: {gap:.2f} nats",
    )


def swapped(run: Evidence) -> Advice | None:
    """Held-out accuracy is significantly below chance, training accuracy above: labels are swapped in one of them."""
    held_out, trained = run.values("eval_rewards/accuracies"), run.values("rewards/accuracies")
    margins = run.values("eval_rewards/margins")
    if len(held_out) < 2 or not margins or margins[-1] >= 0:  # noqa: PLR2004 - the first is before training
        return None
    # Two standard errors below chance: 2.5 % of evaluations at chance level are lower.
    below = 0.5 - 2 * chance_standard_error(_held_out_pairs(run))
    training = mean(part(trained, 0.5, 1))
    if held_out[-1] >= below or training <= 0.5:  # noqa: PLR2004 - chance level
        return None
    return Advice(
        "swapped",
        "error",
        f"Training prefers the chosen answers ({training:.0%}), and the held-out pairs come out the other way round "
        f"({held_out[-1]:.0%} right): are chosen and rejected swapped in one of the two?",
        {},
        f"held-out accuracy {held_out[-1]:.2f} and margin {margins[-1]:.3f} at the last evaluation, training accuracy "
        f"{training:.2f}",
    )


def trivial(run: Evidence) -> Advice | None:
    """Accuracy is 1.0 within 20 steps: the pairs are trivial to tell apart, or were seen before."""
    # A margin of exactly 0 is a tie before the first update; TRL counts it as wrong.
    ties = {step for step, margin in run.series("rewards/margins") if margin == 0}
    points = [point for point in run.series("rewards/accuracies") if point[0] not in ties]
    early = [point for point in points if point[0] <= EARLY_STEPS]
    recent = part([accuracy for _, accuracy in early], 0.5, 1) if early else []
    late = [accuracy for step, accuracy in points if step > EARLY_STEPS]
    if (
        len(recent) * _pairs_per_line(run) < MIN_PAIRS_SEEN
        or mean(recent) < PERFECT_ACCURACY
        or (late and mean(late) < PERFECT_ACCURACY)
    ):
        return None
    losses = [value for step, value in run.series("loss") if step <= EARLY_STEPS]
    if not losses or min(losses) > LN2 / 2:
        return None
    return Advice(
        "trivial",
        "warning",
        f"Accuracy is 100 % within {EARLY_STEPS} steps and the loss {min(losses):.3f}: the rejected answers give "
        "themselves away (length, a marker, an empty text), or the pairs were seen before. Look at a few pairs; the "
        "policy learns the give-away, not the preference.",
        {},
        f"accuracy {mean(recent):.3f} from step {early[-len(recent)][0]} on, lowest loss {min(losses):.3f}",
    )


def over_fitting(run: Evidence) -> Advice | None:
    """The training loss falls while the held-out loss rises, or stays far above it."""
    held_out, trained = run.series("eval_loss"), run.values("loss")
    if len(held_out) < 3 or not trained:  # noqa: PLR2004
        return None
    best_step, best = min(held_out, key=lambda point: point[1])
    last_step, last = held_out[-1]
    training = mean(part(trained, 0.75, 1))
    risen = (
        last_step != best_step
        and last - best >= max(EVAL_LOSS_RISE, 0.05 * best)
        and last - training >= GENERALISATION_GAP
    )
    accuracy_gap = _accuracy_gap(run)
    if not risen and (accuracy_gap is None or training > MEMORISED_LOSS_SHARE * last):
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
    if not run.has_sigmoid_loss or len(chosen) < 8 or not logps:  # noqa: PLR2004 - two points a quarter
        return None
    early, late = mean(part(chosen, 0.5, 0.75)) / run.beta, mean(part(chosen, 0.75, 1)) / run.beta
    start = abs(mean(part(logps, 0, 0.1)))
    fallen = -late
    if fallen < max(CHOSEN_LOSS_NATS, CHOSEN_LOSS_SHARE * start) or (late > early and fallen < start):
        return None
    still_falling = " and keep losing" if late <= early else ""
    return Advice(
        "chosen-falls",
        "warning",
        f"The chosen answers lose probability{still_falling} ({fallen:.0f} nats an answer below the reference): the "
        "margin is there only because the rejected ones fall faster. Lower the rate, or add the sft loss.",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        f"mean log-ratio of chosen {early:.1f} nats in the third quarter, {late:.1f} in the last; {start:.0f} nats at "
        "the start",
    )


def kl(run: Evidence) -> Advice | None:
    """KL to the reference is above 10 nats an answer by more than the standard error of the estimate."""
    estimates = run.values("eval_kl") or run.values("kl")
    errors, answers = run.values("eval_kl_stderr"), run.values("eval_kl_n")
    if not estimates or estimates[-1] - (errors[-1] if errors else 0.0) <= KL_REASONABLE:
        return None
    error = f" ± {errors[-1]:.1f}" if errors else ""
    count = f", {answers[-1]:.0f} answers" if answers else ""
    return Advice(
        "kl",
        "warning",
        f"KL to the reference is about {estimates[-1]:.1f}{error} nats an answer, and below {KL_REASONABLE:g} is "
        "reasonable: the policy drifts far from the reference. Raise beta, lower the rate, or stop earlier.",
        {"beta": float(f"{min(run.beta * 2, 1.0):.3g}")} if run.beta < 1 else {},
        f"estimate {estimates[-1]:.2f}{error}{count}",
    )


def weak_signal(run: Evidence) -> Advice | None:
    """The policy moves, and its accuracy hardly exceeds chance."""
    trained, held_out = run.values("rewards/accuracies"), run.values("eval_rewards/accuracies")
    margins = run.values("rewards/margins")
    if not run.has_sigmoid_loss or run.step < 2 * EARLY_STEPS or not trained:
        return None
    moved = mean([abs(value) for value in part(margins, 0.5, 1)]) / run.beta
    late = part(trained, 0.5, 1)
    training, evaluation = mean(late), held_out[-1] if len(held_out) > 1 else mean(late)
    seen, held_out_pairs = len(late) * _pairs_per_line(run), _held_out_pairs(run) if len(held_out) > 1 else 0.0
    rates = run.learning_rates
    # Training accuracy in the second half and the last held-out accuracy, each weighted by its number of pairs.
    accuracy = (training * seen + evaluation * held_out_pairs) / (seen + held_out_pairs)
    enough = MOVED_NATS_AT_USUAL_RATE if rates and run.setting("learning_rate", 0.0) >= rates.lora else MOVED_NATS
    if moved < enough or accuracy >= WEAK_ACCURACY:
        return None
    return Advice(
        "weak-signal",
        "warning",
        f"The policy moves and is right in {training:.0%} of the training pairs and {evaluation:.0%} of the held-out "
        "ones, hardly better than a coin: no clear preference in the pairs. Clearer and more diverse pairs help "
        "most; then another beta, 2 to 4 epochs, 500 pairs and more.",
        {},
        f"accuracy {training:.3f} in the second half, {evaluation:.3f} held out; mean |margin| / β {moved:.2f} nats",
    )


def _accuracy_gap(run: Evidence) -> float | None:
    """Training accuracy minus held-out accuracy; None where the difference is small or may be chance."""
    trained, held_out = run.values("rewards/accuracies"), run.values("eval_rewards/accuracies")
    if not trained or not held_out:
        return None
    gap = mean(part(trained, 0.75, 1)) - held_out[-1]
    return gap if gap > max(GENERALISATION_GAP, 2 * chance_standard_error(_held_out_pairs(run))) else None


def _pairs_per_line(run: Evidence) -> float:
    """How many pairs one line of training metrics averages over."""
    batch = run.receipt.get("effective_batch")
    return (float(batch) if isinstance(batch, int) else 8.0) * max(run.setting("logging_steps", 1), 1.0)


def _held_out_pairs(run: Evidence) -> float:
    """How many pairs are held out, as the receipt says; 20 where it does not."""
    data = run.receipt.get("data")
    count = data.get("held_out") if isinstance(data, dict) else None
    return float(count) if isinstance(count, int) and count > 0 else 20.0
