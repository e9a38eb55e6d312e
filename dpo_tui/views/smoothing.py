"""A smoothed line that follows a growing series."""

from array import array
from math import isnan, nan

from dpo_tui.views.series import Series


class SmoothedSeries:
    """An exponential moving average that follows a series, each bucket weighted by the points in it.

    The start is corrected for bias as in Adam (Kingma & Ba 2015, §3), so the line does not start at zero.

    Args:
        source: the raw series.
        decay: the weight of the past for one point, between 0 and 1; 0.9 averages over about ten points.
    """

    def __init__(self, source: Series, decay: float) -> None:
        self.source = source
        self.decay = decay
        self.series = Series(source.name)
        self._restart()

    def _restart(self) -> None:
        self.series = Series(self.source.name)
        self._seen = 0
        self._span = self.source.span
        self._rewinds = self.source.rewinds
        self._average = 0.0
        self._weight = 0.0

    def update(self) -> Series:
        """Catch up with the source and return the smoothed series."""
        source = self.source
        if source.rewinds != self._rewinds:
            self._restart()
        while self._span < source.span:
            self._seen = -(-self._seen // 2)
            self._span *= 2
        keep = self.decay**self._span
        average, weight = self._average, self._weight
        steps, means = array("d"), array("d")
        for step, mean in source.buckets(self._seen):
            steps.append(step)
            if isnan(mean):
                means.append(nan)
            else:
                average = keep * average + (1 - keep) * mean
                weight = keep * weight + (1 - keep)
                means.append(average / weight)
        self._seen += len(steps)
        self._average, self._weight = average, weight
        self.series.extend(steps, means)
        return self.series
