"""Compare: chosen runs over each other in charts, what differs in their settings, and how they ended."""

from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import ContentSwitcher

from dpo_tui.views.comparison_table import differing, results, table
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.feed_reader import FeedReader
from dpo_tui.text.printable import printable
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.screens.feed_reading import FeedRead, read_feeds
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.chart import LineChart
from dpo_tui.views.chart_registry import ChartEntry, charts_for
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.views.plot import COLOURS, PlotLine
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

POLL = 0.5
VIEWS = ("Charts", "Settings", "Results")


class CompareScreen(FullScreen):
    """Two runs or more.

    Args:
        folders: the runs; their order gives them their colours, and that never changes.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = "Each run keeps its colour in every chart. t goes to the settings that differ, and to the last values."
    GUIDE_PAGE = "curves"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "view(1)", "views", id="compare.next-view"),
        Binding("T", "view(-1)", "view before", id="compare.previous-view", show=False),
        Binding("escape", "back", "runs", id="compare.back"),
    ]

    def __init__(self, folders: list[RunFolder]) -> None:
        super().__init__()
        self._feeds = [RunFeed(folder) for folder in folders]
        self._readers = [FeedReader(feed) for feed in self._feeds]
        self._entries: list[ChartEntry] = []
        self._changed = False

    def compose(self) -> ComposeResult:
        """Legend, views, keys."""
        yield TitleRow("Compare", id="legend")
        with ContentSwitcher(initial="Charts", id="views"):
            yield ChartGrid(id="Charts")
            yield TextPane(id="Settings")
            yield TextPane(id="Results")
        yield TabStrip(VIEWS, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Read the runs, and go on reading those that live."""
        self.set_interval(POLL, self._tick)
        self._tick()

    def on_resize(self, event: events.Resize) -> None:
        """Tables fit the width."""
        self.call_after_refresh(self._show_tables)

    def on_screen_resume(self) -> None:
        """Show what came while another screen was in front."""
        self.call_after_refresh(self._show)

    def _tick(self) -> None:
        if self.is_front:
            read_feeds(self, self._readers)

    def on_feed_read(self, message: FeedRead) -> None:
        """Take what was read of one run; draw once all have been read, and go on while history is left."""
        message.stop()
        self._changed = message.reader.take(message.change) or self._changed
        if any(reader.busy for reader in self._readers):
            return
        if self._changed:
            self._changed = False
            self._show()
        if any(feed.catching_up for feed in self._feeds):
            read_feeds(self, self._readers)

    def _names(self) -> list[str]:
        names = [printable(feed.title, single_line=True)[:20] for feed in self._feeds]
        return [
            name if names.count(name) == 1 else f"{name} {feed.folder.id[-4:]}" for name, feed in self._named(names)
        ]

    def _named(self, names: list[str]) -> list[tuple[str, RunFeed]]:
        return list(zip(names, self._feeds, strict=True))

    def _show(self) -> None:
        if not self.is_front:
            return
        names = self._names()
        self.query_one("#legend", TitleRow).show(
            [[("Compare", "title")]]
            + [[("━━ ", f"line-{index % COLOURS + 1}"), (name, "value")] for index, name in enumerate(names)]
        )
        grid = self.query_one(ChartGrid)
        known = {entry.metrics for entry in self._entries}
        present = {name for feed in self._feeds for name in feed.series}
        fresh = [entry for entry in charts_for(present) if entry.metrics not in known]
        if fresh:
            self._entries += fresh
            grid.add_charts([LineChart(entry.style, log=entry.log) for entry in fresh])
        for entry, chart in zip(self._entries, grid.charts, strict=True):
            metric = entry.metrics[0][0]
            lines = [
                PlotLine(name, feed.series[metric], index % COLOURS + 1)
                for index, (name, feed) in enumerate(self._named(names))
                if metric in feed.series
            ]
            if [line.series for line in lines] != chart.sources:
                chart.set_lines(lines)
        grid.redraw()
        if self.focused is None and grid.charts:
            grid.charts[0].focus()
        self._show_tables()

    def _show_tables(self) -> None:
        names = self._names()
        width = max(self.size.width - 4, 20)
        differences = differing([read_settings(feed.folder.config) for feed in self._feeds])
        same = [("Their settings are the same.", "muted")]
        lines = [(line, "code") for line in table(names, differences, width)] if differences else same
        self.query_one("#Settings", TextPane).show(lines)
        self.query_one("#Results", TextPane).show(
            [(line, "code") for line in table(names, results(self._feeds), width)]
        )

    def action_view(self, by: int) -> None:
        """Open the next view."""
        self._open(self.query_one("#tabs", TabStrip).step(by))

    @on(TabStrip.Picked)
    def _pick(self, message: TabStrip.Picked) -> None:
        message.stop()
        self._open(message.name)

    def _open(self, name: str) -> None:
        self.query_one("#tabs", TabStrip).pick(name)
        self.query_one("#views", ContentSwitcher).current = name
        found = [widget for widget in self.query("LineChart" if name == "Charts" else f"#{name}") if widget.focusable]
        if found:
            found[0].focus()

    def action_back(self) -> None:
        """Put an enlarged chart back, or leave."""
        grid = self.query_one(ChartGrid)
        if grid.enlarged is not None:
            grid.enlarge(None)
        else:
            self.post_message(self.Leave())
