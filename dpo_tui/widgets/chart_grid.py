"""A grid of charts on pages: as many a page as are legible, and one of them enlarged on request.

The monitor and the comparison show a `MetricChartGrid`, which adds the chart of a metric when its first value is read
(`dpo_tui.views.chart_registry` lists the charts). Next: `dpo_tui.widgets.chart` draws one chart.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.message import Message

from dpo_tui.views.chart_registry import ChartEntry, charts_for
from dpo_tui.views.plot import PlotLine
from dpo_tui.widgets.chart import MIN_HEIGHT, MIN_WIDTH, LineChart

MOST_COLUMNS = 4
MOST_CHARTS = 8
"""Charts on one page at most: more are hard to read, and each new point repaints all of them."""
TALL_ENOUGH = 12
"""Rows that a chart should have before a further row of charts is added."""


def arrangement(count: int, width: int, height: int) -> tuple[int, int]:
    """Choose columns and rows: as many charts as are legible, each about five times as wide in cells as it is high.

    Args:
        count: charts to show.
        width: cells of the grid.
        height: rows of the grid.

    Returns:
        (columns, rows), each at least 1. If their product is below ``count``, the rest needs further pages.
    """
    most_columns = max(1, min(MOST_COLUMNS, width // MIN_WIDTH))
    most_rows = max(1, height // MIN_HEIGHT)
    comfortable_rows = max(1, min(most_rows, height // TALL_ENOUGH)) if height >= 2 * MIN_HEIGHT else 1
    comfortable_rows = max(comfortable_rows, min(2, most_rows))
    best, best_score = (1, 1), (-1, -1e9)
    for columns in range(1, most_columns + 1):
        for rows in range(1, min(comfortable_rows, MOST_CHARTS // columns) + 1):
            shown = min(count, columns * rows)
            empty = columns * rows - shown
            shape = -abs((width / columns) / (height / rows) - 5.0)
            score = (shown, shape - 4 * empty)
            if score > best_score:
                best, best_score = (columns, rows), score
    return best


class ChartGrid(Grid):
    """A page of charts, laid out for its size; charts of other pages are hidden and not drawn.

    Args:
        charts: the charts of all pages, in order.
        id: the ID of the widget in the DOM.

    Attributes:
        charts: the charts of all pages.
        page: the page shown, from 0.
        title_filter: the filter on titles; empty for none.
        enlarged: the chart that fills the grid, if any.
    """

    DEFAULT_CSS = """
    ChartGrid { grid-gutter: 0 2; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "page(1)", "more charts", id="grid.next-page", show=False),
        Binding("pageup", "page(-1)", "charts before", id="grid.previous-page", show=False),
        Binding("down,j", "move(1)", "next chart", id="grid.next", show=False),
        Binding("up,k", "move(-1)", "chart before", id="grid.previous", show=False),
    ]

    class PageChanged(Message):
        """Posted when the page or the number of pages changes.

        Attributes:
            page: the page shown, from 0.
            pages: how many there are.
        """

        def __init__(self, page: int, pages: int) -> None:
            super().__init__()
            self.page = page
            self.pages = pages

    class Enlarged(Message):
        """Posted when a chart is enlarged or put back.

        Attributes:
            chart: the chart that fills the grid, or None.
        """

        def __init__(self, chart: LineChart | None) -> None:
            super().__init__()
            self.chart = chart

    def __init__(self, charts: Iterable[LineChart] = (), *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.charts = list(charts)
        self.page = 0
        self.title_filter = ""
        self.enlarged: LineChart | None = None

    def add_charts(self, charts: Sequence[LineChart]) -> None:
        """Add charts at the end of the pages."""
        self.charts.extend(charts)
        self.arrange_page()

    def replace_charts(self, charts: Sequence[LineChart]) -> None:
        """Show other charts; those that were there before keep their state, and those left out are removed."""
        gone = [chart for chart in self.charts if chart not in charts]
        had_focus = self.app.focused in gone
        self.charts = list(charts)
        if self.enlarged in gone:
            self.enlarged = None
        self.remove_children([chart for chart in gone if chart.is_attached])
        self.arrange_page()
        self._sort()
        shown = [chart for chart in self.charts if chart.display and chart.is_attached]
        if had_focus and shown:
            shown[0].focus()

    def _sort(self) -> None:
        places = {id(chart): place for place, chart in enumerate(self.charts)}
        self.sort_children(key=lambda child: places.get(id(child), -1))

    @property
    def matching(self) -> list[LineChart]:
        """The charts that match the filter, in order."""
        query = self.title_filter.lower()
        return [chart for chart in self.charts if query in chart.plot_style.title.lower()]

    def filter(self, query: str) -> None:
        """Show only charts whose title contains a text, ignoring case; an empty one shows all."""
        self.title_filter, self.page = query, 0
        self.arrange_page()

    @property
    def per_page(self) -> int:
        """Charts on one page."""
        columns, rows = arrangement(max(len(self.matching), 1), self.size.width, self.size.height)
        return columns * rows

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(-(-len(self.matching) // self.per_page), 1)

    def arrange_page(self) -> None:
        """Show the charts of this page, hide the others, and lay them out.

        A chart is mounted when it is first shown: styling all at once took a quarter of the time to open a run.
        """
        width, height = self.size
        if not (width and height):
            return
        self.page = min(self.page, self.pages - 1)
        if self.enlarged is not None:
            shown, columns, rows = [self.enlarged], 1, 1
        else:
            matching = self.matching
            columns, rows = arrangement(max(len(matching), 1), width, height)
            shown = matching[self.page * columns * rows :][: columns * rows]
        self.styles.grid_size_columns = columns
        self.styles.grid_size_rows = rows
        focused = self.app.focused
        for chart in self.charts:
            chart.display = chart in shown
        if new := [chart for chart in shown if not chart.is_attached]:
            self.mount_all(new)
            self._sort()
        if isinstance(focused, LineChart) and focused in self.charts and focused not in shown and shown:
            shown[0].focus()
        self.post_message(self.PageChanged(self.page, self.pages))

    def redraw(self) -> None:
        """Redraw the charts in view."""
        for chart in self.charts:
            if chart.display:
                chart.redraw()

    def on_resize(self, event: events.Resize) -> None:
        """Lay the page out for the new size."""
        self.arrange_page()

    def on_mount(self) -> None:
        """Lay out the first page."""
        self.arrange_page()

    def on_line_chart_enlarge(self, message: LineChart.Enlarge) -> None:
        """Enlarge the chart, or put it back."""
        message.stop()
        self.enlarge(None if self.enlarged is message.chart else message.chart)

    def enlarge(self, chart: LineChart | None) -> None:
        """Show one chart alone; None shows the page again."""
        self.enlarged = chart
        self.arrange_page()
        self.post_message(self.Enlarged(chart))

    def action_page(self, by: int) -> None:
        """Go some pages on or back."""
        self.page = min(max(self.page + by, 0), self.pages - 1)
        self.arrange_page()

    def action_move(self, by: int) -> None:
        """Focus the next chart or the one before, on the next page where necessary."""
        matching = self.matching
        focused = self.app.focused
        if self.enlarged is not None or not matching:
            return
        index = matching.index(focused) + by if isinstance(focused, LineChart) and focused in matching else 0
        index = min(max(index, 0), len(matching) - 1)
        page = index // self.per_page
        if page != self.page:
            self.page = page
            self.arrange_page()
        matching[index].focus()


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
