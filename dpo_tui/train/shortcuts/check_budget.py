"""Lengths of a run's pairs, and the work that equivalence checks may take of it.

Work is counted in multiplications (:class:`dpo_tui.train.shortcuts.pair_layout.LayoutCost`), so nothing here measures
time: the same run makes the same checks on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute

from dpo_tui.train.shortcuts.pair_layout import LayoutCost

_SHARE = 0.02
"""Share of a run's work that all checks together may take."""
_FEWEST_PAIRS = 3
"""A check of that many pairs of average length is made even where the run is too short for its share to pay for it."""
# A training step in forward passes: the pass, its gradients (twice the work), and the recomputation of checkpointing.
_FORWARD, _BACKWARD, _RECOMPUTED = 1, 2, 1

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairSize:
    """Size of a pair, in tokens; also the largest size of several.

    Attributes:
        row: tokens of the longer of its two rows, prompt included.
        span: tokens of the pair with its prompt computed once.
    """

    row: float
    span: float

    def covers(self, other: "PairSize") -> bool:
        """Return whether neither measure of another size is larger."""
        return other.row <= self.row and other.span <= self.span

    def joined(self, other: "PairSize") -> "PairSize":
        """Return the smallest size that covers both."""
        return PairSize(max(self.row, other.row), max(self.span, other.span))


@dataclass(frozen=True)
class DatasetLengths:
    """Sizes of all pairs of a dataset, cut to the longest row that a batch may have.

    Attributes:
        rows: ``row`` of each, see :class:`PairSize`.
        spans: ``span`` of each, an upper bound: answers that begin alike share more than the prompt.
    """

    rows: Lengths
    spans: Lengths

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(
        cls,
        dataset: Any,
        max_length: int | None,
        columns: Sequence[str] = ("prompt_ids", "chosen_ids", "rejected_ids"),
    ) -> "DatasetLengths":
        """Measure a dataset of token ids.

        Args:
            dataset: of pairs, or of labelled answers.
            max_length: to which the collator cuts rows, in tokens; None for no limit.
            columns: the prompt's token ids, and those of each answer to it.
        """
        # Lengths come from Arrow's offsets: no token becomes a Python number, so a million pairs take a second.
        tables = dataset.select_columns(list(columns)).with_format("arrow").iter(batch_size=10_000)
        found = [
            [np.asarray(pyarrow.compute.list_value_length(table[name]), dtype=np.int64) for name in columns]
            for table in tables
        ]
        if not found:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        # As the collator cuts at the end: a prompt that fills the row leaves nothing of either answer.
        prompt, *answers = (np.concatenate(parts) for parts in zip(*found, strict=True))
        most = max_length or np.iinfo(np.int64).max
        rows = np.minimum(prompt + np.max(answers, axis=0), most)
        spans = np.minimum(prompt, most) + sum(np.minimum(answer, np.maximum(most - prompt, 0)) for answer in answers)
        return cls(rows, spans)


def step_passes(*, checkpointed: bool) -> int:
    """Return the work of training on a batch, in forward passes over it; the reference's pass is not counted."""
    return _FORWARD + _BACKWARD + (_RECOMPUTED if checkpointed else 0)


class CheckBudget:
    """Work that the checks of a run may still take.

    Args:
        cost: of a forward pass.
        sizes: of the training pairs.
        trained: pairs that all steps of the run train on, repetitions counted.
        passes: from :func:`step_passes`.

    Attributes:
        share: that the checks may take of the run's work, spent or not.
        left: work that is left, a few pairs where the run is too short for its share to pay for them.
    """

    def __init__(self, cost: LayoutCost, sizes: DatasetLengths, trained: int, passes: int) -> None:
        self.cost = cost
        # By spans, which is what a step costs with prompts shared: if they turn out not to be, the checks took less
        # than their share.
        expected = float(np.mean(_of(cost, 1, sizes.spans))) * trained * passes
        self._least = _FEWEST_PAIRS * float(np.mean(self.prices(sizes)))
        self.share = _SHARE * expected
        self.left = max(self.share, self._least)

    def prices(self, sizes: DatasetLengths) -> npt.NDArray[np.float64]:
        """Return the work of checking each pair alone: as plain TRL computes it, and with its prompt computed once."""
        return _of(self.cost, 2, sizes.rows) + _of(self.cost, 1, sizes.spans)

    def charge(self, work: float) -> None:
        """Take the work of a check that is made in any case; what a short run is granted stays."""
        self.left = max(self.left - work, self._least)

    def spend(self, work: float) -> bool:
        """Take work from the budget; return False, and take none, where less is left."""
        # Never in part: half a check shows nothing.
        if work > self.left:
            return False
        self.left -= work
        return True


@dataclass(frozen=True)
class CheckedRun:
    """What the checks of a run compute with.

    Attributes:
        trainer: TRL's DPOTrainer.
        models: the policy and, where there is one, the reference's model, without adapters.
        sizes: of the training pairs.
        budget: of the checks.
        trained: pairs that all steps of the run train on, repetitions counted.
    """

    trainer: Any
    models: Sequence[Any]
    sizes: DatasetLengths
    budget: CheckBudget
    trained: int


def largest_affordable(sizes: DatasetLengths, by: Lengths, budget: CheckBudget, longest_row: float) -> int | None:
    """Return the index of the largest pair that the budget pays for.

    Args:
        sizes: of all pairs.
        by: the measure that is to be large, ``sizes.rows`` or ``sizes.spans``.
        budget: of which nothing is spent here.
        longest_row: rows above it are left out, in tokens.

    Returns:
        None where there is no such pair.
    """
    possible = np.flatnonzero((budget.prices(sizes) <= budget.left) & (sizes.rows <= longest_row))
    return int(possible[np.argmax(by[possible])]) if len(possible) else None


def longest_certain_row(sizes: DatasetLengths, trained: int) -> float:
    """Return a length that a row of some training batch certainly reaches, in tokens.

    A check of such a row needs no more memory than that step. A run of less than an epoch draws ``trained`` pairs
    without repetition, so the longest it draws is at least the one in that place of all lengths in ascending order.
    """
    return float(np.sort(sizes.rows)[min(max(trained, 1), len(sizes)) - 1])


def _of(cost: LayoutCost, rows: int, lengths: Lengths) -> npt.NDArray[np.float64]:
    tokens = lengths.astype(np.float64)
    return rows * tokens * (cost.token + tokens * cost.attention)
