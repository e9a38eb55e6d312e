"""Clocks of a training run: what is computed before its first step, and its steps."""

import time
from typing import Any, Self

import torch
from transformers import TrainerCallback
from trl import DPOTrainer

from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.trainers import PairTrainer


class PreparationClock:
    """Times what a trainer's construction computes on pairs: the reference's scores and the check of our shortcuts.

    Attributes:
        wall: seconds on the clock.
        cpu: processor seconds of this process.
        reference: seconds on the clock of the reference's scores alone.
    """

    def __init__(self) -> None:
        self.wall = self.cpu = self.reference = 0.0

    @classmethod
    def installed(cls) -> Self:
        """Return a clock that runs from now on whenever this process prepares a trainer."""
        clock = cls()
        nested = []

        def timed(function: Any, *, is_reference: bool) -> Any:
            def run(*args: Any, **kwargs: Any) -> Any:
                before = now()
                nested.append(function)
                try:
                    return function(*args, **kwargs)
                finally:
                    nested.pop()
                    if not nested:
                        after = now()
                        clock.wall += after[0] - before[0]
                        clock.cpu += after[1] - before[1]
                        if is_reference:
                            clock.reference += after[0] - before[0]

            return run

        for owner, name in (
            (DPOTrainer, "_precompute_ref_logps"),
            (PairTrainer, "_precompute_ref_logps"),
            (Shortcuts, "install"),
        ):
            setattr(owner, name, timed(getattr(owner, name), is_reference=owner is not Shortcuts))
        return clock

    def reset(self) -> None:
        """Begin at zero."""
        self.wall = self.cpu = self.reference = 0.0


def now() -> tuple[float, float]:
    """Return wall and processor time, when the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Times a trainer's steps, and ends the training after a number of seconds.

    Args:
        warm_up: steps at the start that do not count: they compile kernels and fill the allocator.
        most_seconds: of training; it ends after the step in which they are over.

    Attributes:
        steps: seconds of every step after the warm-up, data loading included.
        first: seconds to the end of the first step.
    """

    def __init__(self, warm_up: int, most_seconds: float) -> None:
        self.warm_up = warm_up
        self.most_seconds = most_seconds
        self.steps: list[float] = []
        self.first = 0.0
        self.tokens_before = self.tokens_after = 0.0
        self._began = self._last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = self._last = now()[0]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Note the step's time."""
        at = now()[0]
        if state.global_step == 1:
            self.first = at - self._began
        if state.global_step > self.warm_up:
            self.steps.append(at - self._last)
        self._last = at
        # A step that counts is needed in any case.
        if at - self._began > self.most_seconds and self.steps:
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Note the tokens of the steps that count, as TRL counts them: prompts with both answers, without padding."""
        tokens = (logs or {}).get("num_tokens")
        if tokens is None:
            return
        if state.global_step <= self.warm_up:
            self.tokens_before = tokens
        self.tokens_after = tokens

    @property
    def tokens(self) -> float:
        """Tokens of the steps that count."""
        return self.tokens_after - self.tokens_before
