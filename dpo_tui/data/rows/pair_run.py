"""Usable pairs in consecutive rows that are passed on together: as columns of the JSON texts of their conversations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpo_tui.data.pairs.pair import Pair

if TYPE_CHECKING:  # numpy and pyarrow are imported for large datasets only
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


Parts = list["bytes | pa.BinaryArray"]
"""Of the texts of some rows: bytes are the same in all rows, an array has a part of each."""


@dataclass(frozen=True, slots=True)
class PairKind:
    """What some rows have in common.

    Args:
        record: the first row of their file that has these columns and kinds of values.
        format: the name of their format, as the recogniser gives it.
        example: a pair with the same roles, none of whose messages is blank.
    """

    record: dict[str, Any]
    format: str
    example: Pair


@dataclass(frozen=True, slots=True)
class PairRun:
    """Usable pairs, one a row, whose messages have a role and a text and nothing else.

    Args:
        prompts: the JSON texts of the prompts, with sorted keys, as orjson writes them, in parts to be joined.
        chosen: the preferred answers, in the same form.
        rejected: the other answers.
        kinds: what rows have in common.
        kind_of: the number of each row's kind.
    """

    prompts: "Parts"
    chosen: "Parts"
    rejected: "Parts"
    kinds: tuple[PairKind, ...]
    kind_of: "NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.kind_of)

    def part(self, start: int, count: int) -> "PairRun":
        """Some of the rows."""

        def of(parts: Parts) -> Parts:
            return [one if isinstance(one, bytes) else one.slice(start, count) for one in parts]

        prompts, chosen, rejected = map(of, (self.prompts, self.chosen, self.rejected))
        return PairRun(prompts, chosen, rejected, self.kinds, self.kind_of[start : start + count])

    def counts(self) -> Iterator[tuple[PairKind, int]]:
        """How many rows are of each kind, in the order in which the kinds occur first."""
        import numpy as np

        numbers, firsts, counts = np.unique(self.kind_of, return_index=True, return_counts=True)
        for at in np.argsort(firsts).tolist():
            yield self.kinds[int(numbers[at])], int(counts[at])
