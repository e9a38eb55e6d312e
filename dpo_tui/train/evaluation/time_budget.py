"""Time budget of in-training evaluation: KL estimates and sample answers take at most a share of the training time.

Their cost is not known beforehand: it depends on model, device and answer length. So the first evaluation is short, its
cost is measured, and later ones use fewer prompts, or are skipped, to stay within the share (``looks_share``).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_EVALUATION_SECONDS = 10.0
"""Budget of an evaluation before the time of a training step is known."""
LAST_EVALUATION_SECONDS = 10.0
"""Least budget of the evaluation after the last step, however short the training was: it is the run's result."""
_OVERRUN = 2.0
"""An evaluation is interrupted when it takes this many times its budget; estimates of its cost are rough."""


@dataclass(frozen=True)
class TrainingProgress:
    """Steps of a training and the time that they take.

    Attributes:
        step_seconds: mean duration of a step so far; None before the first.
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
        """Whether the last step is done."""
        return self.step >= self.max_steps

    @property
    def evaluations_left(self) -> int:
        """Number of evaluations to come, the present one included."""
        return max(self.max_steps - self.step, 0) // max(self.eval_steps, 1) + 1


@dataclass
class EvaluationCost:
    """Measured cost of one kind of evaluation, the last time it was made.

    Attributes:
        prompts: number of prompts; 0 before the first time.
        seconds: duration.
    """

    prompts: int = 0
    seconds: float = 0.0

    def affordable(self, wanted: int, allowed: float) -> int:
        """Return how many of ``wanted`` prompts fit into ``allowed`` seconds; all of them before the first time."""
        if not self.prompts or self.seconds <= 0 or math.isinf(allowed):
            return wanted
        return min(wanted, math.floor(self.prompts * allowed / self.seconds))


class TimeBudget:
    """Seconds for evaluations: a share of the training time, spread evenly over the evaluations that are left.

    Args:
        share: of the training time; 1 or more is no limit.
        first_step: the step that this attempt started from.
        clock: monotonic, in seconds.

    Attributes:
        spent: seconds that evaluations took so far.
    """

    def __init__(self, share: float, first_step: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = share
        self.first_step = first_step
        self.spent = 0.0
        self.clock = clock

    def seconds(self, progress: TrainingProgress) -> float:
        """Return the budget of the present evaluation."""
        if self.share >= 1:
            return math.inf
        if progress.step_seconds is None:
            return FIRST_EVALUATION_SECONDS
        # Of the whole attempt as it is expected to be, so that late evaluations may use what early ones left over.
        training = progress.step_seconds * max(progress.max_steps - self.first_step, 0)
        budget = max(0.0, self.share * training - self.spent) / progress.evaluations_left
        return max(budget, LAST_EVALUATION_SECONDS) if progress.is_last else budget

    def spend(self, seconds: float) -> None:
        """Count the duration of an evaluation."""
        self.spent += seconds

    def deadline(self, allowed: float) -> float:
        """Return the clock's time at which an evaluation with a budget of ``allowed`` seconds is to be interrupted."""
        return self.clock() + _OVERRUN * allowed
