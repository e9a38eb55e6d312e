"""Find duplicate and contradicting rows among any number of them, in constant memory.

Each pair is stored as 24 bytes in a temporary file: its row and two hashes. Only pairs with the same hash of the prompt
can be duplicates, so the file is read once for each slice of that hash, and each slice fits in memory.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

SLICE = 1 << 20
"""Pairs that are compared together: about 50 MB while they are sorted."""
_RECORD = np.dtype([("row", "<i8"), ("prompt", "<u8"), ("pair", "<u8")])
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Duplicates:
    """Rows of one slice, counted from 0, that repeat or contradict others; each array is in order.

    Args:
        duplicate_pairs: rows whose pair is also in an earlier row.
        duplicate_prompts: rows whose prompt is also in an earlier row, with other answers.
        contradicting: all rows of pairs of which each answer is preferred in some row.
        leaked: rows whose prompt is in the evaluation split.
        distinct_prompts: how many different prompts there are.
    """

    duplicate_pairs: NDArray[np.int64]
    duplicate_prompts: NDArray[np.int64]
    contradicting: NDArray[np.int64]
    leaked: NDArray[np.int64]
    distinct_prompts: int


class PairLog:
    """The hashes of all pairs, in a temporary file without a name.

    Args:
        folder: a folder with room for 24 bytes a pair; None takes the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the log)
        self._count = 0

    def add(self, rows: NDArray[np.int64], prompts: NDArray[np.uint64], pairs: NDArray[np.uint64]) -> None:
        """Add the pairs of one chunk; rows are counted from 0 over the whole dataset."""
        records = np.empty(len(rows), dtype=_RECORD)
        records["row"], records["prompt"], records["pair"] = rows, prompts, pairs
        self._file.write(records.tobytes())
        self._count += len(rows)

    def duplicates(self, evaluation_prompts: NDArray[np.uint64] | None = None) -> Iterator[Duplicates]:
        """Compare all pairs, slice by slice.

        Args:
            evaluation_prompts: hashes of the prompts of the evaluation split, sorted.
        """
        slices = max(1, -(-self._count // SLICE))
        for number in range(slices):
            yield _duplicates(self._slice(number, slices), evaluation_prompts)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _slice(self, number: int, slices: int) -> NDArray[np.void]:
        self._file.seek(0)
        parts = []
        while block := self._file.read(_BLOCK * _RECORD.itemsize):
            records = np.frombuffer(block, dtype=_RECORD)
            # Bits from the middle of the hash choose the slice: records are later sorted by the whole of it.
            parts.append(records[(records["prompt"] >> np.uint64(40)) % np.uint64(slices) == number])
        return np.concatenate(parts) if parts else np.empty(0, dtype=_RECORD)


def _duplicates(records: NDArray[np.void], evaluation_prompts: NDArray[np.uint64] | None) -> Duplicates:
    none = np.empty(0, dtype=np.int64)
    prompts = np.ascontiguousarray(records["prompt"])
    # Equal hashes count as equal texts: at 64 bits, a billion different prompts have a chance of three in a hundred of
    # a single collision among all of them.
    repeated = _repeated_values(prompts)
    leaked = none
    if evaluation_prompts is not None and len(evaluation_prompts):
        leaked = np.unique(records["row"][_isin(prompts, evaluation_prompts)])
    if not len(repeated):
        return Duplicates(none, none, none, leaked, len(prompts))
    # Only pairs whose prompt occurs more than once can repeat or contradict another; they are few in most files.
    candidates = records[_isin(prompts, repeated)]
    # The last key is the first to sort by: prompt, then pair, then row. So the first of equal pairs is that of the
    # earliest row, which is the one that stays.
    candidates = candidates[np.lexsort((candidates["row"], candidates["pair"], candidates["prompt"]))]
    rows, pairs, prompt = candidates["row"], candidates["pair"], candidates["prompt"]
    same_prompt = _equals_previous(prompt)
    same_pair = same_prompt & _equals_previous(pairs)
    # The lowest bit of a pair's hash is the direction of the preference: without it a pair and its swapped form are
    # equal, and next to each other in the order. A group that holds both hashes contradicts itself.
    same_answers = same_prompt & _equals_previous(pairs >> np.uint64(1))
    group = np.cumsum(~same_answers)
    both_ways = np.unique(group[same_answers & ~same_pair])
    contradicting = np.isin(group, both_ways)
    duplicate = same_pair & _is_in_other_row(rows, pairs)
    same_prompt_again = (rows != _first_row_of_prompt(prompt, rows)) & ~duplicate
    distinct = len(prompts) - len(candidates) + len(repeated)
    return Duplicates(
        np.unique(rows[duplicate]), np.unique(rows[same_prompt_again]), np.unique(rows[contradicting]), leaked, distinct
    )


def _repeated_values(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _isin(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """`numpy.isin` for a second array that is sorted already."""
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[places] == values
    return found


def _equals_previous(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    same = np.zeros(len(values), dtype=bool)
    same[1:] = values[1:] == values[:-1]
    return same


def _is_in_other_row(rows: NDArray[np.int64], pairs: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether an equal pair comes from another row than the previous one: a ranking gives several pairs in one row."""
    other = np.zeros(len(rows), dtype=bool)
    other[1:] = (rows[1:] != rows[:-1]) & (pairs[1:] == pairs[:-1])
    return other


def _first_row_of_prompt(prompts: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    _, starts, group = np.unique(prompts, return_index=True, return_inverse=True)
    first = np.minimum.reduceat(rows, starts) if len(rows) else rows
    return np.asarray(first[group], dtype=np.int64)
