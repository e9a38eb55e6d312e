"""Rules on what is learnt: swapped labels, trivial pairs, over-fitting, falling chosen answers, KL, weak signal.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats. Thresholds of the loss are those of
DPO's own loss, which starts at ln 2 and can fall to 0; for others they are multiplied by `Evidence.loss_unit`.
"""

from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import chance_standard_error, mean, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.held_out import CHANCE, HeldOut, held_out_count, held_out_of
from dpo_tui.advice.optimisation_rules import MOVED_NATS, SETTLED_STEPS
from dpo_tui.strategies.dpo_losses import with_sft_loss
from dpo_tui.strategies.metric_expectations import KL_REASONABLE, LN2

EARLY_STEPS = 20
"""Steps within which an accuracy of 1.0 means leaked or trivial pairs."""
MIN_PAIRS_SEEN = 16
"""Pairs on which an accuracy of 1.0 must have been measured."""
PERFECT_ACCURACY = 0.995
"""Mean accuracy from which on it counts as 1.0."""
MIN_PAIRS_AT_END, ALMOST_PERFECT_ACCURACY = 64, 0.98
"""Training pairs of the second half of the first pass that must all be right, and the held-out accuracy beside them:
annotators disagree on more."""
LOW_LOSS_ACCURACY, NO_LOSS_SHARE = 0.9, 0.05
"""The same for a loss of means per token, where the loss has come down to this share of its start."""
WEAK_ACCURACY = 0.6
"""Accuracy below which a policy that has moved has not learnt the pairs' preference."""
MOVED_NATS_AT_USUAL_RATE = 0.05
"""Mean |margin| / β above which the policy has moved, at a learning rate that is usual for LoRA or higher. At lower
rates `MOVED_NATS` counts: there a tenth of a nat may be the rounding of bfloat16."""
WEAK_ACCURACY_AT_CHANCE = 0.65
"""The same where the accuracy of enough held-out pairs does not differ from chance."""
WARM_SHARE = 0.2
"""Share of a long run's steps before which its signal is not judged: the rate warms up, and the policy begins."""
NEARLY_OVER = 0.9
"""Share of a run's steps from which on a short one is judged, too."""
FALLEN_LOSS_NATS = 0.01
"""Fall of the held-out loss below its start from which on something general was learnt, if only for a while."""
FAR_NATS = 10.0
"""Margin / β within `EARLY_STEPS` that counts as a loss that has fallen by half: at β 0.1, −log σ(1) is 0.31."""
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
_UNKNOWN_PAIRS = 20
"""Held-out pairs that are assumed where their number is unknown."""


def swapped(run: Evidence) -> Advice | None:
    """Held-out accuracy is significantly below chance, training accuracy above: labels are swapped in one of them."""
    held_out, trained = run.values("eval_rewards/accuracies"), run.values("rewards/accuracies")
    margins = run.values("eval_rewards/margins")
    if len(held_out) < 2 or not margins or margins[-1] >= 0:  # noqa: PLR2004 - the first is before training
        return None
    if run.compares_means and _loss_is_below_start(run, held_out_of(run)):
        return None
    # Two standard errors below chance: 2.5 % of evaluations at chance level are lower.
    below = CHANCE - 2 * chance_standard_error(_held_out_pairs(run))
    training = mean(part(trained, 0.5, 1))
    if held_out[-1] >= below or training <= CHANCE:
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
    """No pair is told apart wrongly, from the beginning on or by the end: they are trivial, or were seen before."""
    early, late = _early_accuracy(run), _accuracy_of_every_pair(run)
    if early is None and late is None:
        return None
    losses = [value for step, value in run.series("loss") if step <= EARLY_STEPS]
    seen = (
        f"Accuracy is 100 % within {EARLY_STEPS} steps and the loss {min(losses):.3f}"
        if early is not None
        else "Of pairs that were not trained on yet, held-out ones among them, all but none are right"
    )
    return Advice(
        "trivial",
        "warning",
        f"{seen}: the rejected answers give themselves away (length, a marker, an empty text), or the pairs were seen "
        "before. Look at a few pairs; the policy learns the give-away, not the preference.",
        {},
        f"accuracy {early if early is not None else late:.3f}, lowest loss of the first {EARLY_STEPS} steps "
        f"{min(losses, default=float('nan')):.3f}",
    )


def _early_accuracy(run: Evidence) -> float | None:
    """The accuracy of the first steps where it is perfect, and the loss has come down; None where it is not."""
    # A margin of exactly 0 is a tie before the first update; TRL counts it as wrong.
    ties = {step for step, margin in run.series("rewards/margins") if margin == 0}
    points = [point for point in run.series("rewards/accuracies") if point[0] not in ties]
    early = [point for point in points if point[0] <= EARLY_STEPS]
    recent = part([accuracy for _, accuracy in early], 0.5, 1) if early else []
    late = [accuracy for step, accuracy in points if step > EARLY_STEPS]
    # The accuracy of whole answers is not what a loss of means per token makes perfect.
    perfect = LOW_LOSS_ACCURACY if run.compares_means and _has_fallen(run, NO_LOSS_SHARE) else PERFECT_ACCURACY
    if len(recent) * run.pairs_per_line < MIN_PAIRS_SEEN or min(mean(recent), mean(late or recent)) < perfect:
        return None
    return mean(recent) if run.values("loss") and _has_fallen(run, 0.5) else None


def _accuracy_of_every_pair(run: Evidence) -> float | None:
    """The accuracy on pairs that were not trained on yet, if next to none is wrong; None where some are, or are few."""
    held_out = held_out_of(run)
    if held_out is None or held_out.accuracy is None or (held_out.count or 0) < MIN_PAIRS_SEEN:
        return None
    first_pass = [value for step, value in run.series("rewards/accuracies") if step <= run.steps_per_epoch]
    late = part(first_pass, 0.5, 1)
    if len(late) * run.pairs_per_line < MIN_PAIRS_AT_END or held_out.accuracy < ALMOST_PERFECT_ACCURACY:
        return None
    return mean(late) if mean(late) >= PERFECT_ACCURACY else None


def _has_fallen(run: Evidence, share: float) -> bool:
    """Whether the loss of the first steps has come to a share of its start; without a known start, far in nats."""
    start, unit = run.loss_start, run.loss_unit
    if start is None or unit is None:
        margins = [value for step, value in run.series("rewards/margins") if step <= EARLY_STEPS]
        return max(margins, default=0.0) >= FAR_NATS * run.beta
    losses = [value for step, value in run.series("loss") if step <= EARLY_STEPS]
    return min(losses, default=start) <= start - (1 - share) * LN2 * unit


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
    still_falling = " and keep losing" if late <= early else ""
    return Advice(
        "chosen-falls",
        "warning",
        f"The chosen answers lose probability{still_falling} ({fallen:.0f} nats an answer below the reference): the "
        "margin is there only because the rejected ones fall faster. Lower the rate, or add the sft loss.",
        _holding_chosen(run),
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
        _higher_beta(run),
        f"estimate {estimates[-1]:.2f}{error}{count}",
    )


def weak_signal(run: Evidence) -> Advice | None:
    """The policy moves, and on pairs that it was not trained on yet it is hardly better than chance."""
    trained = run.values("rewards/accuracies")
    if not trained or run.step < _steps_to_judge(run):
        return None
    moved = mean([abs(value) for value in part(run.values("rewards/margins"), 0.5, 1)]) / run.beta
    rates = run.learning_rates
    enough = MOVED_NATS_AT_USUAL_RATE if rates and run.setting("learning_rate", 0.0) >= rates.lora else MOVED_NATS
    held_out = held_out_of(run)
    if held_out is not None and held_out.proves_learning:
        return None
    # Held-out pairs below chance while the loss falls are another fault: something was learnt, the wrong way. Of a loss
    # of means per token, whole answers at chance are none.
    below_chance = held_out is not None and held_out.interval[1] < CHANCE
    if (run.compares_means or below_chance) and _loss_is_below_start(run, held_out):
        return None
    unseen = _accuracy_on_unseen_pairs(run, held_out)
    not_shown = held_out is not None and held_out.is_at_chance
    weak = unseen is not None and unseen < (WEAK_ACCURACY_AT_CHANCE if not_shown else WEAK_ACCURACY)
    if moved < enough or not (weak or _never_generalised(run, held_out)):
        return None
    training = mean(part(trained, 0.5, 1))
    evaluation = held_out.accuracy if held_out is not None else None
    where = "" if evaluation is None else f" and {evaluation:.0%} of the held-out ones"
    return Advice(
        "weak-signal",
        "warning",
        f"The policy moves and is right in {training:.0%} of the training pairs{where}, hardly better than a coin on "
        "pairs that it has not seen: no clear preference in them. Clearer and more diverse pairs help most; then "
        "another beta, 2 to 4 epochs, 500 pairs and more.",
        {},
        f"accuracy {training:.3f} in the second half"
        + ("" if evaluation is None else f", {evaluation:.3f} held out")
        + f"; mean |margin| / β {moved:.2f} nats",
    )


def _steps_to_judge(run: Evidence) -> float:
    """Steps after which a policy that has moved must have learnt something: fewer at the end of a short run."""
    if run.max_steps is None:
        return SETTLED_STEPS if run.over else 2 * EARLY_STEPS
    if run.step >= NEARLY_OVER * run.max_steps:
        return SETTLED_STEPS
    return max(2 * EARLY_STEPS, WARM_SHARE * run.max_steps)


def _accuracy_on_unseen_pairs(run: Evidence, held_out: HeldOut | None) -> float | None:
    """Accuracy on held-out pairs and on those of the first pass, which are scored before they are trained on.

    Returns:
        The mean, each pair counting once; None where the first pass was too short to learn anything.
    """
    first_pass = [value for step, value in run.series("rewards/accuracies") if step <= run.steps_per_epoch]
    if run.steps_per_epoch < SETTLED_STEPS or len(first_pass) < 2:  # noqa: PLR2004 - a half of nothing
        return None
    late = part(first_pass, 0.5, 1)
    seen = len(late) * run.pairs_per_line
    if held_out is None or held_out.accuracy is None:
        return mean(late)
    pairs = _held_out_pairs(run)
    return (mean(late) * seen + held_out.accuracy * pairs) / (seen + pairs)


def _never_generalised(run: Evidence, held_out: HeldOut | None) -> bool:
    """Whether the held-out pairs are right no more often than by chance, and their loss has never fallen."""
    if held_out is None or not held_out.is_at_chance or held_out.best is None or held_out.start is None:
        return False
    return held_out.best > held_out.start - FALLEN_LOSS_NATS * (run.loss_unit or 1.0)


def _loss_is_below_start(run: Evidence, held_out: HeldOut | None) -> bool:
    """Whether the last held-out loss is below its start; without an evaluation, whether the training loss is."""
    start = run.loss_start if held_out is None else held_out.start
    last = mean(part(run.values("loss"), 0.5, 1)) if held_out is None else held_out.loss
    return start is not None and last is not None and last < start - FALLEN_LOSS_NATS * (run.loss_unit or 1.0)


def _holding_chosen(run: Evidence) -> dict[str, Any]:
    """A remedy: a part of the sft loss; where the run has that already, half the rate."""
    rate = run.setting("learning_rate", 0.0)
    return with_sft_loss(run.settings) or ({"learning_rate": float(f"{rate / 2:.3g}")} if rate else {})


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
    return gap if gap > max(GENERALISATION_GAP, 2 * chance_standard_error(_held_out_pairs(run))) else None


def _held_out_pairs(run: Evidence) -> float:
    """How many pairs are held out; 20 where that is unknown."""
    return float(held_out_count(run) or _UNKNOWN_PAIRS)
