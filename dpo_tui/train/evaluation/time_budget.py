"""Time budget of in-training evaluation: KL estimates and sample answers take at most a share of the training time.

Their cost is not known beforehand: it depends on model, device and answer length. So the first evaluation is short, its
cost is measured, and later ones use fewer prompts, or are skipped, to stay within the share (``looks_share``). What is
answered before the first step counts too, and is paid for by what comes later.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_EVALUATION_SECONDS = 10.0
"""Budget of all looks before the first step, where the training is not known to be long."""
LAST_EVALUATION_SECONDS = 10.0
"""Least budget of the looks after the last step, however short the training was: they are the run's result."""
LONGEST_OUTSIDE_SECONDS = 60.0
"""Most that the sample prompts may take before the first step, and after the last one."""
_SHARE_BEFORE = 0.5
"""Part of the share that may be spent before the first step, where the training is expected to be long."""
_OVERRUN = 2.0
"""An evaluation is interrupted when it takes this many times its budget: estimates of its cost are rough, and the next
one gets less."""


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
        self._spent_on_result = 0.0

    def before(self, expected: float) -> float:
        """Return the budget of the answers before the first step.

        Args:
            expected: seconds that the training may take, roughly.
        """
        if self.share >= 1:
            return LONGEST_OUTSIDE_SECONDS
        wanted = _SHARE_BEFORE * self.share * expected
        return max(FIRST_EVALUATION_SECONDS, min(wanted, LONGEST_OUTSIDE_SECONDS))

    def seconds(self, progress: TrainingProgress) -> float:
        """Return the budget of the present evaluation."""
        if self.share >= 1:
            return math.inf
        if progress.step_seconds is None:
            return max(0.0, FIRST_EVALUATION_SECONDS - self.spent)
        # Of the whole attempt as it is expected to be, so that late evaluations may use what early ones left over.
        training = progress.step_seconds * max(progress.max_steps - self.first_step, 0)
        left = max(0.0, self.share * training - self.spent)
        if progress.is_last:
            return max(left, LAST_EVALUATION_SECONDS)
        # What the result may take in any case is kept for it, also if this evaluation takes more than its budget.
        return min(left / progress.evaluations_left, max(0.0, left - LAST_EVALUATION_SECONDS) / _OVERRUN)

    def after(self, trained: float) -> float:
        """Return the budget of the answers after the last step.

        Args:
            trained: seconds that the steps of this attempt took.
        """
        if self.share >= 1:
            return LONGEST_OUTSIDE_SECONDS
        left = max(self.share * trained - self.spent, LAST_EVALUATION_SECONDS - self._spent_on_result, 0.0)
        return min(left, LONGEST_OUTSIDE_SECONDS)

    def spend(self, seconds: float, *, on_result: bool = False) -> None:
        """Count the duration of an evaluation, and whether it was one after the last step."""
        self.spent += seconds
        self._spent_on_result += seconds if on_result else 0.0

    def deadline(self, allowed: float, *, overrun: float = _OVERRUN) -> float:
        """Return the clock's time at which an evaluation with a budget of ``allowed`` seconds is to be interrupted.

        Args:
            allowed: the budget.
            overrun: times the budget; 1 where no later evaluation pays for it.
        """
        return self.clock() + overrun * allowed
