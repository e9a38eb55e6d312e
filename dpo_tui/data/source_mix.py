"""Choose how many rows of each source of a dataset are used, and which: sources with weights are mixed.

A weight is the share of the mix. The mix is the largest in which no row is used twice, so the source that is smallest
for its weight is used whole, and of the others as many rows as keep the shares. Which rows those are depends on the
seed alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpo_tui.errors import DataError


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows of one source of a dataset.

    Args:
        location: the source, as the user named it.
        rows: its rows, blank lines not counted.
        usable: those of them that can be used.
        used: those of them that are used.
        weight: its share of the mix, of all weights together; None where sources have no weights.
    """

    location: str
    rows: int
    usable: int
    used: int
    weight: float | None = None

    def note(self) -> str:
        """One line for people."""
        share = f", {self.weight:.1%} of the mix" if self.weight is not None else ""
        return f"{self.location}: {self.used:,} of {self.usable:,} usable rows are used{share}"

    def to_json(self) -> dict[str, Any]:
        """For receipts and reports."""
        return asdict(self)


def rows_of_mix(usable: Sequence[int], weights: Sequence[float], most: int | None = None) -> list[int]:
    """How many rows of each source a mix has.

    Args:
        usable: usable rows of each source.
        weights: of each source, above 0; only their proportions matter.
        most: rows of the mix at most; None for the largest mix without a repeated row.
    """
    total = sum(weights)
    size = min(count * total / weight for count, weight in zip(usable, weights, strict=True))
    if most is not None:
        size = min(size, most)
    # The smallest source is used whole: a product that is a hair below a whole number is that number.
    return [min(count, int(size * weight / total + 1e-9)) for count, weight in zip(usable, weights, strict=True)]


def chosen_rows(rows: Sequence[int], count: int, seed: int, source: int) -> set[int]:
    """Choose some rows of a source, the same ones for the same seed on every machine.

    Args:
        rows: numbers of the usable rows.
        count: how many to choose. A larger choice contains the smaller one.
        seed: of the run.
        source: number of the source, so that files with the same rows are not chosen alike.
    """
    if count >= len(rows):
        return set(rows)

    def rank(place: int) -> bytes:
        return hashlib.blake2b(f"{seed}:{source}:{place}".encode(), digest_size=8).digest()

    return {rows[place] for place in sorted(range(len(rows)), key=rank)[:count]}


def sources_of(
    locations: Sequence[str],
    rows: Sequence[int],
    usable: Sequence[int],
    weights: Sequence[float] = (),
    most: int | None = None,
) -> list[SourceRows]:
    """What is used of each source.

    Raises:
        DataError: a source has no usable row, or too few for its weight.
    """
    if not weights:
        return [SourceRows(*one) for one in zip(locations, rows, usable, usable, strict=True)]
    used = rows_of_mix(usable, weights, most)
    for counts, reason in (
        (usable, "has no usable row"),
        (used, "would give no row to the mix, so small is its weight or the other sources"),
    ):
        if 0 in counts:
            location = locations[counts.index(0)]
            raise DataError(f"{location} {reason}", hint="Leave it out of dataset, or change dataset_weights.")
    shares = [weight / sum(weights) for weight in weights]
    return [SourceRows(*one) for one in zip(locations, rows, usable, used, shares, strict=True)]
