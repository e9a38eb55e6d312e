"""Monitor: one run while it trains or afterwards, of dpo-tui or of another trainer.

What was read of the run arrives as `FeedRead` messages. The screen merges it into the feed's series;
`dpo_tui.widgets.chart_grid` makes a chart for each metric and gives it its lines, and is redrawn at most twice a
second. Next: `dpo_tui.widgets.chart`, one chart of the grid.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Input

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import OVER
from dpo_tui.screens.document_pane import DocumentPane
from dpo_tui.screens.feed_reader import FeedRead, FeedReader, read_feeds
from dpo_tui.views.chart_registry import lines_for
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.monitor_text import config_text, events_text, fraction, header, receipt_text, samples_text
from dpo_tui.views.run_diagnosis import ThrottledDiagnosis
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart_grid import ChartGrid, MetricChartGrid
from dpo_tui.widgets.ended_run_actions import EndedRunScreen, NextSteps
from dpo_tui.widgets.gpu_panel import GpuPanel
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.log_view import LogView
from dpo_tui.widgets.step_bar import StepBar
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

POLL_SECONDS = 0.25
"""Seconds between two polls of the run's files, which compare their modification times."""
ENDED_POLL_SECONDS = 1.0
"""The same after the run has ended: only resuming it would change the files."""
REDRAW_SECONDS = 0.5
"""Least seconds between two redraws: more than two a second only fill a slow line."""
AGE_SECONDS = 10.0
"""Seconds between redraws of a run of which nothing new is read: how long ago it ended changes all the same."""
GPU_POLL_SECONDS = 2.0
SHORT_HEIGHT = 30
"""Rows below which a terminal counts as short."""
GPU_ROWS = 3
"""Rows of the GPU panel on a short terminal; on a taller one it gets a quarter of the height."""
VIEWS = ("Charts", "Samples", "Events", "Log", "Settings", "Receipt")


class MonitorScreen(EndedRunScreen):
    """Header, advice line, charts and documents of one run.

    Posts `EditConfig`, `OverlayWanted`, `RunEnded` and `FullScreen.Leave`, which the app handles. Its reading threads
    post `FeedRead` to it.

    Args:
        feed: the run or folder to show; nobody else may read it.
        gpus: the GPUs of this machine.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "The line under the bar says in words how it is going. Charts: j and k or tab go from one to the next, page "
        "keys turn the page, enter enlarges, ←/→ reads values, + and − zoom, y is logarithmic, m smooths.\n\n"
        "t goes to samples, events, log, settings and receipt. s stops with a checkpoint; the run goes on when you "
        "leave. e opens the run's settings in New, to change them and start another run; a does so with the changes "
        "made that the advice line names. R renames the run. Once it is over a row says what comes next: 4 judges its "
        "answers, E exports it (merged or not), C trains on from its model in New."
    )
    GUIDE_PAGE = "curves"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "apply", "apply advice", id="monitor.apply"),
        Binding("t", "view(1)", "views", id="monitor.next-view"),
        Binding("T", "view(-1)", "view before", id="monitor.previous-view", show=False),
        Binding("slash", "filter", "filter", id="monitor.filter"),
        Binding("o", "overlay", "overlay", id="monitor.overlay"),
        Binding("escape", "back", "runs", id="monitor.back"),
    ]

    class OverlayWanted(Message):
        """Posted when the user wants other runs drawn over this one; the app asks which and calls `overlay`.

        Attributes:
            chosen: ids of the runs that are drawn over it now.
        """

        def __init__(self, chosen: list[str]) -> None:
            super().__init__()
            self.chosen = chosen

    class RunEnded(Message):
        """Posted when the run ends while it is shown.

        Attributes:
            title: the run's name.
            status: ``done``, ``failed`` or ``stalled``.
        """

        def __init__(self, title: str, status: str) -> None:
            super().__init__()
            self.title = title
            self.status = status

    def __init__(self, feed: Feed, gpus: GpuWatch) -> None:
        super().__init__()
        self._feed = feed
        self._reader = FeedReader(feed)
        self._gpus = gpus
        self._diagnosis = ThrottledDiagnosis(feed)
        self._diagnosing = False
        self._overlays: list[FeedReader[RunFeed]] = []
        self._drawn_at = 0.0
        self._redraw_timer: Timer | None = None
        self._poll_timer: tuple[float, Timer] | None = None
        """The interval in seconds, and the timer."""
        self._last_status = ""

    def compose(self) -> ComposeResult:
        """Header, advice, the views of the run, GPUs and keys, from top to bottom."""
        run = self._run_folder
        samples, config, receipt = (run.samples, run.config, run.receipt) if run is not None else (None, None, None)
        yield TitleRow(id="header")
        yield StepBar(id="bar")
        yield AdviceLine(id="advice")
        yield NextSteps(id="next")
        with ContentSwitcher(initial="Charts", id="views"):
            yield MetricChartGrid(id="Charts")
            yield DocumentPane(samples, samples_text, id="Samples")
            yield TextPane(follow=True, id="Events")
            yield LogView(self._feed.log, id="Log")
            yield DocumentPane(config, config_text, id="Settings")
            yield DocumentPane(receipt, receipt_text, id="Receipt")
        yield LineInput(placeholder="show charts whose name contains …", id="filter")
        yield GpuPanel(id="gpus")
        yield TabStrip(VIEWS, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Draw what is known, and start polling."""
        self.query_one("#advice", AdviceLine).remedy_key = "a" if self._run_folder is not None else ""
        self._update_charts()
        self._poll_every(POLL_SECONDS)
        self.set_interval(GPU_POLL_SECONDS, self._show_gpus)
        self.set_interval(AGE_SECONDS, self._request_redraw)
        self._poll()
        self._show_gpus()

    def on_resize(self, event: events.Resize) -> None:
        """Drop margins and shorten the GPU panel on a short terminal."""
        short = event.size.height < SHORT_HEIGHT
        self.set_class(short, "-short")
        self.query_one(GpuPanel).make_room(GPU_ROWS if short else event.size.height // 4)

    def on_screen_resume(self) -> None:
        """Draw what was read while another screen was in front."""
        self.call_after_refresh(self._show)

    @property
    def _run_folder(self) -> RunFolder | None:
        """The run's folder; None for a folder of another trainer."""
        return self._feed.folder if isinstance(self._feed, RunFeed) else None

    @property
    def _status(self) -> str:
        return str(self._feed.about.get("status", ""))

    def current_run(self) -> tuple[RunFolder, str, str] | None:
        """The run shown: its folder, name and status; None for a folder of another trainer."""
        return None if self._run_folder is None else (self._run_folder, self._feed.title, self._status)

    def _poll_every(self, seconds: float) -> None:
        if self._poll_timer is not None:
            if self._poll_timer[0] == seconds:
                return
            self._poll_timer[1].stop()
        self._poll_timer = (seconds, self.set_interval(seconds, self._poll))

    def _poll(self) -> None:
        if not self.is_front:
            return
        read_feeds(self, self._readers)
        if not self._diagnosing and self._diagnosis.due(time.time()):
            self._diagnosing = True
            self._diagnose()
        if self.query_one("#tabs", TabStrip).open == "Log":
            self.query_one(LogView).pane.poll()

    @property
    def _readers(self) -> list[FeedReader[Any]]:
        return [self._reader, *self._overlays]

    @property
    def _overlaid(self) -> list[RunFeed]:
        return [reader.feed for reader in self._overlays]

    def on_feed_read(self, message: FeedRead) -> None:
        """Merge what was read, and read on while history is left; a run that is no longer drawn causes no redraw."""
        message.stop()
        readers = self._readers
        if message.reader.take(message.change) and message.reader in readers:
            self._request_redraw()
        if any(reader.feed.catching_up for reader in readers):
            read_feeds(self, readers)

    @work(thread=True, exclusive=True, group="diagnosis", exit_on_error=False)
    def _diagnose(self) -> None:
        try:
            if self._diagnosis.update(time.time()) and self.is_attached:
                self.app.call_from_thread(self._request_redraw)
        finally:
            self._diagnosing = False

    def _request_redraw(self) -> None:
        """Draw now, or `REDRAW_SECONDS` after the last redraw; requests in between become one."""
        wait = REDRAW_SECONDS - (time.monotonic() - self._drawn_at)
        if wait <= 0:
            self._show()
        elif self._redraw_timer is None:
            self._redraw_timer = self.set_timer(wait, self._show)

    def _show(self) -> None:
        self._redraw_timer = None
        if not (self.is_attached and self.is_front):
            return
        feed = self._feed
        # An empty screen does not count as drawn, so that the first values appear without waiting.
        self._drawn_at = time.monotonic() if feed.latest else 0.0
        parts = header(feed)
        if self._overlays:
            parts.insert(1, [("over ", "muted"), (", ".join(other.title for other in self._overlaid), "accent")])
        self.query_one("#header", TitleRow).show(parts)
        self.query_one("#bar", StepBar).show(fraction(feed.about), parts)
        advice = advice_sentence(feed, self._diagnosis.advice)
        line = self.query_one("#advice", AdviceLine)
        remedy_changed = bool(advice.remedy) != bool(line.advice.remedy)
        line.show(advice)
        self.query_one(NextSteps).show(feed.about)
        self._update_charts()
        grid, ended = self.query_one(ChartGrid), self._all_ended()
        for chart in grid.charts:
            chart.set_complete(ended)
        grid.redraw()
        self._show_document()
        self._poll_every(ENDED_POLL_SECONDS if ended else POLL_SECONDS)
        before, self._last_status = self._last_status, self._status
        if before in ("running", "starting", "stopping") and self._status in ("done", "failed", "stalled"):
            self.post_message(self.RunEnded(feed.title, self._status))
        if remedy_changed or before != self._status:
            self.refresh_bindings()

    def _all_ended(self) -> bool:
        """Whether every run that is drawn has ended."""
        return all(feed.about.get("status") in OVER for feed in (self._feed, *self._overlaid))

    def _update_charts(self) -> None:
        grid = self.query_one(MetricChartGrid)
        overlaid = [(feed.title, feed.series) for feed in self._overlaid]
        first = grid.update_charts(
            self._feed.series,
            lambda entry: lines_for(entry, self._feed.series, overlaid),
            expected=self._run_folder is not None,
        )
        if first and grid.page == 0:
            grid.charts[0].focus()

    def _show_document(self) -> None:
        """Bring the text of the open view up to date."""
        view = self.query_one("#tabs", TabStrip).open
        if view == "Events":
            self.query_one("#Events", TextPane).show(events_text(self._feed.events))
        elif view in ("Samples", "Settings", "Receipt"):
            self.query_one(f"#{view}", DocumentPane).poll()

    def _show_gpus(self) -> None:
        if self.is_front:
            histories = self._gpus.now()
            self.query_one(GpuPanel).show(histories, absence=self._gpus.absence)

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
        self._show_document()
        selector = {"Charts": ".-chart-focus, LineChart", "Log": "LogPane"}.get(name, f"#{name}")
        focusable = [widget for widget in self.query(selector) if widget.focusable]
        if focusable:
            focusable[0].focus()

    def action_filter(self) -> None:
        """Open the field that filters charts by name."""
        if self.query_one("#tabs", TabStrip).open != "Charts":
            self._open_view("Charts")
        field = self.query_one("#filter", Input)
        field.add_class("-open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, message: Input.Changed) -> None:
        message.stop()
        self.query_one(ChartGrid).filter(message.value.strip())

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self._close_filter()

    def _close_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.remove_class("-open")
        shown = [chart for chart in self.query_one(ChartGrid).charts if chart.display]
        if shown:
            shown[0].focus()

    def action_overlay(self) -> None:
        """Ask the app for runs to draw over this one."""
        self.post_message(self.OverlayWanted([feed.folder.id for feed in self._overlaid]))

    def overlay(self, folders: list[RunFolder]) -> None:
        """Draw runs over the one shown.

        Args:
            folders: the runs, in place of those drawn over it before; an empty list removes all.
        """
        readers = {reader.feed.folder.id: reader for reader in self._overlays}
        self._overlays = [readers.get(folder.id) or FeedReader(RunFeed(folder)) for folder in folders]
        read_feeds(self, self._readers)
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable "apply advice" only while the advice shown names settings to change."""
        if action == "apply":
            return self.is_mounted and bool(self._remedy())
        return super().check_action(action, parameters)

    def _remedy(self) -> Mapping[str, Any]:
        """The settings that the advice shown would change; empty when it names none."""
        shown = self.query_one("#advice", AdviceLine).advice.remedy
        found = self._diagnosis.advice
        return found[0].remedy if shown and found and self._run_folder is not None else {}

    def action_apply(self) -> None:
        """Open the run's settings in New, changed as the advice says."""
        if self._run_folder is not None and (changes := self._remedy()):
            self.post_message(self.EditConfig(self._run_folder.config, changes))

    def action_back(self) -> None:
        """Close one thing: the filter field, an enlarged chart, the filter, another view than Charts, or the screen."""
        grid = self.query_one(ChartGrid)
        field = self.query_one("#filter", Input)
        if field.has_class("-open"):
            field.value = ""
            self._close_filter()
        elif grid.enlarged is not None:
            grid.enlarge(None)
        elif grid.title_filter:
            grid.filter("")
            field.value = ""
        elif self.query_one("#tabs", TabStrip).open != "Charts":
            self._open_view("Charts")
        else:
            self.post_message(self.Leave())
