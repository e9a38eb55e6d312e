"""ChartGrid with a chart for every metric that was logged, shared by the monitor and the comparison."""

from collections.abc import Callable, Iterable

from dpo_tui.views.chart_registry import ChartEntry, charts_for
from dpo_tui.views.plot import PlotLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid


class MetricChartGrid(ChartGrid):
    """A grid that gains a chart when a metric appears; charts stay in the order in which their metrics came.

    Charts that were shown without values go when the run has logged metrics and turns out not to have theirs.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._entries: list[ChartEntry] = []

    def update_charts(
        self, metrics: Iterable[str], lines_of: Callable[[ChartEntry], list[PlotLine]], *, expected: bool = True
    ) -> bool:
        """Add the charts of new metrics, and give each chart the lines that it draws.

        Args:
            metrics: names of all metrics logged so far.
            lines_of: the lines of a chart. A chart is touched only if these come from other series than before; points
                that a series gained are drawn at the next `redraw` of the grid.
            expected: whether charts that preference pairs give are shown before they have values.

        Returns:
            Whether these were the first charts of the grid.
        """
        before = {entry.metrics: chart for entry, chart in zip(self._entries, self.charts, strict=True)}
        wanted = charts_for(metrics, expected=expected)
        added = [entry for entry in wanted if entry.metrics not in before]
        if {entry.metrics for entry in wanted} >= before.keys():
            if added:
                self._entries += added
                self.add_charts([LineChart(entry.style, log=entry.log) for entry in added])
        else:
            self._entries = wanted
            self.replace_charts(
                [before.get(entry.metrics) or LineChart(entry.style, log=entry.log) for entry in wanted]
            )
        for entry, chart in zip(self._entries, self.charts, strict=True):
            lines = lines_of(entry)
            if [line.series for line in lines] != chart.sources:
                chart.set_lines(lines)
        return bool(added) and not before
