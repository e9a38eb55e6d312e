"""One metric over the steps of a run, kept small however long the run is.

A series is a pyramid: level 0 holds the points (or, once there are many, buckets of 2, 4, 8… points), each next level
holds buckets of two of the level below, with their lowest, highest and mean value. Drawing picks the level that suits
the width of the chart, so a refresh costs the same for a thousand points as for a million, and since every bucket keeps
its extremes, no spike is ever lost. Memory is bounded: when level 0 is full it is dropped and level 1 takes its place.

The thread that draws adds, and another may read meanwhile, as a diagnosis does: readers go by the length of the array
that is written last, and whatever would shrink an array replaces it instead.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from operator import le

CAPACITY = 1 << 14
"""How many buckets level 0 may hold: about 0.7 MB a series with all its levels, 40 times the dots of a wide chart."""

LARGEST = 1e30
"""A loss beyond this is infinity by another name, and single precision ends not far above."""

OVERSAMPLE = 4
"""Buckets looked at for each column of dots when a view is drawn."""


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """What a series says at one place: a bucket's first step, its lowest, mean and highest value."""

    step: float
    low: float
    mean: float
    high: float


class _Level:
    """Buckets of one size. ``mean`` is written last and tells how many buckets are complete."""

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
    """A metric's values by step.

    Args:
        name: the metric's name, as in ``metrics.jsonl``.
        capacity: how many buckets to keep at the finest level; an even number.
    """

    def __init__(self, name: str = "", *, capacity: int = CAPACITY) -> None:
        self.name = name
        self.capacity = capacity
        self.count = 0
        self.unusable = 0
        """Values that were NaN, infinite or beyond `LARGEST`; they are drawn as gaps."""
        self.first_step = nan
        self.last_step = nan
        self.last_value = nan
        """The latest value, NaN and infinities included."""
        self.rewinds = 0
        """How often steps went back (a run resumed from a checkpoint) and later points were replaced."""
        self.span = 1
        """Points in a bucket of level 0."""
        self._levels = [_Level()]
        self._part: list[float] = []
        self._part_step = nan

    def __len__(self) -> int:
        return self.count

    def extend(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Add many points in the order in which they were logged: the same as adding each, but many times faster."""
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
        """Add plain points that fill whole buckets, for which there is room at level 0."""
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
        """Add one point. A step below the last one replaces everything from that step on."""
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
        """Prepare for many points at once: begin with the bucket size that they will need in the end anyway.

        Reading a long history then costs a fraction, and the result is the same.
        """
        while points / self.span > self.capacity:
            base = self._levels[0]
            if len(base.mean) & 1:
                # The last bucket has no partner yet: what it stands for waits for the points that will join it.
                low, high, mean = base.low[-1], base.high[-1], base.mean[-1]
                stands_for = [low, high, *[mean] * (self.span - 2)][: self.span]
                self._part_step = base.step[-1]
                self._part = stands_for + self._part
            self._levels = self._levels[1:] or [_Level()]
            self.span *= 2

    def _push(self, step: float, low: float, high: float, mean: float) -> None:
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
        """Give each level the buckets that it lacks of the level below."""
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
        """Keep memory bounded: when level 0 is full, level 1 takes its place."""
        if len(self._levels[0].mean) >= self.capacity:
            self._levels = self._levels[1:]
            self.span *= 2

    def _rewind(self, step: float) -> None:
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
        """Step and mean of each complete bucket of level 0, from index ``start`` on."""
        base = self._levels[0]
        for index in range(start, len(base.mean)):
            yield base.step[index], base.mean[index]

    def view(self, start: float, stop: float, columns: int) -> list[tuple[int, float, float]]:
        """What to draw between two steps.

        Args:
            start: the step at the left edge.
            stop: the step at the right edge, above ``start``.
            columns: the number of columns (of dots) to draw on.

        Returns:
            (column, low, high) from left to right, at most one entry a column; low is NaN where the line breaks. One
            neighbour on either side of the view is included, with a column below 0 or past the end, so that lines run
            out of the picture instead of ending at its edge.
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

        # The coarse level covers all complete buckets; what it has not merged yet waits at the end of each finer level.
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
        """Lowest and highest value between two steps; None when there is no finite one."""
        lows, highs = [], []
        for column, low, high in self.view(start, stop, 256):
            if not isnan(low) and 0 <= column < 256:  # noqa: PLR2004 - the width asked for in the line above
                lows.append(low)
                highs.append(high)
        return (min(lows), max(highs)) if lows else None

    def at(self, step: float) -> SeriesPoint | None:
        """The bucket nearest to a step, or None while the series is empty."""
        base = self._levels[0]
        size = len(base.mean)
        if not size:
            return None
        after = min(bisect_left(base.step, step), size - 1)
        before = max(after - 1, 0)
        index = before if abs(base.step[before] - step) <= abs(base.step[after] - step) else after
        return SeriesPoint(base.step[index], base.low[index], base.mean[index], base.high[index])

    def tail(self, columns: int) -> list[float]:
        """Means of the whole series cut into at most ``columns`` pieces, for sparklines."""
        if not self.count:
            return []
        if self.last_step <= self.first_step:
            return [self.last_value] if isfinite(self.last_value) else []
        found = self.view(self.first_step, self.last_step, columns)
        return [(low + high) / 2 for _, low, high in found if not isnan(low)]


def _plain(last_step: float, steps: Sequence[float], values: Sequence[float]) -> bool:
    """Whether no step falls and every value can be drawn."""
    return (
        len(values) > 0
        and not steps[0] < last_step
        and -LARGEST < min(values) <= max(values) < LARGEST
        and isfinite(sum(values))  # a NaN may hide from min and max, but not from a sum
        and all(map(le, steps, steps[1:]))
    )


def _summary(values: list[float]) -> tuple[float, float, float]:
    usable = [value for value in values if not isnan(value)]
    if not usable:
        return nan, nan, nan
    return min(usable), max(usable), sum(usable) / len(usable)


def _merge(level: _Level, index: int) -> tuple[float, float, float]:
    """Low, high and mean of two neighbouring buckets; a bucket without a usable value does not count."""
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
