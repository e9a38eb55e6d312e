"""What verdicts come to: a win rate with its interval. Standard library only."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Winner = Literal["tuned", "base", "tie", "both-bad", "same"]
WINNERS: tuple[Winner, ...] = ("tuned", "base", "tie", "both-bad", "same")
_EVEN = 0.5
_Z = 1.959964
"""Of a 95 % interval."""


@dataclass(frozen=True)
class WinRate:
    """How often which side won.

    Attributes:
        tuned: pairs in which the tuned model's answer was better.
        base: … the base model's.
        tie: as good as each other.
        both_bad: neither is of use.
        same: word for word the same, so that nobody had to judge.
        of_other_prompts: earlier verdicts of prompts that are not judged any more; they count nowhere else.
    """

    tuned: int = 0
    base: int = 0
    tie: int = 0
    both_bad: int = 0
    same: int = 0
    of_other_prompts: int = 0

    @property
    def judged(self) -> int:
        """Verdicts in all."""
        return self.tuned + self.base + self.tie + self.both_bad + self.same

    @property
    def decided(self) -> int:
        """Verdicts in favour of one side."""
        return self.tuned + self.base

    @property
    def rate(self) -> float | None:
        """The tuned model's part of the decided verdicts; None without any."""
        return self.tuned / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The Wilson interval of the rate (Wilson 1927), 95 %; None without a decided verdict."""
        return wilson(self.tuned, self.decided) if self.decided else None

    @property
    def is_decided(self) -> bool:
        """Whether the interval leaves out that both models are as good."""
        return self.interval is not None and not self.interval[0] <= _EVEN <= self.interval[1]

    def words(self) -> str:
        """Say what it comes to, and how sure that is."""
        rest = f"{self.tie} ties, {self.both_bad} both bad, {self.same} the same."
        if self.of_other_prompts:
            rest += f" Not counted: {self.of_other_prompts} earlier verdicts of prompts that are not judged any more."
        if self.rate is None or self.interval is None:
            return f"No verdict for either side yet; {rest}"
        low, high = self.interval
        sure = f"the {'tuned' if low > _EVEN else 'base'} model is better" if self.is_decided else "too few to tell"
        return (
            f"The tuned model wins {self.tuned} of {self.decided}: {self.rate:.0%} (95 % interval {low:.0%} to "
            f"{high:.0%}): {sure}. {rest}"
        )


def tally(winners: Iterable[str], of_other_prompts: int = 0) -> WinRate:
    """Count winners; ``of_other_prompts`` is how many more verdicts there are that do not count."""
    counts = dict.fromkeys(WINNERS, 0)
    for winner in winners:
        if winner in counts:
            counts[winner] += 1
    return WinRate(counts["tuned"], counts["base"], counts["tie"], counts["both-bad"], counts["same"], of_other_prompts)


def wilson(wins: int, n: int, z: float = _Z) -> tuple[float, float]:
    """Return the Wilson score interval of a frequency.

    Raises:
        ZeroDivisionError: there are no trials.
    """
    rate = wins / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At 0 or n wins a bound is 0 or 1 exactly, and rounding would leave it a trifle outside, shown as "-0 %".
    return max(0.0, middle - half), min(1.0, middle + half)
