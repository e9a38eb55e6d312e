"""What `group_by_length` would save on some data: padding in batches of random order against batches of like length.

TRL pads both sequences of every pair of a micro-batch to the longest of them all. Grouped, the Trainer shuffles, cuts
the order into stretches of up to 50 effective batches, and sorts each by length
(`transformers.trainer_pt_utils.get_length_grouped_indices`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_SHUFFLES = 8
_MOST_GROUPS = 50
_FEWEST_STRETCHES = 4


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
        """Share of the tokens that grouping spares."""
        return max(0.0, 1 - (1 - self.shuffled) / (1 - self.grouped))


def padding_of(sequences: Sequence[tuple[int, int]], rows: int, micro: int, accumulate: int) -> PaddingSavings | None:
    """Compute both shares on a sample of pairs.

    Args:
        sequences: tokens of the chosen and of the rejected sequence of each sampled pair, prompts included.
        rows: pairs in the whole data, which say how long the sorted stretches are.
        micro: pairs in a micro-batch.
        accumulate: micro-batches in a step.

    Returns:
        None where there are not enough pairs for two batches.
    """
    if len(sequences) < 2 * micro:
        return None
    group = micro * accumulate
    stretch = max(min(rows // (group * _FEWEST_STRETCHES), _MOST_GROUPS), 1) * group
    dice = random.Random(0)  # noqa: S311 - the same answer for the same data
    shuffled = grouped = 0.0
    for _ in range(_SHUFFLES):
        order = list(sequences)
        dice.shuffle(order)
        shuffled += _share(order, micro)
        parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        grouped += _share([pair for part in parts for pair in sorted(part, key=max, reverse=True)], micro)
    return PaddingSavings(shuffled / _SHUFFLES, grouped / _SHUFFLES)


def _share(order: Sequence[tuple[int, int]], micro: int) -> float:
    used = sum(chosen + rejected for chosen, rejected in order)
    batches = [order[start : start + micro] for start in range(0, len(order), micro)]
    computed = sum(2 * len(batch) * max(map(max, batch)) for batch in batches)
    return 1 - used / computed if computed else 0.0
