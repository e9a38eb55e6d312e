"""Value axes: the range shown, the positions of ticks, and numbers as short text."""

from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from dpo_tui.text.numbers import short_number

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between ticks, times a power of ten."""

SMALLEST = 1e-30
"""Lowest value of a logarithmic axis; a range that begins below it gets a linear one."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values that maps to rows, linear or logarithmic.

    Args:
        low: the value at the bottom.
        high: the value at the top, above ``low``.
        log: whether equal distances are equal ratios; ``low`` is above 0 then.
    """

    low: float
    high: float
    log: bool = False

    def fraction(self, value: float) -> float:
        """The height of a value: 0 at the bottom, 1 at the top; NaN for NaN."""
        if self.log:
            if value <= 0:
                return -1.0  # has no logarithm: below the axis, where drawing cuts it off
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def value(self, fraction: float) -> float:
        """The value at a height from 0 to 1; the inverse of `fraction`."""
        if self.log:
            return float(10 ** (log10(self.low) + fraction * (log10(self.high) - log10(self.low))))
        return self.low + fraction * (self.high - self.low)


def nice_axis(low: float, high: float, *, log: bool = False, within: tuple[float, float] | None = None) -> Axis:
    """The axis for a range of values. Its ends are round numbers, so that it seldom changes as values are added.

    Args:
        low: the lowest finite value.
        high: the highest finite value.
        log: whether to use a logarithmic axis where the range allows it (see `SMALLEST`).
        within: ends that the axis does not exceed unless values do, such as 0 and 1 for an accuracy.
    """
    if log and low > SMALLEST:
        bottom, top = 10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high))
        if high / low < 8:  # noqa: PLR2004 - under a decade, whole decades would flatten the line
            bottom, top = low / 1.2, high * 1.2
        return Axis(bottom, top if top > bottom else bottom * 10, log=True)
    limits = None if within is None else (min(within[0], low), max(within[1], high))
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = nice_step(high - low, 8)
    # With a tolerance: 0.3 / 0.1 is 2.9999999999999996, and its floor would add an empty step below the lowest value.
    bottom, top = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    if limits is not None:
        bottom, top = max(bottom, limits[0]), min(top, limits[1])
    return Axis(bottom, top if top > bottom else bottom + step)


def nice_step(span: float, pieces: int) -> float:
    """The smallest of 1, 2, 2.5 and 5 × 10ⁿ that divides ``span`` into at most ``pieces``; 1 for an empty span."""
    if not (isfinite(span) and span > 0):
        return 1.0
    rough = span / max(pieces, 1)
    power = 10.0 ** floor(log10(rough))
    return next(power * nice for nice in _NICE if power * nice >= rough * (1 - 1e-9))


def ticks(axis: Axis, pieces: int) -> list[float]:
    """Round values within an axis, lowest first.

    Args:
        axis: a linear or logarithmic axis; the latter gets powers of ten where it spans several.
        pieces: how many intervals to divide it into, about.
    """
    if axis.log:
        first, last = ceil(log10(axis.low) - 1e-9), floor(log10(axis.high) + 1e-9)
        decades = [10.0**power for power in range(first, last + 1)]
        if len(decades) > 1:
            every = -(-len(decades) // max(pieces, 1))
            return decades[::every]
        return [axis.value(index / max(pieces, 1)) for index in range(pieces + 1)]
    step = nice_step(axis.high - axis.low, pieces)
    first = ceil(axis.low / step - 1e-9)
    last = floor(axis.high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def step_range(last: float) -> tuple[float, float]:
    """The range of steps that a chart of a running run shows: 0 to just past the last step.

    The right end grows in eighths of the next lower power of two. Between two such changes a new point repaints only
    the end of the line; if the end moved with each point, the whole line would shift, and be sent over SSH, each time.
    """
    if not (isfinite(last) and last > 0):
        return 0.0, 8.0
    grain = max(2.0 ** (_log2_floor(last) - 3), 1.0)
    return 0.0, max(ceil(last / grain) * grain, 8.0)


def _log2_floor(value: float) -> int:
    """The exponent of the largest power of two that is not above a positive value."""
    return max(int(value), 1).bit_length() - 1


def grouped_number(step: float) -> str:
    """A number of steps with thousands separators: 1,125."""
    return f"{round(step):,}"


def tick_label(value: float, step: float) -> str:
    """The label of a tick, with as many decimals as the distance to its neighbours needs.

    Args:
        value: of the tick.
        step: distance of two ticks.
    """
    plain = abs(value) < 1e4 and (step >= 1e-3 or (step >= 1e-6 and abs(value) >= 1e-2))  # noqa: PLR2004
    if plain:  # few enough decimals
        decimals = max(0, -floor(log10(step) + 1e-9))
        if round(step * 10**decimals, 6) != round(step * 10**decimals):
            decimals += 1
        return f"{value + 0.0:.{decimals}f}"
    return short_number(value)


def _significant(value: float, digits: int) -> str:
    """A number with a count of significant digits, never in exponent notation."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    decimals = max(digits - whole, 0)
    text = f"{value:.{decimals}f}"
    # Rounding may carry into a new digit (9.996 → 10.00): one decimal less then.
    if decimals and len(text.lstrip("-").replace(".", "").lstrip("0")) > digits:
        text = f"{value:.{decimals - 1}f}"
    return text
