"""Smaller micro-batches after running out of memory, with the effective batch kept. Standard library only."""

from dataclasses import dataclass
from typing import TypeGuard

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings

MICRO_BATCH_VARIABLE = "DPO_TUI_MICRO_BATCH"
ACCUMULATION_VARIABLE = "DPO_TUI_ACCUMULATION"
"""The supervisor tells a retried worker through these; they outrank the config's values."""

OUT_OF_MEMORY_ADVICE = (
    "Use 4-bit (use_4bit = true), shorter sequences (a smaller max_seq_length), or a smaller model; "
    "a few very long rows are the usual cause."
)
"""Remedies for a full GPU that are left when the micro-batch cannot shrink any more."""


@dataclass(frozen=True)
class MicroBatch:
    """How a step's rows are split: ``micro`` rows at once on a device, ``accumulation`` times."""

    micro: int
    accumulation: int

    @property
    def effective(self) -> int:
        """Rows a step and device: their product."""
        return self.micro * self.accumulation

    def smaller(self) -> "MicroBatch | None":
        """Half the micro-batch and twice the accumulation, or a third and thrice if it is odd, and so on.

        Dividing by the smallest factor keeps the effective batch exactly the same. ``None`` below a micro-batch of 1.
        """
        if self.micro <= 1:
            return None
        factor = next(divisor for divisor in range(2, self.micro + 1) if self.micro % divisor == 0)
        return MicroBatch(self.micro // factor, self.accumulation * factor)

    def __str__(self) -> str:
        return f"{self.micro} × {self.accumulation}"


def configured(folder: RunFolder) -> MicroBatch | None:
    """Read the batch from config.toml, whichever table its two keys are in; ``None`` when it does not say."""
    settings = read_settings(folder.config)
    micro, accumulation = (settings.get(key) for key in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    if not _is_count(micro):
        return None
    return MicroBatch(micro, accumulation if _is_count(accumulation) else 1)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
