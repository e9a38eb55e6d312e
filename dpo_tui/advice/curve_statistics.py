"""Small arithmetic over curves: parts of them, means, medians. Standard library only."""

import math
from collections.abc import Sequence


def part(values: Sequence[float], begin: float, end: float) -> Sequence[float]:
    """Return the values between two fractions of a curve, at least one where there is one."""
    first = math.floor(len(values) * begin)
    return values[first : max(math.ceil(len(values) * end), first + 1)]


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def median(values: Sequence[float]) -> float:
    """Return the upper median; NaN of nothing."""
    return sorted(values)[len(values) // 2] if values else math.nan


def chance_standard_error(count: float) -> float:
    """Return the standard error of a frequency around one half, from so many tosses: √(¼ / n)."""
    return math.sqrt(0.25 / max(count, 1.0))
