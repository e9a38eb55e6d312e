"""The values of one metric over the steps of a run, in bounded memory.

A series is a min/max pyramid: level 0 holds the points (or, once there are many, buckets of 2, 4, 8… points), each
further level holds buckets of two of the level below, with their lowest, highest and mean value. Drawing uses the level
that suits the width of the chart, so a redraw costs the same for a thousand points as for a million; since every bucket
keeps its extremes, no spike is lost. When level 0 is full it is dropped, and level 1 becomes level 0.

One thread (the one that draws) writes; others, such as a diagnosis, may read meanwhile without a lock. Readers take
the number of buckets from the array that is appended to last, and arrays are replaced instead of shortened.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from operator import le

CAPACITY = 1 << 14
"""Buckets that level 0 may hold: about 0.7 MB for all levels of a series, 40 times the dots of a wide chart."""

LARGEST = 1e30
"""Values beyond this count as infinite; single precision, in which they are kept, ends at 3.4e38."""

OVERSAMPLE = 4
"""Buckets read at most for each column of dots when a series is drawn."""


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One bucket of a series: its first step, and its lowest, mean and highest value."""

    step: float
    low: float
    mean: float
    high: float


class _Level:
    """Buckets of one size, one array a field; ``mean`` is written last, so its length counts the complete ones."""

    __slots__ = ("high", "low", "mean", "step")

    def __init__(self) -> None:
        self.step = array("d")
        self.low = array("f")
        self.high = array("f")
        self.mean = array("f")

    def append(self, step: float, low: float, high: float, mean: float) -> None:
        self.step.append(step)
        self.low.append(low)
        self.high.append(high)
        self.mean.append(mean)

    def extend(self, step: Iterable[float], low: Iterable[float], high: Iterable[float], mean: Iterable[float]) -> None:
        self.step.extend(step)
        self.low.extend(low)
        self.high.extend(high)
        self.mean.extend(mean)

    def first(self, count: int) -> "_Level":
        """A copy of the first ``count`` buckets."""
        copy = _Level()
        copy.step, copy.low = self.step[:count], self.low[:count]
        copy.high, copy.mean = self.high[:count], self.mean[:count]
        return copy


class Series:
    """The values of a metric by step.

    Args:
        name: the metric's name, as in ``metrics.jsonl``.
        capacity: buckets that level 0 may hold; an even number.

    Attributes:
        count: points added.
        unusable: how many of them were NaN, infinite or beyond `LARGEST`; they are drawn as gaps.
        first_step: NaN before the first point.
        last_step: NaN before the first point.
        last_value: the latest value, NaN and infinities included.
        rewinds: how often a step was below the one before, as when a run resumes from a checkpoint.
        span: points in a bucket of level 0.
    """

    def __init__(self, name: str = "", *, capacity: int = CAPACITY) -> None:
        self.name = name
        self.capacity = capacity
        self.count = 0
        self.unusable = 0
        self.first_step = nan
        self.last_step = nan
        self.last_value = nan
        self.rewinds = 0
        self.span = 1
        self._levels = [_Level()]
        # The points of the bucket that is not full yet, and the step of its first.
        self._part: list[float] = []
        self._part_step = nan

    def __len__(self) -> int:
        return self.count

    def extend(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Add many points in the order in which they were logged: the result of `add` for each, many times faster."""
        plain = _plain(self.last_step, steps, values)
        start = 0
        while start < len(values):
            buckets = min((len(values) - start) // self.span, self.capacity - len(self._levels[0].mean))
            if plain and buckets and not self._part:
                stop = start + buckets * self.span
                self._add_buckets(steps[start:stop], values[start:stop])
                start = stop
            else:
                self.add(steps[start], values[start])
                start += 1

    def _add_buckets(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Add points that are plain (see `_plain`), fill whole buckets, and have room at level 0."""
        if self.count == 0:
            self.first_step = steps[0]
        self.last_step, self.last_value = steps[-1], values[-1]
        self.count += len(values)
        cuts = [values[first : first + self.span] for first in range(0, len(values), self.span)]
        means = [sum(cut) / self.span for cut in cuts]
        self._levels[0].extend(steps[:: self.span], map(min, cuts), map(max, cuts), means)
        self._merge_upwards()
        self._bound()

    def add(self, step: float, value: float) -> None:
        """Add one point. If its step is below the last one, all points from that step on are dropped first."""
        if step < self.last_step:
            self._rewind(step)
        if self.count == 0:
            self.first_step = step
        self.last_step, self.last_value = step, value
        self.count += 1
        if not -LARGEST < value < LARGEST:
            self.unusable += 1
            value = nan
        if self.span == 1:
            self._push(step, value, value, value)
            return
        if not self._part:
            self._part_step = step
        self._part.append(value)
        if len(self._part) >= self.span:
            low, high, mean = _summary(self._part)
            self._part = []
            self._push(self._part_step, low, high, mean)

    def expect(self, points: float) -> None:
        """Enlarge the buckets of level 0 to the size that a number of points will need.

        The result is the same as without, but a long history is added many times faster.

        Args:
            points: how many points the series will have.
        """
        while points / self.span > self.capacity:
            base = self._levels[0]
            if len(base.mean) & 1:
                # The last bucket has no partner yet. It goes back into the unfinished bucket, as points with the same
                # extremes and about the same mean; its own points are not known any more.
                low, high, mean = base.low[-1], base.high[-1], base.mean[-1]
                replacement = [low, high, *[mean] * (self.span - 2)][: self.span]
                self._part_step = base.step[-1]
                self._part = replacement + self._part
            self._levels = self._levels[1:] or [_Level()]
            self.span *= 2

    def _push(self, step: float, low: float, high: float, mean: float) -> None:
        """Append a bucket to level 0, and merged buckets to the levels above as far as pairs are complete."""
        levels = self._levels
        depth = 0
        while True:
            if depth == len(levels):
                levels.append(_Level())
            level = levels[depth]
            level.append(step, low, high, mean)
            size = len(level.mean)
            if size & 1:
                break
            step = level.step[size - 2]
            low, high, mean = _merge(level, size - 2)
            depth += 1
        self._bound()

    def _merge_upwards(self) -> None:
        """Append to each level the merged buckets of the level below that it lacks."""
        depth = 0
        while (size := len(self._levels[depth].mean) // 2) > 0:
            if depth + 1 == len(self._levels):
                self._levels.append(_Level())
            level, above = self._levels[depth], self._levels[depth + 1]
            first = 2 * len(above.mean)
            merged = [_merge(level, index) for index in range(first, 2 * size, 2)]
            if merged:
                above.extend(level.step[first : 2 * size : 2], *zip(*merged, strict=True))
            depth += 1

    def _bound(self) -> None:
        """When level 0 is full, drop it: level 1, with buckets twice as large, becomes level 0."""
        if len(self._levels[0].mean) >= self.capacity:
            self._levels = self._levels[1:]
            self.span *= 2

    def _rewind(self, step: float) -> None:
        """Drop the buckets from a step on. The levels are replaced, since another thread may be reading them."""
        base = self._levels[0]
        keep = bisect_left(base.step, step)
        self._levels = [level.first(keep >> depth) for depth, level in enumerate(self._levels)]
        self._part = []
        base = self._levels[0]
        self.count = keep * self.span
        self.unusable = sum(1 for value in base.mean if isnan(value))
        self.last_step = base.step[-1] if keep else nan
        self.rewinds += 1

    def buckets(self, start: int = 0) -> Iterable[tuple[float, float]]:
        """(step, mean) of each complete bucket of level 0, from index ``start`` on."""
        base = self._levels[0]
        for index in range(start, len(base.mean)):
            yield base.step[index], base.mean[index]

    def view(self, start: float, stop: float, columns: int) -> list[tuple[int, float, float]]:
        """The range of values in each column of dots between two steps.

        Args:
            start: the step at the left edge.
            stop: the step at the right edge, above ``start``.
            columns: the number of columns (of dots) to draw on.

        Returns:
            (column, low, high) from left to right, at most one entry a column; low is NaN where the line breaks. The
            nearest bucket on either side of the view is included, as column -1 or ``columns``, so that lines run to
            the edge of the plot.
        """
        levels, part, part_step = self._levels, list(self._part), self._part_step
        base = levels[0]
        begin = max(0, bisect_left(base.step, start) - 1)
        end = min(len(base.mean), bisect_right(base.step, stop) + 1)
        depth = 0
        while depth + 1 < len(levels) and (end - begin) >> depth > OVERSAMPLE * columns:
            depth += 1
        scale = (columns - 1) / (stop - start) if stop > start else 0.0
        drawn: list[tuple[int, float, float]] = []

        def put(step: float, low: float, high: float) -> None:
            column = round((step - start) * scale)
            column = -1 if column < 0 else min(column, columns)
            if drawn and drawn[-1][0] == column and 0 <= column < columns:
                _, old_low, old_high = drawn[-1]
                if isnan(low):
                    return
                if not isnan(old_low):
                    low, high = min(low, old_low), max(high, old_high)
                drawn[-1] = (column, low, high)
            elif column == -1 and drawn:
                drawn[-1] = (column, low, high)
            elif not (column == columns and drawn and drawn[-1][0] == columns):
                drawn.append((column, low, high))

        # The chosen level lacks the buckets that are not paired yet: each finer level holds at most one at its end.
        done = begin >> depth
        for level_depth in range(depth, -1, -1):
            level = levels[level_depth]
            last = min(len(level.mean), -(-end >> level_depth) if level_depth == depth else len(level.mean))
            for index in range(done, last):
                put(level.step[index], level.low[index], level.high[index])
            done = 2 * max(done, last)
            if level_depth == depth and last < len(level.mean):
                return drawn
        if part:
            low, high, _ = _summary(part)
            put(part_step, low, high)
        return drawn

    def bounds(self, start: float, stop: float) -> tuple[float, float] | None:
        """Lowest and highest value between two steps; None when there is no finite value."""
        lows, highs = [], []
        for column, low, high in self.view(start, stop, 256):
            if not isnan(low) and 0 <= column < 256:  # noqa: PLR2004 - the width asked for in the line above
                lows.append(low)
                highs.append(high)
        return (min(lows), max(highs)) if lows else None

    def at(self, step: float) -> SeriesPoint | None:
        """The bucket nearest to a step; None while the series is empty."""
        base = self._levels[0]
        size = len(base.mean)
        if not size:
            return None
        after = min(bisect_left(base.step, step), size - 1)
        before = max(after - 1, 0)
        index = before if abs(base.step[before] - step) <= abs(base.step[after] - step) else after
        return SeriesPoint(base.step[index], base.low[index], base.mean[index], base.high[index])

    def tail(self, columns: int) -> list[float]:
        """The whole series as at most ``columns`` values, each the middle of a column's range; for sparklines."""
        if not self.count:
            return []
        if self.last_step <= self.first_step:
            return [self.last_value] if isfinite(self.last_value) else []
        found = self.view(self.first_step, self.last_step, columns)
        return [(low + high) / 2 for _, low, high in found if not isnan(low)]


def _plain(last_step: float, steps: Sequence[float], values: Sequence[float]) -> bool:
    """Whether no step is below the one before and every value is finite and within `LARGEST`."""
    return (
        len(values) > 0
        and not steps[0] < last_step
        and -LARGEST < min(values) <= max(values) < LARGEST
        and isfinite(sum(values))  # a NaN may hide from min and max, but not from a sum
        and all(map(le, steps, steps[1:]))
    )


def _summary(values: list[float]) -> tuple[float, float, float]:
    """Low, high and mean of the values that are not NaN; NaN when all are."""
    usable = [value for value in values if not isnan(value)]
    if not usable:
        return nan, nan, nan
    return min(usable), max(usable), sum(usable) / len(usable)


def _merge(level: _Level, index: int) -> tuple[float, float, float]:
    """Low, high and mean of the buckets at an index and after it; one that holds only NaN is ignored."""
    low, other_low = level.low[index], level.low[index + 1]
    if isnan(low):
        return other_low, level.high[index + 1], level.mean[index + 1]
    if isnan(other_low):
        return low, level.high[index], level.mean[index]
    return (
        low if low < other_low else other_low,
        max(level.high[index], level.high[index + 1]),
        (level.mean[index] + level.mean[index + 1]) / 2,
    )
