"""The split by prompt of :mod:`dpo_tui.data.pairs.hold_out_by_prompt`, on an array of keys."""

import numpy as np
from numpy.typing import NDArray


def held_out_places(keys: NDArray[np.void], fraction: float) -> NDArray[np.int64]:
    """The places of the rows to hold out, as `held_out_rows` chooses them.

    Args:
        keys: of the rows' prompts, 16 bytes each.
        fraction: the share of the rows to hold out.
    """
    if fraction == 0 or not len(keys):
        return np.zeros(0, dtype=np.int64)
    # As two big numbers, for numpy does not order bytes: the first eight of them count more.
    halves = keys.view(">u8").reshape(-1, 2).astype(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    in_order = halves[order]
    # One entry for each different key, in their order: where its rows begin, and after the last one, the end.
    begins = np.flatnonzero((in_order[1:] != in_order[:-1]).any(axis=1)) + 1
    ends = np.concatenate([begins, [len(keys)]])
    if len(ends) < 2:  # noqa: PLR2004 (one on each side)
        return np.zeros(0, dtype=np.int64)
    # Each prompt brings the number of rows to its end, the last prompt being trained on. It rises, so its distance from
    # the wanted number falls and then rises: what is held out ends before the first prompt that makes it no smaller.
    distances = np.abs(ends[:-1] - fraction * len(keys))
    farther = np.flatnonzero(distances[1:] >= distances[:-1])
    last = int(farther[0]) if len(farther) else len(distances) - 1
    return np.sort(order[: ends[last]]).astype(np.int64)
