"""What the held-out examples prove about a run: accuracy with its interval, and whether their loss has fallen.

The accuracy of an evaluation is a mean over batches; its number of pairs is that of all held-out pairs.
"""

from dataclasses import dataclass

from dpo_tui.advice.curve_statistics import wilson_interval
from dpo_tui.advice.evidence import Evidence

CHANCE = 0.5
"""Accuracy of a policy that does not prefer either answer."""
FEW_PAIRS = 10
"""Held-out pairs below which no accuracy proves anything: 4 of 4 right happens by chance once in 16 times."""
_UNKNOWN_PAIRS = 20
"""Held-out pairs that are assumed where their number is unknown."""
FALLEN_LOSS_SHARE = 0.01
"""Fall of the held-out loss as a share of its start from which on it counts, where it is the only evidence."""


@dataclass(frozen=True)
class HeldOut:
    """The last evaluation after the first step, beside the one before it.

    Attributes:
        count: held-out examples; None where the run does not say how many.
        accuracy: share of the pairs in which the chosen answer wins; None where the strategy has none.
        interval: 95 % interval of the accuracy; 0 to 1 where the count is unknown.
        loss: of the last evaluation; None where none was logged.
        start: the held-out loss before the first step, or of the first evaluation.
        best: the lowest held-out loss.
        margin: mean reward of the chosen answers minus that of the rejected ones; None where none was logged.
        ranked_before: whether pairs are ranked without a reference: by likelihood, as a model may do well before any
            training, so that its accuracy alone proves nothing.
        accuracy_before: of the evaluation before the first step of such a run. Sums over whole answers rank by length:
            then it may be far below one half, and a rise from there is what was learnt.
    """

    count: int | None
    accuracy: float | None
    interval: tuple[float, float]
    loss: float | None
    start: float | None
    best: float | None
    margin: float | None = None
    ranked_before: bool = False
    accuracy_before: float | None = None

    @property
    def above_chance(self) -> bool:
        """Whether the accuracy is above one half by more than chance explains."""
        return self.interval[0] > CHANCE

    @property
    def above_start(self) -> bool:
        """Whether a run without a reference ranks pairs better than before its first step, by more than chance."""
        return self.accuracy_before is not None and self.interval[0] > self.accuracy_before

    @property
    def is_at_chance(self) -> bool:
        """Whether an accuracy of enough pairs does not differ from chance, or is below it."""
        known = self.accuracy is not None and self.count is not None and not self.is_few
        return known and not self.above_chance and not self.above_start

    @property
    def is_few(self) -> bool:
        """Whether the held-out examples are too few to tell."""
        return self.count is not None and self.count < FEW_PAIRS

    @property
    def proves_learning(self) -> bool:
        """Whether the held-out examples show that something general was learnt."""
        if self.is_few or self.loss is None or self.start is None or self.loss >= self.start:
            return False
        fallen = self.start - self.loss > FALLEN_LOSS_SHARE * abs(self.start)
        if self.accuracy is not None:
            return fallen and (self.above_chance or self.above_start) if self.ranked_before else self.above_chance
        # Where most answers have one label, a policy that likes all answers better has a lower loss, too.
        return fallen and (self.margin is None or self.margin > 0)


def held_out_of(run: Evidence) -> HeldOut | None:
    """Return what the last evaluation says; None before the first one after training has begun."""
    losses, accuracies = run.series("eval_loss"), run.series("eval_rewards/accuracies")
    later = [value for step, value in losses if step > 0]
    accuracy = accuracies[-1][1] if accuracies and accuracies[-1][0] > 0 else None
    if not later and accuracy is None:
        return None
    count = held_out_count(run)
    margins = run.series("eval_rewards/margins")
    first = losses[0] if losses else None
    expected = run.loss_scale.start if run.loss_scale else None
    # A run that was not evaluated before its first step starts where its loss must, else at its first evaluation.
    start = expected if first is not None and first[0] > 0 and expected is not None else first[1] if first else None
    ranked = run.strategy is not None and not run.strategy.has_reference
    return HeldOut(
        count=count,
        accuracy=accuracy,
        interval=wilson_interval(accuracy, count) if accuracy is not None and count else (0.0, 1.0),
        loss=later[-1] if later else None,
        start=start,
        best=min(later, default=None),
        margin=margins[-1][1] if margins and margins[-1][0] > 0 else None,
        ranked_before=ranked,
        accuracy_before=accuracies[0][1] if ranked and accuracies and accuracies[0][0] == 0 else None,
    )


def held_out_count(run: Evidence) -> int | None:
    """Return how many examples are held out; None where neither the receipt nor the metrics say so."""
    data = run.receipt.get("data")
    count = data.get("held_out") if isinstance(data, dict) else None
    if isinstance(count, int):
        return count
    # Other trainers log the duration of an evaluation and its speed.
    seconds, speeds = run.values("eval_runtime"), run.values("eval_samples_per_second")
    return round(seconds[-1] * speeds[-1]) if seconds and speeds else None


def pairs_held_out(run: Evidence) -> float:
    """How many pairs are held out, for a standard error; a small number where it is unknown."""
    return float(held_out_count(run) or _UNKNOWN_PAIRS)
