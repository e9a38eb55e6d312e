"""Does the policy learn what was meant, and does it hold beyond the training pairs?"""

import math

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import coin_error, mean, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.strategies.metric_expectations import KL_REASONABLE, LN2

_APART, _APART_WITH_DROPOUT = 1.0, 20.0
"""Nats by which policy and reference may differ before the first update: rounding to bfloat16 alone moves log-ratios by
a fraction of a nat, dropout by more; another model moves them by many."""
_EARLY = 20
"""Steps within which an accuracy of 1.0 means leaked or trivial pairs."""
_SEEN = 16
"""Pairs that must have come out right for 1.0 to mean anything."""
_ALWAYS = 0.995
_WEAK = 0.6
"""Accuracy below which a policy that has moved has not found what the pairs prefer."""
_MOVED = 0.5
"""Nats of log-ratio above which the policy has moved enough to be judged."""
_MOVED_BY_RATE = 0.05
"""… or, at a rate that is not low, above which: a tenth of a nat may also be the rounding of bfloat16."""
_WORSE = 0.05
"""Nats of held-out loss by which the last evaluation must be worse than the best one to count as over-fitting."""
_GAP = 0.1
"""Nats that training must be better than evaluation, and share of pairs by which its accuracy must be."""
_MEMORISED = 0.5
"""Part of the held-out loss that the training loss must have fallen below."""
_CHOSEN_LOST = 0.3
"""Part of its nats by which a chosen answer must have become less likely; all of them count though it falls no more."""
_CHOSEN_NATS = 20.0
"""… and at least so many."""


def wrong_reference(run: Evidence) -> Advice | None:
    """Policy and reference start as one model, so the first loss is 0.6931; 0.0 means a wrong reference."""
    # Step 1 was computed before the first update.
    lines = [line for line in run.metrics if ("loss" in line or "eval_loss" in line) and line["step"] <= 1]
    if not lines or not run.sigmoid:
        return None
    # A margin is the difference of two log-ratios: at least one of them is half as large.
    parts = {"rewards/chosen": 1.0, "rewards/rejected": 1.0, "rewards/margins": 0.5}
    found = [
        (line.get(f"{kind}{name}"), part) for line in lines for kind in ("", "eval_") for name, part in parts.items()
    ]
    apart = max((abs(value) * part / run.beta for value, part in found if isinstance(value, (int, float))), default=0.0)
    if apart <= (_APART if run.settings.get("disable_dropout", True) else _APART_WITH_DROPOUT):
        return None
    losses = [line.get("loss", line.get("eval_loss")) for line in lines]
    loss = next((value for value in losses if isinstance(value, (int, float))), math.nan)
    return Advice(
        "wrong-reference",
        "error",
        f"Before the first step policy and reference differ already (by {apart:.1f} nats; loss {loss:.3f} instead of "
        "0.693): the reference is not the model that training started from. After stage one, merge its adapter and "
        "train from the merged model.",
        {},
        f"largest |reward| / β up to step {lines[-1]['step']}: {apart:.2f} nats",
    )


def swapped(run: Evidence) -> Advice | None:
    """Accuracy clearly below one half means that labels are swapped, in training or in evaluation."""
    held_out, trained = run.values("eval_rewards/accuracies"), run.values("rewards/accuracies")
    margins = run.values("eval_rewards/margins")
    if len(held_out) < 2 or not margins or margins[-1] >= 0:  # noqa: PLR2004 - the first is before training
        return None
    below = 0.5 - 2 * coin_error(_held_out(run))
    training = mean(part(trained, 0.5, 1))
    if held_out[-1] >= below or training <= 0.5:  # noqa: PLR2004 - a coin
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
    """Accuracy 1.0 within 20 steps means that the pairs are trivially told apart, or that data leaked."""
    # A margin of exactly 0 is a tie before the first update; TRL counts it as wrong.
    ties = {step for step, margin in run.series("rewards/margins") if margin == 0}
    points = [point for point in run.series("rewards/accuracies") if point[0] not in ties]
    early = [point for point in points if point[0] <= _EARLY]
    recent = part([accuracy for _, accuracy in early], 0.5, 1) if early else []
    late = [accuracy for step, accuracy in points if step > _EARLY]
    if len(recent) * _pairs_a_line(run) < _SEEN or mean(recent) < _ALWAYS or (late and mean(late) < _ALWAYS):
        return None
    losses = [value for step, value in run.series("loss") if step <= _EARLY]
    if not losses or min(losses) > LN2 / 2:
        return None
    return Advice(
        "trivial",
        "warning",
        f"Accuracy is 100 % within {_EARLY} steps and the loss {min(losses):.3f}: the rejected answers give themselves "
        "away (length, a marker, an empty text), or the pairs were seen before. Look at a few pairs; the policy "
        "learns the give-away, not the preference.",
        {},
        f"accuracy {mean(recent):.3f} from step {early[-len(recent)][0]} on, lowest loss {min(losses):.3f}",
    )


def over_fitting(run: Evidence) -> Advice | None:
    """The training margin grows while held-out loss does not follow."""
    held_out, trained = run.series("eval_loss"), run.values("loss")
    if len(held_out) < 3 or not trained:  # noqa: PLR2004
        return None
    best_step, best = min(held_out, key=lambda point: point[1])
    last_step, last = held_out[-1]
    training = mean(part(trained, 0.75, 1))
    risen = last_step != best_step and last - best >= max(_WORSE, 0.05 * best) and last - training >= _GAP
    gap = _accuracy_gap(run)
    if not risen and (gap is None or training > _MEMORISED * last):
        return None
    epochs = run.setting("num_train_epochs", 3)
    remedy = {"num_train_epochs": 2.0} if epochs > 2 and run.settings.get("max_steps") is None else {}  # noqa: PLR2004
    seen = (
        f"the held-out loss has risen from {best:.2f} (step {best_step}) to {last:.2f}"
        if risen
        else (f"the held-out loss stays at {last:.2f}, and held-out pairs are right less often, by {gap:.0%}")
    )
    return Advice(
        "over-fitting",
        "warning",
        f"Over-fitting: the training loss falls to {training:.2f} while {seen}: the pairs are learnt by heart. Fewer "
        "epochs, or more and more diverse pairs.",
        remedy,
        f"held-out loss {best:.3f} at step {best_step}, {last:.3f} at step {last_step}; training {training:.3f}",
    )


def chosen_falls(run: Evidence) -> Advice | None:
    """Both rewards falling is common; harm when the chosen answers keep losing probability."""
    chosen, logps = run.values("rewards/chosen"), run.values("logps/chosen")
    if not run.sigmoid or len(chosen) < 8 or not logps:  # noqa: PLR2004 - two points a quarter
        return None
    early, late = mean(part(chosen, 0.5, 0.75)) / run.beta, mean(part(chosen, 0.75, 1)) / run.beta
    start = abs(mean(part(logps, 0, 0.1)))
    fallen = -late
    if fallen < max(_CHOSEN_NATS, _CHOSEN_LOST * start) or (late > early and fallen < start):
        return None
    goes_on = " and keep losing" if late <= early else ""
    return Advice(
        "chosen-falls",
        "warning",
        f"The chosen answers lose probability{goes_on} ({fallen:.0f} nats an answer below the reference): the margin "
        "is there only because the rejected ones fall faster. Lower the rate, or add the sft loss.",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        f"mean log-ratio of chosen {early:.1f} nats in the third quarter, {late:.1f} in the last; {start:.0f} nats at "
        "the start",
    )


def kl(run: Evidence) -> Advice | None:
    """KL to the reference above 10, by more than the estimate may be wrong."""
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
    """The policy moves, and is right hardly more often than a coin."""
    trained, held_out = run.values("rewards/accuracies"), run.values("eval_rewards/accuracies")
    margins = run.values("rewards/margins")
    if not run.sigmoid or run.step < 2 * _EARLY or not trained:
        return None
    moved = mean([abs(value) for value in part(margins, 0.5, 1)]) / run.beta
    late = part(trained, 0.5, 1)
    training, beyond = mean(late), held_out[-1] if len(held_out) > 1 else mean(late)
    seen, kept = len(late) * _pairs_a_line(run), _held_out(run) if len(held_out) > 1 else 0.0
    rates = run.learning_rates
    enough = _MOVED_BY_RATE if rates and run.setting("learning_rate", 0.0) >= rates.lora else _MOVED
    if moved < enough or (training * seen + beyond * kept) / (seen + kept) >= _WEAK:
        return None
    return Advice(
        "weak-signal",
        "warning",
        f"The policy moves and is right in {training:.0%} of the training pairs and {beyond:.0%} of the held-out ones, "
        "hardly better than a coin: no clear preference in the pairs. Clearer and more diverse pairs help most; then "
        "another beta, 2 to 4 epochs, 500 pairs and more.",
        {},
        f"accuracy {training:.3f} in the second half, {beyond:.3f} held out; mean |margin| / β {moved:.2f} nats",
    )


def _accuracy_gap(run: Evidence) -> float | None:
    """By how much training accuracy is above held-out accuracy; None where chance may explain it."""
    trained, held_out = run.values("rewards/accuracies"), run.values("eval_rewards/accuracies")
    if not trained or not held_out:
        return None
    gap = mean(part(trained, 0.75, 1)) - held_out[-1]
    return gap if gap > max(_GAP, 2 * coin_error(_held_out(run))) else None


def _pairs_a_line(run: Evidence) -> float:
    """Pairs that one line of training metrics is the mean of."""
    batch = run.receipt.get("effective_batch")
    return (float(batch) if isinstance(batch, int) else 8.0) * max(run.setting("logging_steps", 1), 1.0)


def _held_out(run: Evidence) -> float:
    data = run.receipt.get("data")
    count = data.get("held_out") if isinstance(data, dict) else None
    return float(count) if isinstance(count, int) and count > 0 else 20.0
