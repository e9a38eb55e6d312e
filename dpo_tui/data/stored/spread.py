"""The order of :mod:`dpo_tui.data.pairs.spread_by_prompt`, on an array of keys."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.pairs.spread_by_prompt import offset_of, shuffled


def spread_places(keys: NDArray[np.void]) -> NDArray[np.int64]:
    """The places of rows in the order that `spread_order` gives them.

    Args:
        keys: of the rows' prompts, 16 bytes each.
    """
    halves = np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    in_order = halves[order]
    begins = np.flatnonzero((in_order[1:] != in_order[:-1]).any(axis=1)) + 1
    del halves, in_order
    bounds = [0, *begins.tolist(), len(keys)] if len(keys) else []
    where = np.empty(len(keys), dtype=np.float64)
    for start, end in pairwise(bounds):
        key = keys[order[start]].tobytes()
        offset = offset_of(key)
        if end - start == 1:
            where[order[start]] = offset
            continue
        for place, number in enumerate(shuffled(key, order[start:end].tolist())):
            where[number] = (place + offset) / (end - start)
    return np.argsort(where, kind="stable")
