"""Axes: which range to show, where the ticks go, and with how many decimals they are labelled."""

from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from dpo_tui.text.numbers import short_number

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)

SMALLEST = 1e-30
"""Below this a logarithmic axis would show nothing but noise."""


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
        """How far up a value lies: 0 at the bottom, 1 at the top; NaN stays NaN."""
        if self.log:
            if value <= 0:
                return -1.0
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def value(self, fraction: float) -> float:
        """The value at a height; the inverse of `fraction`."""
        if self.log:
            return float(10 ** (log10(self.low) + fraction * (log10(self.high) - log10(self.low))))
        return self.low + fraction * (self.high - self.low)


def nice_axis(low: float, high: float, *, log: bool = False, within: tuple[float, float] | None = None) -> Axis:
    """The axis that shows a range with a little air, its ends on round numbers so that it seldom moves.

    Args:
        low: the lowest finite value.
        high: the highest finite value.
        log: ask for a logarithmic axis; a range that touches 0 gets a linear one.
        within: hard ends that the axis never passes, such as 0 to 1 for an accuracy.
    """
    if log and low > SMALLEST:
        bottom, top = 10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high))
        if high / low < 8:  # noqa: PLR2004 - under a decade, whole decades would flatten the line
            bottom, top = low / 1.2, high * 1.2
        return Axis(bottom, top if top > bottom else bottom * 10, log=True)
    hard = None if within is None else (min(within[0], low), max(within[1], high))
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = nice_step(high - low, 8)
    bottom, top = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    if hard is not None:
        bottom, top = max(bottom, hard[0]), min(top, hard[1])
    return Axis(bottom, top if top > bottom else bottom + step)


def nice_step(span: float, pieces: int) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ⁿ that cuts ``span`` into at most ``pieces``."""
    if not (isfinite(span) and span > 0):
        return 1.0
    rough = span / max(pieces, 1)
    power = 10.0 ** floor(log10(rough))
    return next(power * nice for nice in _NICE if power * nice >= rough * (1 - 1e-9))


def ticks(axis: Axis, pieces: int) -> list[float]:
    """Round values within an axis, lowest first: about ``pieces`` of them, never fewer than its two ends would give."""
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
    """The steps a live chart shows: 0 to just past the last one.

    The right end moves in eighths of the next lower power of two, so a new point redraws the end of the line and not,
    by shifting it, all of it. Over a slow connection that is most of what a chart costs.
    """
    if not (isfinite(last) and last > 0):
        return 0.0, 8.0
    grain = max(2.0 ** (_log2_floor(last) - 3), 1.0)
    return 0.0, max(ceil(last / grain) * grain, 8.0)


def _log2_floor(value: float) -> int:
    """The exponent of the largest power of two that is not above a positive value."""
    return max(int(value), 1).bit_length() - 1


def tick_label(value: float, step: float) -> str:
    """A tick written with just the decimals that its neighbours differ in; ``step`` is their distance."""
    plain = abs(value) < 1e4 and (step >= 1e-3 or (step >= 1e-6 and abs(value) >= 1e-2))  # noqa: PLR2004
    if plain:  # where decimals stay short
        decimals = max(0, -floor(log10(step) + 1e-9))
        if round(step * 10**decimals, 6) != round(step * 10**decimals):
            decimals += 1
        return f"{value + 0.0:.{decimals}f}"
    return short_number(value)
