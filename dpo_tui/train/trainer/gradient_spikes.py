"""Detect spikes of the gradient norm, and report the rows of the batch that caused one."""

import math
from statistics import median
from typing import Any

from dpo_tui.strategies.metric_expectations import SPIKE, SPIKE_PREDECESSORS
from dpo_tui.train.worker.journal import Journal

_MOST_EVENTS = 10
"""Spikes reported in one attempt; a run that has diverged would report every step."""
_MOST_ROWS = 8
"""Rows named for one spike."""
_PROMPT_CHARACTERS = 60
"""Characters of a prompt's end that are shown."""


class SpikeDetector:
    """Compares each gradient norm with those before it, and remembers the batches of the current step.

    Args:
        tokenizer: decodes the end of the prompts, by which rows are named.
        journal: receives a warning with the rule ``spike`` for each spike.
    """

    def __init__(self, tokenizer: Any, journal: Journal) -> None:
        self._tokenizer, self._journal = tokenizer, journal
        self._batches: list[Any] = []
        self._norms: list[float] = []
        self._reported = 0

    def attach(self, trainer: Any) -> None:
        """Wrap a trainer's ``training_step`` so that every batch is remembered until :meth:`start_step`.

        Only references are kept; nothing is copied or computed.
        """
        step = trainer.training_step

        def remembering_step(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._batches.append(inputs)
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = remembering_step

    def start_step(self) -> None:
        """Forget the batches of the step before; with gradient accumulation a step has several."""
        self._batches.clear()

    def check(self, step: int, norm: float) -> None:
        """Report the rows of the step that has just ended if its gradient norm is a spike or not finite.

        Args:
            step: the optimizer steps done.
            norm: of the gradient, before clipping. What counts as a spike: `dpo_tui.runs.thresholds.SPIKE`.
        """
        usual = median(self._norms) if len(self._norms) == SPIKE_PREDECESSORS else math.inf
        is_spike = norm > SPIKE and norm > SPIKE * usual
        if math.isfinite(norm):
            self._norms = [*self._norms, norm][-SPIKE_PREDECESSORS:]
        else:
            is_spike = True
        if is_spike and self._reported < _MOST_EVENTS:
            self._reported += 1
            batch = self._describe_batches()
            # Every rank sees the same norm, and only its own rows of the step; the others print theirs into their logs.
            rank = self._journal.rank
            whose = "Its batch" if rank.is_alone else f"Rank {rank.rank}'s rows (those of others: ranks/N.log)"
            message = f"The gradient jumped to {norm:.3g} at step {step}" + (f". {whose}: {batch}" if batch else "")
            self._journal.event("warning", message, rule="spike", step=step, batch=batch)

    def _describe_batches(self) -> str:
        rows = [row for batch in self._batches for row in self._describe_rows(batch)]
        more = f"; and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
        return "; ".join(rows[:_MOST_ROWS]) + more

    def _describe_rows(self, batch: Any) -> list[str]:
        """Return the end of each prompt and the tokens of its longer sequence; empty for a batch of other columns."""
        if not {"input_ids", "completion_mask"} <= set(batch):
            return []
        ids, completion_mask = batch["input_ids"], batch["completion_mask"].bool()
        not_padding = batch["attention_mask"].bool() if "attention_mask" in batch else completion_mask | (ids != 0)
        lengths: dict[str, int] = {}
        # In a batch of n pairs, rows 0 to n-1 are the chosen and n to 2n-1 the rejected sequences: the two rows of a
        # pair have one prompt, and become one entry.
        for row, completion, mask in zip(ids, completion_mask, not_padding, strict=True):
            prompt = self._tokenizer.decode(row[mask & ~completion], skip_special_tokens=True).strip()
            lengths[prompt] = max(lengths.get(prompt, 0), int(mask.sum()))
        return [f"“{_end_of(prompt)}” ({length} tokens)" for prompt, length in lengths.items()]


def _end_of(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_CHARACTERS else f"…{line[-_PROMPT_CHARACTERS:]}"
