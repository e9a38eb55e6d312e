"""The split by prompt of :mod:`dpo_tui.data.pairs.hold_out_by_prompt`, on an array of keys."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
_BUCKETS = 1 << 16


def held_out_places(keys: NDArray[np.void], fraction: float) -> NDArray[np.int64]:
    """The places of the rows to hold out, as `held_out_rows` chooses them.

    Args:
        keys: of the rows' prompts, 16 bytes each.
        fraction: the share of the rows to hold out.
    """
    if fraction == 0 or not len(keys):
        return np.zeros(0, dtype=np.int64)
    wanted = fraction * len(keys)
    # The keys held out are the lowest, so that nearly always only a little more than the wanted share has to be sorted.
    firsts = _first_bytes(keys)
    counts = np.bincount(firsts, minlength=_BUCKETS)
    enough = int(np.searchsorted(np.cumsum(counts), wanted * 1.02 + 1)) + 1
    if enough < _BUCKETS:
        places = np.flatnonzero(firsts <= enough)
        found = _lowest(keys[places], wanted, is_all=len(places) == len(keys))
        if found is not None:
            return np.sort(places[found])
    found = _lowest(keys, wanted, is_all=True)
    return np.sort(found) if found is not None else np.zeros(0, dtype=np.int64)


def _first_bytes(keys: NDArray[np.void]) -> NDArray[np.uint16]:
    """The first two bytes of each key as a number, by which keys are ordered."""
    found = np.empty(len(keys), dtype=np.uint16)
    numbers = keys.view(">u2").reshape(len(keys), -1)
    for start in range(0, len(keys), _BLOCK):
        found[start : start + _BLOCK] = numbers[start : start + _BLOCK, 0]
    return found


def _lowest(keys: NDArray[np.void], wanted: float, *, is_all: bool) -> NDArray[np.int64] | None:
    """The places of the keys to hold out among the lowest ones; None where more keys decide it, or there is one prompt.

    Args:
        keys: the lowest keys of all, with all rows of their prompts.
        wanted: number of the rows to hold out.
        is_all: there are no other keys.
    """
    # As two big numbers, for numpy does not order bytes: the first eight of them count more.
    halves = keys.view(">u8").reshape(-1, 2).astype(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    in_order = halves[order]
    # One entry for each different key, in their order: where its rows begin, and after the last one, the end.
    begins = np.flatnonzero((in_order[1:] != in_order[:-1]).any(axis=1)) + 1
    ends = np.concatenate([begins, [len(keys)]])
    # Each prompt brings the number of rows to its end, the last prompt of all being trained on. It rises, so its
    # distance from the wanted number falls and then rises: what is held out ends before the first prompt that makes it
    # no smaller.
    distances = np.abs((ends[:-1] if is_all else ends) - wanted)
    farther = np.flatnonzero(distances[1:] >= distances[:-1])
    if not len(farther) and (not is_all or not len(distances)):
        return None
    last = int(farther[0]) if len(farther) else len(distances) - 1
    return order[: ends[last]].astype(np.int64)
