"""Means over the rows of an evaluation, where TRL's trainers average the means of its batches.

The last batch is smaller where the batch size does not divide the rows: with six pairs in batches of four, TRL gives
each of the last two pairs twice the weight of the others, and an accuracy of 4 in 6 can be logged as 0.75 or 0.5. The
loss needs nothing of this: Trainer weighs it by rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

_NO_LABEL = -100
"""Where torch's cross-entropy computes no loss, and TRL counts no token."""

_NOT_AVERAGED = "num_tokens"
"""A running total: TRL replaces its one value in every batch."""


@dataclass(frozen=True)
class BatchCounts:
    """How much of each thing that is averaged a batch has.

    Attributes:
        rows: pairs, labelled answers or demonstrations.
        chosen: answers that are chosen or desirable.
        rejected: answers that are rejected or undesirable.
        tokens: that are predicted and counted in the loss.
        chosen_tokens: of them, those of chosen answers.
        rejected_tokens: those of rejected answers.
    """

    rows: int
    chosen: int
    rejected: int
    tokens: int
    chosen_tokens: int
    rejected_tokens: int


class BatchMetrics(NamedTuple):
    """What an evaluation batch contributes to the means: its size, and the means over it, by TRL's names."""

    counts: BatchCounts
    means: dict[str, float]


def counts_of(inputs: dict[str, Any]) -> BatchCounts:
    """Return what a batch has, of any of TRL's collators.

    Args:
        inputs: a batch of pairs (``completion_mask``, chosen half first), of labelled answers (``completion_mask`` and
            ``label``), or of demonstrations (``labels``).
    """
    if "completion_mask" not in inputs:
        labels = inputs["labels"]
        tokens = int((labels[:, 1:] != _NO_LABEL).sum())
        return BatchCounts(len(labels), len(labels), 0, tokens, tokens, 0)
    of_answer = inputs["completion_mask"][:, 1:].sum(1)
    if "label" in inputs:
        rows = len(of_answer)
        is_chosen = torch.as_tensor(inputs["label"], dtype=torch.bool, device=of_answer.device)
    else:
        rows = len(of_answer) // 2
        is_chosen = torch.arange(len(of_answer), device=of_answer.device) < rows
    chosen, tokens, chosen_tokens = int(is_chosen.sum()), int(of_answer.sum()), int(of_answer[is_chosen].sum())
    return BatchCounts(rows, chosen, len(of_answer) - chosen, tokens, chosen_tokens, tokens - chosen_tokens)


def means_over_rows(batches: Iterable[BatchMetrics]) -> dict[str, float]:
    """Return the mean of each metric over all rows of an evaluation.

    What TRL averages over tokens is averaged over the tokens of all rows, and what it averages over chosen or rejected
    answers over all of those; a batch that has none of them has no value, or a zero that TRL puts in its place.
    """
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    for counts, means in batches:
        for name, value in means.items():
            weight = _weight(name.removeprefix("eval_"), counts)
            if weight:
                sums[name] = sums.get(name, 0.0) + weight * value
                weights[name] = weights.get(name, 0) + weight
    means = {name: sums[name] / weights[name] for name in sums}
    for prefix in ("", "eval_"):
        chosen, rejected, margins = (f"{prefix}rewards/{part}" for part in ("chosen", "rejected", "margins"))
        # Of labelled answers TRL has a margin only for batches with both kinds.
        if chosen in means and rejected in means:
            means[margins] = means[chosen] - means[rejected]
    return means


def _weight(name: str, counts: BatchCounts) -> int:
    match name:
        case "entropy":
            return counts.tokens
        case "mean_token_accuracy" | "logits/chosen":
            return counts.chosen_tokens
        case "logits/rejected":
            return counts.rejected_tokens
        case "rewards/chosen" | "logps/chosen":
            return counts.chosen
        case "rewards/rejected" | "logps/rejected":
            return counts.rejected
        case _:
            return counts.rows


class MeansOverRows:
    """Mixin of a subclass of TRL's trainers, before TRL's class: evaluation metrics are means over rows."""

    # Of TRL's trainers: the lists that its `log` averages, by "train" and "eval". The experimental ones call them
    # `_stored_metrics`.
    _metrics: Any
    _stored_metrics: Any
    _prepare_inputs: Any

    evaluation_batches: list[BatchMetrics] | None = None
    """Of the evaluation that runs now."""

    @property
    def evaluation_lists(self) -> dict[str, list[float]]:
        """The metrics of evaluation batches that TRL's `log` will average, by name."""
        stored = getattr(self, "_stored_metrics", None)
        lists: dict[str, list[float]] = (self._metrics if stored is None else stored)["eval"]
        return lists

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch as TRL does, and keep what it contributes to the means."""
        lists = self.evaluation_lists
        known = {name: len(values) for name, values in lists.items()}
        result = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.evaluation_batches is not None:
            means = {name: values[-1] for name, values in lists.items() if len(values) > known.get(name, 0)}
            means.pop(_NOT_AVERAGED, None)
            self.evaluation_batches.append(BatchMetrics(counts_of(inputs), means))
        return result

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as Trainer does, and leave the means over rows for TRL's ``log`` to average: one value a metric."""
        self.evaluation_lists.clear()
        self.evaluation_batches = []
        try:
            output = super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]
            self.leave_means(self.evaluation_batches)
        finally:
            self.evaluation_batches = None
        return output

    def leave_means(self, batches: Iterable[BatchMetrics]) -> None:
        """Replace the lists of evaluation metrics by their means over rows."""
        self.evaluation_lists.update({name: [mean] for name, mean in means_over_rows(batches).items()})
