"""A histogram of lengths with one bin for each length: exact quantiles in constant memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAP = 1 << 18
"""Lengths from this one on share the last bin; the largest length is stored separately."""


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
            larger = np.zeros(min(CAP + 1, max(len(counts), 2 * len(self._counts))), dtype=np.int64)
            larger[: len(self._counts)] = self._counts
            self._counts = larger
        self._counts[: len(counts)] += counts

    def quantile(self, share: float) -> int:
        """The smallest length that at least this share of all lengths does not exceed; 0 if there are none."""
        total = self.count
        if not total:
            return 0
        reached = np.cumsum(self._counts) >= np.ceil(share * total)
        length = int(np.argmax(reached))
        return self._largest if length >= CAP else min(length, self._largest)

    def summary(self, bins: int = 24) -> dict[str, Any]:
        """Mean, quantiles and a histogram with few bins of equal width up to the 99.5 % quantile, for a report.

        The last bin also counts the few longer lengths, which would otherwise leave most bins empty.
        """
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
    """Token counts of a sample or of all pairs.

    Args:
        counted: pairs that were counted.
        exact: whether these are all.
        summaries: of prompts, chosen and rejected answers, and of each pair's prompt with its longer answer.
        will_drop: pairs that TRL drops because the prompt fills max_length.
        will_truncate: answers that TRL truncates.
        unrenderable: pairs for which the chat template raises an error.
        keeps: the ``max_length`` with which 95, 99 and 100 % of the pairs are not truncated.
        own_template: whether the model has a chat template.
    """

    counted: int
    exact: bool
    summaries: dict[str, Any]
    will_drop: int
    will_truncate: int
    unrenderable: int
    keeps: dict[str, int]
    own_template: bool
