"""Which rows made the gradient jump: those of the step at hand are remembered, and told when it did."""

import math
from statistics import median
from typing import Any

from dpo_tui.strategies.metric_expectations import SPIKE, SPIKE_PREDECESSORS
from dpo_tui.train.worker.journal import Journal

_MOST_EVENTS = 10
_ROWS = 8
_CHARACTERS = 60


class SpikeWatch:
    """Watches the gradient's norm.

    Args:
        tokenizer: to tell rows by the end of their prompts.
        journal: where a spike is told, as a warning with the rule ``spike``.
    """

    def __init__(self, tokenizer: Any, journal: Journal) -> None:
        self._tokenizer, self._journal = tokenizer, journal
        self._batches: list[Any] = []
        self._norms: list[float] = []
        self._told = 0

    def attach(self, trainer: Any) -> None:
        """Remember every batch that a trainer trains on, until :meth:`forget`; nothing is copied or computed."""
        step = trainer.training_step

        def watched(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._batches.append(inputs)
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = watched

    def forget(self) -> None:
        """Begin a step."""
        self._batches.clear()

    def judge(self, step: int, norm: float) -> None:
        """Take the norm of the step that just ended; tell its rows if it is a spike, or no number."""
        usual = median(self._norms) if len(self._norms) == SPIKE_PREDECESSORS else math.inf
        jumped = norm > SPIKE and norm > SPIKE * usual
        if math.isfinite(norm):
            self._norms = [*self._norms, norm][-SPIKE_PREDECESSORS:]
        else:
            jumped = True
        if jumped and self._told < _MOST_EVENTS:
            self._told += 1
            batch = self._words()
            message = f"The gradient jumped to {norm:.3g} at step {step}" + (f". Its batch: {batch}" if batch else "")
            self._journal.event("warning", message, rule="spike", step=step, batch=batch)

    def _words(self) -> str:
        rows = [row for batch in self._batches for row in self._rows(batch)]
        more = f"; and {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
        return "; ".join(rows[:_ROWS]) + more

    def _rows(self, batch: Any) -> list[str]:
        """The end of each row's prompt, and how long the row is; of a pair the longer answer counts."""
        if not {"input_ids", "completion_mask"} <= set(batch):
            return []
        ids, answers = batch["input_ids"], batch["completion_mask"].bool()
        seen = batch["attention_mask"].bool() if "attention_mask" in batch else answers | (ids != 0)
        found: dict[str, int] = {}
        # TRL puts the chosen half of the pairs before the rejected one, so a pair's rows have one prompt.
        for row, answer, mask in zip(ids, answers, seen, strict=True):
            text = self._tokenizer.decode(row[mask & ~answer], skip_special_tokens=True).strip()
            found[text] = max(found.get(text, 0), int(mask.sum()))
        return [f"“{_end(text)}” ({length} tokens)" for text, length in found.items()]


def _end(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _CHARACTERS else f"…{words[-_CHARACTERS:]}"
