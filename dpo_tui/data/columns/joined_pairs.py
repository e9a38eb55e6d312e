"""Put the JSON texts of pairs together from pieces of the lines, by Arrow's own functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpo_tui.data.columns.arrow_arrays import arrow_array, binary_scalar
from dpo_tui.data.columns.pair_template import PairTemplate, Piece
from dpo_tui.data.rows.pair_run import PairRun, Parts

MOST_BYTES = 1 << 30
"""Of lines whose pairs are put together at once: Arrow's offsets have 32 bits."""
_NOTHING = binary_scalar(b"")


@dataclass(frozen=True, slots=True)
class TakenLines:
    """Lines whose pairs have one template.

    Args:
        template: of their pairs.
        numbers: of the lines.
        starts: where the texts of each line begin, a row for each line.
        stops: where they end.
    """

    template: PairTemplate
    numbers: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def joined_pairs(data: bytes, groups: Sequence[TakenLines]) -> tuple[NDArray[np.int64], PairRun]:
    """Put pairs together.

    Args:
        data: the lines.
        groups: at least one; no line is in two of them.

    Returns:
        The numbers of the lines in order, and their pairs.
    """
    if len(groups) == 1:
        return groups[0].numbers, _in_parts(data, groups[0])
    unsorted = np.concatenate([one.numbers for one in groups])
    order = np.argsort(unsorted, kind="stable")
    places = np.split(np.argsort(order, kind="stable"), np.cumsum([len(one.numbers) for one in groups])[:-1])
    kind_of = _spread([np.int64(at) for at in range(len(groups))], places)
    texts = _spread([np.int64(one.starts.shape[1]) for one in groups], places)
    first_texts = np.cumsum(texts) - texts
    bounds = np.empty(2 * int(texts.sum()), dtype=np.int32)
    for group, mine in zip(groups, places, strict=True):
        at_texts = first_texts[mine][:, None] + np.arange(group.starts.shape[1])
        bounds[2 * at_texts], bounds[2 * at_texts + 1] = group.starts, group.stops
    values, constants = _values(data, bounds, _constants(groups))

    def conversation(which: int) -> pa.BinaryArray:
        lengths = _spread([np.int64(len(one.template.conversations[which])) for one in groups], places)
        ends = np.cumsum(lengths)
        chosen = np.empty(int(ends[-1]), dtype=np.int32)
        for group, mine in zip(groups, places, strict=True):
            for at, piece in enumerate(pieces := group.template.conversations[which]):
                number = constants[piece] if isinstance(piece, bytes) else 2 * (first_texts[mine] + piece)
                chosen[ends[mine] - len(pieces) + at] = number
        offsets = arrow_array(np.concatenate([[0], ends]).astype(np.int32))
        return pc.binary_join(pa.ListArray.from_arrays(offsets, values.take(arrow_array(chosen))), _NOTHING)

    kinds = tuple(one.template.kind for one in groups)
    return unsorted[order], PairRun([conversation(0)], [conversation(1)], [conversation(2)], kinds, kind_of)


def _in_parts(data: bytes, group: TakenLines) -> PairRun:
    """The pairs of one template, whose parts are joined later: that saves a copy of them."""
    bounds = np.stack([group.starts, group.stops], axis=2).astype(np.int32).ravel()
    values, _ = _values(data, bounds, [])
    count, texts = group.starts.shape

    def parts(pieces: tuple[Piece, ...]) -> Parts:
        numbers = 2 * texts * np.arange(count)
        return [one if isinstance(one, bytes) else values.take(arrow_array(numbers + 2 * one)) for one in pieces]

    prompts, chosen, rejected = map(parts, group.template.conversations)
    return PairRun(prompts, chosen, rejected, (group.template.kind,), np.zeros(count, dtype=np.int64))


def _spread(values: list[np.int64], places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """A value of each group at the places of its lines among all."""
    found = np.empty(sum(map(len, places)), dtype=np.int64)
    for value, mine in zip(values, places, strict=True):
        found[mine] = value
    return found


def _constants(groups: Sequence[TakenLines]) -> list[bytes]:
    conversations = [one for group in groups for one in group.template.conversations]
    return list(dict.fromkeys(piece for one in conversations for piece in one if isinstance(piece, bytes)))


def _values(data: bytes, bounds: NDArray[np.int32], constants: list[bytes]) -> tuple[pa.BinaryArray, dict[bytes, int]]:
    """One array whose values are by turns a text and what stands behind it, and then constants; and their numbers."""
    ends = np.cumsum([len(data), *map(len, constants)]).astype(np.int32)
    offsets = np.concatenate([bounds, ends])
    buffer = pa.py_buffer(b"".join([data, *constants]) if constants else data)
    values = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), buffer])
    return values, {constant: len(bounds) + at for at, constant in enumerate(constants)}
