"""Exponential moving average of a growing series."""

from array import array
from math import isnan, nan

from dpo_tui.views.series import Series


class SmoothedSeries:
    """The exponential moving average of a series, updated as the series grows.

    Each bucket counts as many times as it has points. The average is corrected for its start at zero as in Adam
    (Kingma & Ba 2015, §3).

    Args:
        source: the raw series.
        decay: weight of the previous average at each point, above 0 and below 1; 0.9 averages over about ten points.
    """

    def __init__(self, source: Series, decay: float) -> None:
        self.source = source
        self.decay = decay
        self.series = Series(source.name)
        self._restart()

    def _restart(self) -> None:
        self.series = Series(self.source.name)
        self._buckets_read = 0
        self._span = self.source.span
        self._rewinds = self.source.rewinds
        self._average = 0.0
        self._weight = 0.0

    def update(self) -> Series:
        """Add what is new in the source, and return the smoothed series."""
        source = self.source
        if source.rewinds != self._rewinds:
            self._restart()
        while self._span < source.span:  # buckets were merged in pairs since the last update
            self._buckets_read = -(-self._buckets_read // 2)
            self._span *= 2
        keep = self.decay**self._span  # a bucket stands for `span` points
        average, weight = self._average, self._weight
        steps, means = array("d"), array("d")
        for step, mean in source.buckets(self._buckets_read):
            steps.append(step)
            if isnan(mean):
                means.append(nan)
            else:
                average = keep * average + (1 - keep) * mean
                weight = keep * weight + (1 - keep)
                means.append(average / weight)
        self._buckets_read += len(steps)
        self._average, self._weight = average, weight
        self.series.extend(steps, means)
        return self.series
