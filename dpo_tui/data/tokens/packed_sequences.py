"""How many sequences conversations make when SFT packs them, as TRL's ``pack_dataset`` does (trl 1.16)."""

import bisect
import math
from collections.abc import Sequence

_BATCH = 1000
"""Rows that are packed among themselves: the batch size of ``Dataset.map``."""


def packed_sequences(lengths: Sequence[int], most: int, strategy: str = "bfd", processes: int = 1) -> int:
    """Count the sequences that conversations are packed into.

    Args:
        lengths: tokens of each conversation, in the order of the dataset.
        most: tokens of a sequence, ``max_seq_length``.
        strategy: TRL's ``packing_strategy``: ``bfd`` cuts conversations at ``most``, ``bfd_split`` divides them into
            several there, ``wrapped`` cuts them wherever a sequence ends.
        processes: that pack, each a part of the rows.
    """
    share, longer = divmod(len(lengths), max(1, processes))
    count = start = 0
    for process in range(max(1, processes)):
        end = start + share + (process < longer)  # as Dataset.shard divides rows
        for first in range(start, end, _BATCH):
            count += _of_batch(lengths[first : min(end, first + _BATCH)], most, strategy)
        start = end
    return count


def _of_batch(lengths: Sequence[int], most: int, strategy: str) -> int:
    if strategy == "wrapped":
        return math.ceil(sum(lengths) / most)
    if strategy == "bfd_split":
        pieces = [most] * sum(length // most for length in lengths)
        return _best_fit_decreasing([*pieces, *(length % most for length in lengths)], most)
    return _best_fit_decreasing([min(length, most) for length in lengths], most)


def _best_fit_decreasing(lengths: Sequence[int], most: int) -> int:
    """Put each length, longest first, into the fullest sequence that has room for it; empty ones are left out."""
    rooms: list[int] = []  # of sequences that are not full, sorted
    count = 0
    for length in sorted(filter(None, lengths), reverse=True):
        at = bisect.bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms.pop(at)
        else:
            room, count = most, count + 1
        if room > length:
            bisect.insort(rooms, room - length)
    return count
