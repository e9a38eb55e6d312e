"""Win rate of the tuned model over the base model, with its confidence interval. Standard library only."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Winner = Literal["tuned", "base", "tie", "both-bad", "same"]
WINNERS: tuple[Winner, ...] = ("tuned", "base", "tie", "both-bad", "same")
_EVEN = 0.5
_Z = 1.959964
"""Quantile of the standard normal distribution for a two-sided 95 % interval."""


@dataclass(frozen=True)
class WinRate:
    """Verdicts by winner.

    Attributes:
        tuned: pairs in which the tuned model's answer was better.
        base: pairs in which the base model's answer was better.
        tie: pairs of equally good answers.
        both_bad: pairs in which neither answer is of use.
        same: pairs of identical answers, which nobody had to judge.
        of_other_prompts: earlier verdicts on prompts that are no longer judged; counted nowhere else.
    """

    tuned: int = 0
    base: int = 0
    tie: int = 0
    both_bad: int = 0
    same: int = 0
    of_other_prompts: int = 0

    @property
    def judged(self) -> int:
        """Number of all verdicts."""
        return self.tuned + self.base + self.tie + self.both_bad + self.same

    @property
    def decided(self) -> int:
        """Number of verdicts for one side."""
        return self.tuned + self.base

    @property
    def rate(self) -> float | None:
        """Share of the decided verdicts that the tuned model won, 0 to 1; None without any."""
        return self.tuned / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson score interval of the rate (Wilson 1927); None without a decided verdict."""
        return wilson(self.tuned, self.decided) if self.decided else None

    @property
    def is_decided(self) -> bool:
        """Whether the interval excludes one half, the rate of two equally good models."""
        return self.interval is not None and not self.interval[0] <= _EVEN <= self.interval[1]

    def summary(self) -> str:
        """Return the win rate, its interval and what follows from it, as sentences."""
        rest = f"{self.tie} tie{'' if self.tie == 1 else 's'}, {self.both_bad} both bad, {self.same} the same."
        if self.of_other_prompts:
            rest += f" Not counted: {self.of_other_prompts} earlier verdicts of prompts that are not judged any more."
        if self.rate is None or self.interval is None:
            return f"No verdict for either side yet; {rest}"
        low, high = self.interval
        conclusion = (
            f"the {'tuned' if low > _EVEN else 'base'} model is better" if self.is_decided else "too few to tell"
        )
        return (
            f"The tuned model wins {self.tuned} of {self.decided}: {self.rate:.0%} (95 % interval {low:.0%} to "
            f"{high:.0%}): {conclusion}. {rest}"
        )


def tally(winners: Iterable[str], of_other_prompts: int = 0) -> WinRate:
    """Count winners; ``of_other_prompts`` is the number of further verdicts, which do not count."""
    counts = dict.fromkeys(WINNERS, 0)
    for winner in winners:
        if winner in counts:
            counts[winner] += 1
    return WinRate(counts["tuned"], counts["base"], counts["tie"], counts["both-bad"], counts["same"], of_other_prompts)


def wilson(wins: int, n: int, z: float = _Z) -> tuple[float, float]:
    """Return the Wilson score interval of ``wins`` in ``n`` trials, for the normal quantile ``z``.

    Raises:
        ZeroDivisionError: ``n`` is 0.
    """
    rate = wins / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At 0 or n wins a bound is exactly 0 or 1; rounding can leave it just outside, which would be shown as "-0 %".
    return max(0.0, middle - half), min(1.0, middle + half)
