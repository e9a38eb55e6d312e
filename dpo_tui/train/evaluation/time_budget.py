"""How much time looking at the model may take, so that it stays a small part of the training.

What KL estimates and answers cost is not known beforehand: it depends on model, device and answer length. So the first
look is short, what it cost is measured, and later looks use fewer prompts, or are left out, to stay within the share.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_LOOK = 10.0
"""Seconds that a look may take before the pace of the training is known."""
LAST_LOOK = 10.0
"""Seconds that the look after the last step may take, however short the training was: it is the run's result."""
_OVERRUN = 2.0
"""A look ends by force when it takes this many times what it was expected to."""


@dataclass(frozen=True)
class StepTimer:
    """How fast the training goes.

    Attributes:
        step_seconds: of a step so far; None before the first.
        step: steps done.
        max_steps: steps in all.
        eval_steps: steps between two evaluations.
    """

    step_seconds: float | None
    step: int
    max_steps: int
    eval_steps: int

    @property
    def is_last(self) -> bool:
        """Whether the training is over."""
        return self.step >= self.max_steps

    @property
    def evaluations_left(self) -> int:
        """This evaluation and those that will follow."""
        return max(self.max_steps - self.step, 0) // max(self.eval_steps, 1) + 1


@dataclass
class EvaluationCost:
    """What one kind of look cost when it was last taken.

    Attributes:
        prompts: how many prompts it had; 0 before the first.
        seconds: how long it took.
    """

    prompts: int = 0
    seconds: float = 0.0

    def affordable(self, wanted: int, allowed: float) -> int:
        """How many prompts can be answered in the time; before the first look, as many as wanted."""
        if not self.prompts or self.seconds <= 0 or math.isinf(allowed):
            return wanted
        return min(wanted, math.floor(self.prompts * allowed / self.seconds))


class TimeBudget:
    """Time that looks may take: a share of the training, spread over the evaluations that are left, the last favoured.

    Args:
        share: part of the training time; 1 or more is no limit.
        first_step: the step that this attempt started from.
        clock: seconds, monotonic.
    """

    def __init__(self, share: float, first_step: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self.first_step = first_step
        self.spent = 0.0
        self.clock = clock

    def seconds(self, pace: StepTimer) -> float:
        """Return how long the looks of this evaluation may take together."""
        if self.share >= 1:
            return math.inf
        if pace.step_seconds is None:
            return FIRST_LOOK
        training = pace.step_seconds * max(pace.max_steps - self.first_step, 0)
        left = max(0.0, self.share * training - self.spent) / pace.evaluations_left
        return max(left, LAST_LOOK) if pace.is_last else left

    def spend(self, seconds: float) -> None:
        """Note what a look took."""
        self.spent += seconds

    def deadline(self, allowed: float) -> float:
        """Return the clock's time at which a look that is taking too long ends by force."""
        return self.clock() + _OVERRUN * allowed
