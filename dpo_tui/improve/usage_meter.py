"""What an improvement uses: seconds by step, sampled tokens, and the energy that NVML's GPUs draw meanwhile."""

import time
from collections.abc import Callable
from typing import Any

from dpo_tui.hardware import nvml
from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.improvement_folder import ImprovementFolder

_POWER_EVERY = 2.0
"""Seconds between two readings of the power; between them it is taken as constant."""


def sampled_tokens(folder: ImprovementFolder) -> int:
    """Tokens of all answers in the improvement's files: sampled ones, and those to held-out prompts."""
    rounds = folder.path / "rounds"
    files = [folder.start_answers, *rounds.glob("*/answers.jsonl"), *rounds.glob("*/held-out/*.answers.jsonl")]
    return sum(one.tokens for path in files for one in read_answers(path))


def gpu_watts() -> float | None:
    """The power of all GPUs that NVML lists, in watts; None where it lists none or none tells."""
    powers = [gpu.power for gpu in nvml.read().gpus if gpu.power is not None]
    return sum(powers) if powers else None


class UsageMeter:
    """Adds up seconds and joules over the drivers of an improvement.

    Args:
        seconds: by step, as an earlier driver left them.
        joules: likewise; None where no GPU told its power.
        unmetered_seconds: likewise, those of which ``joules`` knows nothing, as no GPU told its power then.
        watts: reads the present power.
    """

    def __init__(
        self,
        seconds: dict[str, Any],
        joules: float | None,
        unmetered_seconds: float = 0.0,
        watts: Callable[[], float | None] = gpu_watts,
    ) -> None:
        self.seconds: dict[str, float] = {str(step): float(value) for step, value in seconds.items()}
        self.joules = joules
        self.unmetered_seconds = unmetered_seconds
        self._watts = watts
        self._power = watts()
        self._power_at = self._at = time.monotonic()

    def add(self, step: str, *, counts: bool = True) -> None:
        """Count the time since the last call as one of a step, or leave it out where nothing was worked."""
        now = time.monotonic()  # on Linux it stands still while the machine sleeps
        passed = now - self._at
        self._at = now
        if not counts:
            return
        self.seconds[step] = self.seconds.get(step, 0.0) + passed
        if self._power is None:
            self.unmetered_seconds += passed
        else:
            self.joules = (self.joules or 0.0) + passed * self._power
        if now - self._power_at >= _POWER_EVERY:
            self._power, self._power_at = self._watts(), now

    @property
    def fields(self) -> dict[str, Any]:
        """What has been counted, as fields of the improvement's state."""
        return {
            "seconds": dict(self.seconds), "joules": self.joules, "unmetered_seconds": self.unmetered_seconds
        }  # fmt: skip

    @property
    def hours(self) -> float:
        """All seconds, in hours."""
        return sum(self.seconds.values()) / 3600
