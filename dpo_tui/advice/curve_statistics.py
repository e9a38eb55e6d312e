"""Statistics of metric curves: parts, means, medians. Standard library only."""

import math
from collections.abc import Sequence

_Z = 1.959964
"""97.5 % quantile of the normal distribution: of both sides of an interval of 95 %."""
_Z_ONE_SIDED = 1.644854
"""95 % quantile of the normal distribution."""


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


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean, from the values' own deviation; 0 of fewer than two."""
    if len(values) < 2:  # noqa: PLR2004 - no deviation of one value
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def one_sided_t(count: float) -> float:
    """Return how many standard errors a mean of ``count`` values must be beyond a bound, to be beyond it with 95 %.

    The quantile of Student's t with ``count`` − 1 degrees of freedom, by its expansion around that of the normal
    distribution (Abramowitz and Stegun 26.7.5): 1.645 of many values, 1.89 of eight, 2.3 of four.
    """
    z, degrees = _Z_ONE_SIDED, max(count - 1, 1.0)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % score interval of a share that was measured on ``count`` pairs (Wilson 1927); 0 to 1 of none."""
    if count <= 0:
        return 0.0, 1.0
    centre = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(max(share * (1 - share), 0.0) / count + (_Z / (2 * count)) ** 2)
    whole = 1 + _Z**2 / count
    return max((centre - half) / whole, 0.0), min((centre + half) / whole, 1.0)
