"""Charts on pages: as many as stay legible, the important ones first; one of them can fill the screen."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.message import Message

from dpo_tui.widgets.chart import MIN_HEIGHT, MIN_WIDTH, LineChart

MOST_COLUMNS = 4
MOST_CHARTS = 8
"""On one page: more are a wall of lines, and each costs bytes with every new point."""
TALL_ENOUGH = 12
"""Rows from which a chart gains more from company than from height."""


def arrangement(count: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows for ``count`` charts: all of them if legible, in cells about five times wider than high.

    Returns:
        (columns, rows), each at least 1; their product may be below ``count``: the rest goes on further pages.
    """
    most_columns = max(1, min(MOST_COLUMNS, width // MIN_WIDTH))
    most_rows = max(1, height // MIN_HEIGHT)
    comfortable_rows = max(1, min(most_rows, height // TALL_ENOUGH)) if height >= 2 * MIN_HEIGHT else 1
    comfortable_rows = max(comfortable_rows, min(2, most_rows))
    best, best_score = (1, 1), (-1, -1e9)
    for columns in range(1, most_columns + 1):
        for rows in range(1, min(comfortable_rows, MOST_CHARTS // columns) + 1):
            shown = min(count, columns * rows)
            wasted = columns * rows - shown
            shape = -abs((width / columns) / (height / rows) - 5.0)
            score = (shown, shape - 4 * wasted)
            if score > best_score:
                best, best_score = (columns, rows), score
    return best


class ChartGrid(Grid):
    """A page of charts, laid out for the space there is; charts on other pages are hidden and never drawn."""

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
        """Another page of charts is in view."""

        def __init__(self, page: int, pages: int) -> None:
            super().__init__()
            self.page = page
            self.pages = pages

    class Enlarged(Message):
        """A chart fills the grid now, or (None) all of them are back."""

        def __init__(self, chart: LineChart | None) -> None:
            super().__init__()
            self.chart = chart

    def __init__(self, charts: Iterable[LineChart] = (), *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.charts = list(charts)
        self.page = 0
        self.words = ""
        self.enlarged: LineChart | None = None

    def add_charts(self, charts: Sequence[LineChart]) -> None:
        """Add charts at the end of the pages."""
        self.charts.extend(charts)
        self.arrange_page()

    @property
    def matching(self) -> list[LineChart]:
        """The charts that the filter leaves, in order."""
        words = self.words.lower()
        return [chart for chart in self.charts if words in chart.look.title.lower()]

    def filter(self, words: str) -> None:
        """Leave only charts whose title contains some words; empty shows all."""
        self.words, self.page = words, 0
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
        """Show the charts of this page, hide the others, and share the space between them.

        A chart is mounted when it is first shown: styling all of them would be a quarter of opening a run.
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
        if fresh := [chart for chart in shown if not chart.is_attached]:
            self.mount_all(fresh)
            self.sort_children(key=lambda child: self.charts.index(child) if isinstance(child, LineChart) else -1)
        if isinstance(focused, LineChart) and focused in self.charts and focused not in shown and shown:
            shown[0].focus()
        self.post_message(self.PageChanged(self.page, self.pages))

    def redraw(self) -> None:
        """Draw what changed on the charts in view."""
        for chart in self.charts:
            if chart.display:
                chart.redraw()

    def on_resize(self, event: events.Resize) -> None:
        """Share the new space."""
        self.arrange_page()

    def on_mount(self) -> None:
        """Lay out the first page."""
        self.arrange_page()

    def on_line_chart_enlarge(self, message: LineChart.Enlarge) -> None:
        """Let one chart fill the grid, or put it back."""
        message.stop()
        self.enlarge(None if self.enlarged is message.chart else message.chart)

    def enlarge(self, chart: LineChart | None) -> None:
        """Show one chart alone; None shows all again."""
        self.enlarged = chart
        self.arrange_page()
        self.post_message(self.Enlarged(chart))

    def action_page(self, by: int) -> None:
        """Turn the page."""
        self.page = min(max(self.page + by, 0), self.pages - 1)
        self.arrange_page()

    def action_move(self, by: int) -> None:
        """Give the focus to the next chart, turning the page at its end."""
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
