"""Exact counts of lengths in constant memory, from which any quantile can be read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAP = 1 << 18
"""Lengths from here on share one bin; the largest is kept beside."""


class LengthHistogram:
    """How often each length occurs."""

    def __init__(self) -> None:
        self._counts = np.zeros(1024, dtype=np.int64)
        self._largest = 0
        self._sum = 0

    @property
    def count(self) -> int:
        """How many lengths were added."""
        return int(self._counts.sum())

    @property
    def largest(self) -> int:
        """The largest length."""
        return self._largest

    def add(self, lengths: NDArray[np.integer[Any]]) -> None:
        """Count some lengths."""
        if not len(lengths):
            return
        self._largest = max(self._largest, int(lengths.max()))
        self._sum += int(lengths.sum())
        counts = np.bincount(np.minimum(lengths, CAP))
        if len(counts) > len(self._counts):
            grown = np.zeros(min(CAP + 1, max(len(counts), 2 * len(self._counts))), dtype=np.int64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[: len(counts)] += counts

    def quantile(self, share: float) -> int:
        """The smallest length that at least this share of all lengths does not exceed; 0 if there are none."""
        total = self.count
        if not total:
            return 0
        reached = np.cumsum(self._counts) >= np.ceil(share * total)
        length = int(np.argmax(reached))
        return self._largest if length >= CAP else min(length, self._largest)

    def at_least(self, length: int) -> int:
        """How many lengths are this long or longer."""
        return int(self._counts[min(length, CAP) :].sum())

    def summary(self, bins: int = 24) -> dict[str, Any]:
        """Mean, quantiles and a histogram with few bins of equal width up to the 99.5 % quantile, for people."""
        total = self.count
        if not total:
            return {"count": 0}
        end = max(self.quantile(0.995), 1)
        width = max(1, -(-(end + 1) // bins))
        last = min(len(self._counts), width * bins)
        padded = np.zeros(width * bins, dtype=np.int64)
        padded[:last] = self._counts[:last]
        counts = padded.reshape(bins, width).sum(axis=1)
        counts[-1] += total - int(counts.sum())
        return {
            "count": total,
            "mean": round(self._sum / total, 1),
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "max": self._largest,
            "histogram": {"bin_width": width, "counts": counts.tolist()},
        }


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """What counting tokens gave, of a sample or of all pairs.

    Args:
        counted: pairs that were counted.
        exact: whether these are all.
        summaries: of prompts, chosen and rejected answers, and of the longer whole of each pair.
        will_drop: pairs that TRL drops because the prompt fills max_length.
        will_truncate: answers that TRL cuts.
        refused: pairs that the chat template refuses.
        keeps: the ``max_length`` that keeps 95, 99 and 100 % of the pairs whole.
        own_template: whether the model has a chat template of its own.
    """

    counted: int
    exact: bool
    summaries: dict[str, Any]
    will_drop: int
    will_truncate: int
    refused: int
    keeps: dict[str, int]
    own_template: bool
