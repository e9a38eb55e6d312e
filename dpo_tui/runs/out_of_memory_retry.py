"""Retries after the GPU ran out of memory: a smaller micro-batch, the same effective batch. Standard library only.

How far the micro-batch may shrink, and whether the loss depends on it, is the strategy's to say
(`dpo_tui.strategies.strategy.Strategy`).
"""

from dataclasses import dataclass
from typing import TypeGuard

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.state import State
from dpo_tui.strategies.registry import strategy_in

MICRO_BATCH_VARIABLE = "DPO_TUI_MICRO_BATCH"
ACCUMULATION_VARIABLE = "DPO_TUI_ACCUMULATION"
"""Environment variables with which the supervisor passes a retry's batch to the worker; they override the config."""

OUT_OF_MEMORY_ADVICE = (
    "Use 4-bit (use_4bit = true), shorter sequences (a smaller max_seq_length), or a smaller model; "
    "a few very long rows are the usual cause."
)
"""What remains to try when the micro-batch cannot shrink any more."""


BATCH_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps")
"""The settings, and the keys of state.json, that say how a step is split."""


@dataclass(frozen=True)
class MicroBatch:
    """How a device's share of an optimizer step is split: ``accumulation`` passes of ``micro`` rows each."""

    micro: int
    accumulation: int

    @property
    def effective(self) -> int:
        """Rows per step and device: the product."""
        return self.micro * self.accumulation

    def smaller(self, smallest: int = 1) -> "MicroBatch | None":
        """The next smaller micro-batch: half of it, or a third if it is odd, and so on.

        Dividing by the smallest factor keeps the effective batch exactly the same and shrinks as little as possible.

        Args:
            smallest: fewest rows that a pass may have.

        Returns:
            ``None`` when no division leaves ``smallest`` rows.
        """
        factor = next((divisor for divisor in range(2, self.micro + 1) if self.micro % divisor == 0), None)
        if factor is None or self.micro // factor < smallest:
            return None
        return MicroBatch(self.micro // factor, self.accumulation * factor)

    def __str__(self) -> str:
        return f"{self.micro} × {self.accumulation}"


@dataclass(frozen=True)
class Retry:
    """The next attempt of a run whose GPU ran out of memory.

    Attributes:
        batch: to use from now on.
        message: for the supervisor's event: the old and the new batch, and whether the loss stays comparable.
    """

    batch: MicroBatch
    message: str


def next_retry(folder: RunFolder, state: State) -> Retry | None:
    """Choose the batch of the next attempt; ``None`` when the strategy allows no smaller one, or no batch is known."""
    settings = read_settings(folder.config)
    strategy = strategy_in(settings)
    before = _current_batch(folder, state)
    after = before.smaller(strategy.smallest_micro_batch if strategy else 1) if before else None
    if before is None or after is None:
        return None
    message = (
        f"out of memory with batch {before}: tries again from the last checkpoint with {after}, "
        f"which keeps the effective batch of {after.effective * state.ranks}"
    )
    if strategy and strategy.micro_batch_changes_loss(settings):
        message += (
            f"; this loss ({strategy.loss_summary(settings)}) is taken over the examples of a micro-batch together, "
            f"so the training is not the same as with {before.micro} at once"
        )
    return Retry(after, message)


def failure_reason(folder: RunFolder, state: State) -> str:
    """Why a run failed that no smaller micro-batch can save, and on a second line what to do."""
    batch = _current_batch(folder, state)
    even = f" even with a micro-batch of {batch.micro}" if batch else ""
    return f"out of memory{even}\n{OUT_OF_MEMORY_ADVICE}"


def configured(folder: RunFolder) -> MicroBatch | None:
    """Read the batch from config.toml, whichever table its two keys are in; ``None`` when it has none."""
    settings = read_settings(folder.config)
    micro, accumulation = (settings.get(key) for key in BATCH_KEYS)
    if not _is_count(micro):
        return None
    return MicroBatch(micro, accumulation if _is_count(accumulation) else 1)


def _current_batch(folder: RunFolder, state: State) -> MicroBatch | None:
    """The batch of the last attempt: the config's, or that of an earlier retry."""
    if state.per_device_train_batch_size and state.gradient_accumulation_steps:
        return MicroBatch(state.per_device_train_batch_size, state.gradient_accumulation_steps)
    return configured(folder)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
