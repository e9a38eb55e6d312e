"""Estimate of what `group_by_length` saves: padding in shuffled batches and in batches of similar length.

TRL pads both sequences of every pair of a micro-batch to the longest of them all. With `group_by_length` the Trainer
shuffles, cuts the order into megabatches of up to 50 effective batches, and sorts each by length
(`transformers.trainer_pt_utils.get_length_grouped_indices`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_SHUFFLES = 8
"""Random orders that the shares are averaged over."""
_MOST_GROUPS = 50
_FEWEST_MEGABATCHES = 4
"""As in `get_length_grouped_indices`: a megabatch has at most 50 batches, and a quarter of the data."""


@dataclass(frozen=True, slots=True)
class PaddingSavings:
    """Shares of the tokens of all batches that are padding, 0 to 1.

    Attributes:
        shuffled: with batches in random order.
        grouped: with `group_by_length`.
    """

    shuffled: float
    grouped: float

    @property
    def saved(self) -> float:
        """Share of the computed tokens that grouping avoids."""
        return max(0.0, 1 - (1 - self.shuffled) / (1 - self.grouped))


def estimate_padding(
    sequences: Sequence[tuple[int, int]], rows: int, micro: int, accumulate: int
) -> PaddingSavings | None:
    """Compute both shares on a sample of pairs.

    Args:
        sequences: tokens of the chosen and of the rejected sequence of each sampled pair, prompts included.
        rows: pairs in the whole dataset, on which the size of a megabatch depends.
        micro: pairs in a micro-batch.
        accumulate: micro-batches in a step.

    Returns:
        None when there are fewer pairs than two micro-batches.
    """
    if len(sequences) < 2 * micro:
        return None
    group = micro * accumulate
    megabatch = max(min(rows // (group * _FEWEST_MEGABATCHES), _MOST_GROUPS), 1) * group
    generator = random.Random(0)  # noqa: S311 - the same answer for the same data
    shuffled = grouped = 0.0
    for _ in range(_SHUFFLES):
        order = list(sequences)
        generator.shuffle(order)
        shuffled += _padding_share(order, micro)
        parts = [order[start : start + megabatch] for start in range(0, len(order), megabatch)]
        grouped += _padding_share([pair for part in parts for pair in sorted(part, key=max, reverse=True)], micro)
    return PaddingSavings(shuffled / _SHUFFLES, grouped / _SHUFFLES)


def _padding_share(order: Sequence[tuple[int, int]], micro: int) -> float:
    """The share of padding when pairs are batched in this order."""
    used = sum(chosen + rejected for chosen, rejected in order)
    batches = [order[start : start + micro] for start in range(0, len(order), micro)]
    computed = sum(2 * len(batch) * max(map(max, batch)) for batch in batches)
    return 1 - used / computed if computed else 0.0
