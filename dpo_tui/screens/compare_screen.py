"""Compare: several runs in the same charts, the settings that differ beside the results, and their last values."""

import time
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.runs.comparison import RunComparison, compare
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.feed_reader import FeedRead, FeedReader, read_feeds
from dpo_tui.text.printable import printable
from dpo_tui.themes.themed_app import has_few_colours
from dpo_tui.views.chart_registry import ChartEntry
from dpo_tui.views.comparison_table import comparison_page, latest_rows, table
from dpo_tui.views.plot import COLOURS, SAMPLES, PlotLine
from dpo_tui.views.ranking_table import ranking_page
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.chart_grid import ChartGrid, MetricChartGrid
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

POLL_SECONDS = 0.5
NAME_WIDTH = 20
"""Cells of a run's name in the legend and the tables."""
COMPARE_SECONDS = 2.0
"""Least seconds between two readings of the comparison, while runs that go on change it."""
VIEWS = ("Charts", "Comparison", "Latest")
RANKING = "Ranking"
"""The first view of a group."""


class CompareScreen(FullScreen):
    """Charts, comparison and latest values of two runs or more.

    Posts `FullScreen.Leave`, which the app handles. Its reading thread posts `FeedRead` to it.

    Args:
        folders: the runs; a run's place in the list decides its colour in every chart.
        group: the group whose runs these are, which adds their ranking; None for runs that the user chose.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Each run keeps its colour in every chart. t goes to the settings that differ with the results, the best of "
        "each marked and chance named, and to the last value of every metric."
    )
    GUIDE_PAGE = "curves"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "view(1)", "views", id="compare.next-view"),
        Binding("T", "view(-1)", "view before", id="compare.previous-view", show=False),
        Binding("escape", "back", "runs", id="compare.back"),
    ]

    def __init__(self, folders: list[RunFolder], group: GroupFolder | None = None) -> None:
        super().__init__()
        self._group = group
        self._ranking: list[Paragraph] = []
        self._feeds = [RunFeed(folder) for folder in folders]
        self._readers = [FeedReader(feed) for feed in self._feeds]
        self._comparison: RunComparison | None = None
        """None until it is read."""
        self._comparing = False
        self._comparison_due = True
        """Whether something was read of a run since the comparison was."""
        self._compared_at = -COMPARE_SECONDS
        self._redraw_due = False

    def compose(self) -> ComposeResult:
        """Legend, views and keys, from top to bottom."""
        yield TitleRow("Compare", id="legend")
        views = VIEWS if self._group is None else (RANKING, *VIEWS)
        with ContentSwitcher(initial=views[0], id="views"):
            if self._group is not None:
                yield TextPane(id=RANKING)
            yield MetricChartGrid(id="Charts")
            yield TextPane(id="Comparison")
            yield TextPane(id="Latest")
        yield TabStrip(views, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Start reading the runs."""
        self._compare_again()
        self.set_interval(POLL_SECONDS, self._poll)
        self._poll()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the tables to the width."""
        self.call_after_refresh(self._show_tables)

    def on_screen_resume(self) -> None:
        """Draw what was read while another screen was in front."""
        self.call_after_refresh(self._show)

    def _poll(self) -> None:
        if self.is_front:
            read_feeds(self, self._readers)
            if self._comparison_due:
                self._compare_again()

    def _compare_again(self) -> None:
        """Read the comparison, unless that is being done or was done a moment ago; the next change then does it."""
        if not self._comparing and time.monotonic() - self._compared_at >= COMPARE_SECONDS:
            self._comparing, self._comparison_due = True, False
            self._read_comparison()

    @work(thread=True, group="comparison", exit_on_error=False)
    def _read_comparison(self) -> None:
        try:
            comparison = compare([feed.folder for feed in self._feeds])
            if self._group is not None:
                self._ranking = ranking_page(self._group, self.size.width - 4)
        finally:
            self._comparing, self._compared_at = False, time.monotonic()
        self.app.call_from_thread(self._comparison_read, comparison)

    def _comparison_read(self, comparison: RunComparison) -> None:
        self._comparison = comparison
        self.draw_when_front(self._show_tables)

    def on_feed_read(self, message: FeedRead) -> None:
        """Merge what was read of one run; draw once all have been read, and read on while history is left."""
        message.stop()
        self._redraw_due = message.reader.take(message.change) or self._redraw_due
        if any(reader.busy for reader in self._readers):
            return
        if self._redraw_due:
            self._redraw_due = False
            self._comparison_due = True
            self._show()
        if any(feed.catching_up for feed in self._feeds):
            read_feeds(self, self._readers)

    def _names(self) -> list[str]:
        """A short name for each run; runs of the same name get the end of their id."""
        names = [printable(feed.title, single_line=True)[:NAME_WIDTH] for feed in self._feeds]
        return [
            name if names.count(name) == 1 else f"{name} {feed.folder.id[-4:]}"
            for name, feed in zip(names, self._feeds, strict=True)
        ]

    def _show(self) -> None:
        if not self.is_front:
            return
        names = self._names()
        samples = SAMPLES if has_few_colours(self.app) else ("━━",) * COLOURS
        self.query_one("#legend", TitleRow).show(
            [[("Compare", "title")]]
            + [
                [(f"{samples[index % COLOURS]} ", f"line-{index % COLOURS + 1}"), (name, "value")]
                for index, name in enumerate(names)
            ]
        )
        runs = [(name, feed.series) for name, feed in zip(names, self._feeds, strict=True)]

        def lines_of(entry: ChartEntry) -> list[PlotLine]:
            metric = entry.metrics[0][0]
            return [
                PlotLine(name, series[metric], index % COLOURS + 1)
                for index, (name, series) in enumerate(runs)
                if metric in series
            ]

        grid = self.query_one(MetricChartGrid)
        grid.update_charts({metric for _, series in runs for metric in series}, lines_of)
        grid.redraw()
        if self.focused is None and self._group is not None:
            self.query_one(f"#{RANKING}").focus()
        elif self.focused is None and grid.charts:
            grid.charts[0].focus()
        self._show_tables()

    def _show_tables(self) -> None:
        names = self._names()
        width = max(self.size.width - 4, 20)
        if self._comparison is not None:
            self.query_one("#Comparison", TextPane).show(comparison_page(self._comparison, names, width))
        if self._group is not None:
            self.query_one(f"#{RANKING}", TextPane).show(self._ranking)
        lines = table(names, latest_rows(self._feeds), width)
        self.query_one("#Latest", TextPane).show([(line, "code") for line in lines])

    def action_view(self, by: int) -> None:
        """Open the view ``by`` places further in the tab strip."""
        self._open_view(self.query_one("#tabs", TabStrip).step(by))

    @on(TabStrip.Picked)
    def _tab_picked(self, message: TabStrip.Picked) -> None:
        message.stop()
        self._open_view(message.name)

    def _open_view(self, name: str) -> None:
        self.query_one("#tabs", TabStrip).pick(name)
        self.query_one("#views", ContentSwitcher).current = name
        selector = "LineChart" if name == "Charts" else f"#{name}"
        focusable = [widget for widget in self.query(selector) if widget.focusable]
        if focusable:
            focusable[0].focus()

    def action_back(self) -> None:
        """Shrink an enlarged chart, or leave."""
        grid = self.query_one(ChartGrid)
        if grid.enlarged is not None:
            grid.enlarge(None)
        else:
            self.post_message(self.Leave())
