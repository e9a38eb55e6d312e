"""Statistics of metric curves: parts, means, medians. Standard library only."""

import math
from collections.abc import Sequence


def part(values: Sequence[float], begin: float, end: float) -> Sequence[float]:
    """Return the values between two fractions of a curve (0 its start, 1 its end), at least one unless it is empty."""
    first = math.floor(len(values) * begin)
    return values[first : max(math.ceil(len(values) * end), first + 1)]


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def median(values: Sequence[float]) -> float:
    """Return the median, of an even number of values the upper one; NaN of nothing."""
    return sorted(values)[len(values) // 2] if values else math.nan


def chance_standard_error(count: float) -> float:
    """Return the standard error of an accuracy that is at chance level, measured on ``count`` pairs: √(¼ / n)."""
    return math.sqrt(0.25 / max(count, 1.0))
