"""Find repeated and contradicting rows among any number of them, in flat memory.

Each pair leaves 24 bytes in a temporary file: its row and two hashes. Pairs that belong together have the same hash of
the prompt, so the file is worked through in slices of that hash, each of which fits in memory.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

SLICE = 1 << 20
"""Pairs that are looked at together: about 50 MB while they are sorted."""
_RECORD = np.dtype([("row", "<i8"), ("prompt", "<u8"), ("pair", "<u8")])
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Repeats:
    """Rows, counted from 0, that belong together within one slice; each list is in order.

    Args:
        duplicate_pairs: rows whose pair stands in an earlier row.
        duplicate_prompts: rows whose prompt stands in an earlier row, with other answers.
        contradicting: all rows of pairs that occur both ways round.
        leaked: rows whose prompt is in the evaluation split.
        distinct_prompts: how many prompts there are.
    """

    duplicate_pairs: NDArray[np.int64]
    duplicate_prompts: NDArray[np.int64]
    contradicting: NDArray[np.int64]
    leaked: NDArray[np.int64]
    distinct_prompts: int


class PairLog:
    """Collects the hashes of all pairs in a file without a name.

    Args:
        folder: where there is room for 24 bytes a pair; None takes the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the log)
        self._count = 0

    def add(self, rows: NDArray[np.int64], prompts: NDArray[np.uint64], pairs: NDArray[np.uint64]) -> None:
        """Add the pairs of one portion; rows are counted from 0 over the whole dataset."""
        records = np.empty(len(rows), dtype=_RECORD)
        records["row"], records["prompt"], records["pair"] = rows, prompts, pairs
        self._file.write(records.tobytes())
        self._count += len(rows)

    def repeats(self, elsewhere: NDArray[np.uint64] | None = None) -> Iterator[Repeats]:
        """Look at all pairs, slice by slice.

        Args:
            elsewhere: hashes of the prompts of the evaluation split, sorted.
        """
        slices = max(1, -(-self._count // SLICE))
        for number in range(slices):
            yield _repeats(self._slice(number, slices), elsewhere)

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def _slice(self, number: int, slices: int) -> NDArray[np.void]:
        self._file.seek(0)
        parts = []
        while block := self._file.read(_BLOCK * _RECORD.itemsize):
            records = np.frombuffer(block, dtype=_RECORD)
            # The upper bits choose the slice; the lower ones are no less random, but sorting uses them anyway.
            parts.append(records[(records["prompt"] >> np.uint64(40)) % np.uint64(slices) == number])
        return np.concatenate(parts) if parts else np.empty(0, dtype=_RECORD)


def _repeats(records: NDArray[np.void], elsewhere: NDArray[np.uint64] | None) -> Repeats:
    none = np.empty(0, dtype=np.int64)
    prompts = np.ascontiguousarray(records["prompt"])
    repeated = _repeated_values(prompts)
    leaked = none
    if elsewhere is not None and len(elsewhere):
        leaked = np.unique(records["row"][_isin(prompts, elsewhere)])
    if not len(repeated):
        return Repeats(none, none, none, leaked, len(prompts))
    # Only pairs whose prompt occurs more than once can repeat or contradict; they are few in most files.
    suspects = records[_isin(prompts, repeated)]
    suspects = suspects[np.lexsort((suspects["row"], suspects["pair"], suspects["prompt"]))]
    rows, pairs, prompt = suspects["row"], suspects["pair"], suspects["prompt"]
    same_prompt = _same_as_before(prompt)
    same_pair = same_prompt & _same_as_before(pairs)
    undirected = same_prompt & _same_as_before(pairs >> np.uint64(1))
    group = np.cumsum(~undirected)
    both_ways = np.unique(group[undirected & ~same_pair])
    contradicting = np.isin(group, both_ways)
    duplicates = same_pair & _other_row(rows, pairs)
    first_rows = _first_row_of_prompt(prompt, rows)
    again = (rows != first_rows) & ~duplicates
    distinct = len(prompts) - len(suspects) + len(repeated)
    return Repeats(
        np.unique(rows[duplicates]), np.unique(rows[again]), np.unique(rows[contradicting]), leaked, distinct
    )


def _repeated_values(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _isin(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[places] == values
    return found


def _same_as_before(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    same = np.zeros(len(values), dtype=bool)
    same[1:] = values[1:] == values[:-1]
    return same


def _other_row(rows: NDArray[np.int64], pairs: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether a record comes from another row than the one before: a ranking gives several pairs in one row."""
    other = np.zeros(len(rows), dtype=bool)
    other[1:] = (rows[1:] != rows[:-1]) & (pairs[1:] == pairs[:-1])
    return other


def _first_row_of_prompt(prompts: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    _, starts, group = np.unique(prompts, return_index=True, return_inverse=True)
    first = np.minimum.reduceat(rows, starts) if len(rows) else rows
    return np.asarray(first[group], dtype=np.int64)
