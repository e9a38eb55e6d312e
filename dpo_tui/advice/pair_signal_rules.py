"""Rules on what the pairs tell: swapped labels, answers that give themselves away, and no clear preference.

A reward divided by β is the log-ratio log π − log π_ref of a whole answer, in nats. Thresholds of the loss are those of
DPO's own loss, which starts at ln 2 and can fall to 0; for others they are multiplied by `Evidence.loss_unit`.
"""

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import chance_standard_error, mean, part, wilson_interval
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.held_out import CHANCE, HeldOut, held_out_of, pairs_held_out
from dpo_tui.advice.optimisation_rules import MOVED_NATS, SETTLED_STEPS
from dpo_tui.advice.receipt_rules import length_share
from dpo_tui.strategies.metric_expectations import LN2

EARLY_STEPS = 20
"""Steps within which an accuracy of 1.0 means leaked or trivial pairs."""
MIN_PAIRS_SEEN = 16
"""Pairs on which an accuracy of 1.0 must have been measured."""
PERFECT_ACCURACY = 0.995
"""Mean accuracy from which on it counts as 1.0."""
MIN_PAIRS_AT_END, ALMOST_PERFECT_ACCURACY = 64, 0.98
"""Training pairs of the second half of the first pass that must all be right, and the held-out accuracy beside them:
annotators disagree on more."""
LENGTH_TELLS_SHARE, GIVEN_AWAY_ACCURACY = 0.99, 0.9
"""Share of the pairs that the answers' lengths alone tell apart, and the accuracy on unseen pairs that proves with its
95 % interval that the policy does so: annotators agree with each other on 63 % (HH, arXiv 2204.05862) to 77 % of the
pairs (InstructGPT, arXiv 2203.02155)."""
LOW_LOSS_ACCURACY, NO_LOSS_SHARE = 0.9, 0.05
"""The same for a loss of means per token, where the loss has come down to this share of its start."""
WEAK_ACCURACY = 0.6
"""Accuracy below which a policy that has moved has not learnt the pairs' preference."""
MOVED_NATS_AT_USUAL_RATE = 0.05
"""Mean |margin| / β above which the policy has moved, at a learning rate that is usual for LoRA or higher. At lower
rates `MOVED_NATS` counts: there a tenth of a nat may be the rounding of bfloat16."""
WARM_SHARE = 0.2
"""Share of a long run's steps before which its signal is not judged: the rate warms up, and the policy begins."""
NEARLY_OVER = 0.9
"""Share of a run's steps from which on a short one is judged, too."""
FALLEN_LOSS_NATS = 0.01
"""Fall of the held-out loss below its start from which on something general was learnt, if only for a while."""
FAR_NATS = 10.0
"""Margin / β within `EARLY_STEPS` that counts as a loss that has fallen by half: at β 0.1, −log σ(1) is 0.31."""


def swapped(run: Evidence) -> Advice | None:
    """Held-out accuracy is significantly below chance, training accuracy above: labels are swapped in one of them."""
    held_out, trained = run.values("eval_rewards/accuracies"), run.values("rewards/accuracies")
    margins = run.values("eval_rewards/margins")
    if len(held_out) < 2 or not margins or margins[-1] >= 0:  # noqa: PLR2004 - the first is before training
        return None
    if run.compares_means and _loss_is_below_start(run, held_out_of(run)):
        return None
    # Two standard errors below chance: 2.5 % of evaluations at chance level are lower.
    below = CHANCE - 2 * chance_standard_error(pairs_held_out(run))
    late = part(trained, 0.5, 1)
    training = mean(late)
    # Both sides must differ from chance: a run that has learnt nothing yet is below it in one evaluation of forty.
    surely, _ = wilson_interval(training, len(late) * run.pairs_per_line)
    if held_out[-1] >= below or surely <= CHANCE:
        return None
    return Advice(
        "swapped",
        "error",
        f"Training prefers the chosen answers ({training:.0%}), and the held-out pairs come out the other way round "
        f"({held_out[-1]:.0%} right): are chosen and rejected swapped in one of the two?",
        {},
        f"held-out accuracy {held_out[-1]:.2f} and margin {margins[-1]:z.3f} at the last evaluation, training accuracy "
        f"{training:.2f}",
    )


def trivial(run: Evidence) -> Advice | None:
    """No pair is told apart wrongly, from the beginning on or by the end: they are trivial, or were seen before."""
    early, late = _early_accuracy(run), _accuracy_of_every_pair(run)
    if early is None and late is None:
        return None
    losses = [value for step, value in run.series("loss") if step <= EARLY_STEPS]
    lengths = length_share(run)
    give_away = (
        f"the lengths of the answers alone tell {lengths:.0%} of the pairs apart"
        if lengths is not None and lengths >= LENGTH_TELLS_SHARE
        else "the rejected answers give themselves away (length, a marker, an empty text)"
    )
    seen = (
        f"Accuracy is 100 % within {EARLY_STEPS} steps and the loss {min(losses):.3f}"
        if early is not None
        else f"Of pairs that were not trained on yet, held-out ones among them, {late:.1%} are right"
    )
    return Advice(
        "trivial",
        "warning",
        f"{seen}: {give_away}, or the pairs were seen before. Look at a few pairs; the policy learns the "
        "give-away, not the preference.",
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
    # Without a reference pairs are ranked by likelihood: a model that writes good answers ranks them so from the start.
    if held_out.ranked_before:
        return None
    first_pass = [value for step, value in run.series("rewards/accuracies") if step <= run.steps_per_epoch]
    late = part(first_pass, 0.5, 1)
    if len(late) * run.pairs_per_line < MIN_PAIRS_AT_END:
        return None
    if held_out.accuracy >= ALMOST_PERFECT_ACCURACY and mean(late) >= PERFECT_ACCURACY:
        return mean(late)
    if (length_share(run) or 0.0) < LENGTH_TELLS_SHARE:
        return None
    seen, count = len(late) * run.pairs_per_line, float(held_out.count or 0)
    accuracy = (mean(late) * seen + held_out.accuracy * count) / (seen + count)
    return accuracy if wilson_interval(accuracy, seen + count)[0] > GIVEN_AWAY_ACCURACY else None


def _has_fallen(run: Evidence, share: float) -> bool:
    """Whether the loss of the first steps has come to a share of its start; without a known start, far in nats."""
    start, unit = run.loss_start, run.loss_unit
    if start is None or unit is None:
        margins = [value for step, value in run.moved("rewards/margins") if step <= EARLY_STEPS]
        return max(margins, default=0.0) >= FAR_NATS * run.beta
    losses = [value for step, value in run.series("loss") if step <= EARLY_STEPS]
    return min(losses, default=start) <= start - (1 - share) * LN2 * unit


def weak_signal(run: Evidence) -> Advice | None:
    """The policy moves, and on pairs that it was not trained on yet it is hardly better than chance."""
    trained = run.values("rewards/accuracies")
    if not trained or run.step < _steps_to_judge(run):
        return None
    margins = [value for _, value in run.moved("rewards/margins")]
    moved = mean([abs(value) for value in part(margins, 0.5, 1)]) / run.beta
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
    # After many passes over few pairs only the held-out ones are left to tell.
    weak = (
        unseen[0] < WEAK_ACCURACY or (not_shown and wilson_interval(*unseen)[0] <= CHANCE)
        if unseen is not None
        else _never_generalised(run, held_out)
    )
    if moved < enough or not weak:
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


def _accuracy_on_unseen_pairs(run: Evidence, held_out: HeldOut | None) -> tuple[float, float] | None:
    """Accuracy on held-out pairs and on those of the first pass, which are scored before they are trained on.

    Returns:
        The mean, each pair counting once, and how many they are; None where the first pass was too short to learn
        anything.
    """
    first_pass = [value for step, value in run.series("rewards/accuracies") if step <= run.steps_per_epoch]
    if run.steps_per_epoch < SETTLED_STEPS or len(first_pass) < 2:  # noqa: PLR2004 - a half of nothing
        return None
    late = part(first_pass, 0.5, 1)
    seen = len(late) * run.pairs_per_line
    if held_out is None or held_out.accuracy is None:
        return mean(late), seen
    pairs = pairs_held_out(run)
    return (mean(late) * seen + held_out.accuracy * pairs) / (seen + pairs), seen + pairs


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
