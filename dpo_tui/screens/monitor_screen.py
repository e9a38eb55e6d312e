"""The screen people live in: one run, live or finished, ours or another trainer's."""

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

from dpo_tui.views.run_diagnosis import ThrottledDiagnosis
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.views.feed_reader import FeedReader
from dpo_tui.runs.statuses import OVER
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.monitor_text import config_text, events_text, fraction, header, receipt_text, samples_text
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.feed_reading import FeedRead, read_feeds
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.views.chart_registry import ChartEntry, charts_for, lines_for
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.gpu_panel import GpuPanel
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.log_view import LogView
from dpo_tui.widgets.step_bar import StepBar
from dpo_tui.widgets.run_actions import RunActionsScreen
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

LOOK = 0.25
"""Seconds between two looks at the files' times."""
LOOK_BACK = 1.0
"""The same when the run has ended: only its being resumed would bring news."""
REDRAW = 0.5
"""Seconds between two redraws at least: over a slow line two a second is the most that helps."""
SHORT = 30
GPU_ROWS = 3
"""Rows that GPUs may take on a short terminal; a quarter of a taller one."""
VIEWS = ("Charts", "Samples", "Events", "Log", "Settings", "Receipt")


class MonitorScreen(RunActionsScreen):
    """Header, advice, charts and papers of one run.

    Args:
        feed: what to show.
        gpus: this machine's GPUs.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "The line under the bar says in words how it is going. Charts: j and k or tab go from one to the next, page "
        "keys turn the page, enter enlarges, ←/→ reads values, + and − zoom, y is logarithmic, m smooths.\n\n"
        "t goes to samples, events, log, settings and receipt. s stops with a checkpoint; the run goes on when you "
        "leave. e opens the run's settings in New, to change them and start another run; a does so with the changes "
        "made that the advice line names. R renames the run; 4 judges its answers, once it has a result."
    )
    GUIDE_PAGE = "curves"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "apply", "apply advice", id="monitor.apply"),
        Binding("t", "view(1)", "views", id="monitor.next-view"),
        Binding("T", "view(-1)", "view before", id="monitor.previous-view", show=False),
        Binding("slash", "filter", "filter", id="monitor.filter"),
        Binding("o", "overlay", "overlay", id="monitor.overlay"),
        Binding("e", "edit", "edit & restart", id="monitor.edit", show=False),
        Binding("escape", "back", "runs", id="monitor.back"),
    ]

    class EditConfig(Message):
        """The run's settings are to be changed and started anew.

        Attributes:
            config: the run's settings.
            changes: what to change at once; None leaves a setting out.
        """

        def __init__(self, config: Path, changes: Mapping[str, Any]) -> None:
            super().__init__()
            self.config = config
            self.changes = changes

    class OverlayWanted(Message):
        """Other runs are to be drawn over this one; the app asks which and calls `overlay`."""

        def __init__(self, chosen: list[str]) -> None:
            super().__init__()
            self.chosen = chosen

    class RunEnded(Message):
        """The run ended while it was watched."""

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
        self._judging = False
        self._entries: list[ChartEntry] = []
        self._overlays: list[FeedReader[RunFeed]] = []
        self._drawn = 0.0
        self._later: Timer | None = None
        self._clock: tuple[float, Timer] | None = None
        self._samples_seen = -1.0
        self._last_status = ""

    def compose(self) -> ComposeResult:
        """Header over views over GPUs over keys."""
        yield TitleRow(id="header")
        yield StepBar(id="bar")
        yield AdviceLine(id="advice")
        with ContentSwitcher(initial="Charts", id="views"):
            yield ChartGrid(id="Charts")
            yield TextPane(id="Samples")
            yield TextPane(follow=True, id="Events")
            yield LogView(self._feed.log, id="Log")
            yield TextPane(id="Settings")
            yield TextPane(id="Receipt")
        yield LineInput(placeholder="show charts whose name contains …", id="filter")
        yield GpuPanel(id="gpus")
        yield TabStrip(VIEWS, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Draw what is there, and look for more."""
        self.query_one("#advice", AdviceLine).remedy_key = "a" if isinstance(self._feed, RunFeed) else ""
        self._add_charts()
        self._look_every(LOOK)
        self.set_interval(2.0, self._show_gpus)
        self._tick()
        self._show_gpus()

    def on_resize(self, event: events.Resize) -> None:
        """Short terminals keep header, advice and GPU line, and lose the air."""
        self.set_class(event.size.height < SHORT, "-short")
        self.query_one(GpuPanel).make_room(GPU_ROWS if event.size.height < SHORT else event.size.height // 4)

    def on_screen_resume(self) -> None:
        """Show what came while another screen was in front."""
        self.call_after_refresh(self._show)

    def current_run(self) -> tuple[RunFolder, str, str] | None:
        """The run shown, if it is one of ours."""
        if isinstance(self._feed, RunFeed):
            return self._feed.folder, self._feed.title, str(self._feed.about.get("status", ""))
        return None

    def _look_every(self, seconds: float) -> None:
        if self._clock is not None:
            if self._clock[0] == seconds:
                return
            self._clock[1].stop()
        self._clock = (seconds, self.set_interval(seconds, self._tick))

    def _tick(self) -> None:
        if not self.is_front:
            return
        read_feeds(self, self._readers)
        if not self._judging and self._diagnosis.due(time.time()):
            self._judging = True
            self._judge()
        if self.query_one("#tabs", TabStrip).open == "Log":
            self.query_one(LogView).pane.poll()

    @property
    def _readers(self) -> list[FeedReader[Any]]:
        return [self._reader, *self._overlays]

    @property
    def _overlaid(self) -> list[RunFeed]:
        return [reader.feed for reader in self._overlays]

    def on_feed_read(self, message: FeedRead) -> None:
        """Take what was read, and go on while history is left; of a run that is no longer laid over, nothing is drawn."""
        message.stop()
        readers = self._readers
        if message.reader.take(message.change) and message.reader in readers:
            self._arrive()
        if any(reader.feed.catching_up for reader in readers):
            read_feeds(self, readers)

    @work(thread=True, exclusive=True, group="diagnosis", exit_on_error=False)
    def _judge(self) -> None:
        try:
            if self._diagnosis.update(time.time()) and self.is_attached:
                self.app.call_from_thread(self._arrive)
        finally:
            self._judging = False

    def _arrive(self) -> None:
        """Draw now, or as soon as the last redraw is long enough ago."""
        wait = REDRAW - (time.monotonic() - self._drawn)
        if wait <= 0:
            self._show()
        elif self._later is None:
            self._later = self.set_timer(wait, self._show)

    def _show(self) -> None:
        self._later = None
        if not (self.is_attached and self.is_front):
            return
        feed = self._feed
        # The first values are not kept waiting by the empty screen before them.
        self._drawn = time.monotonic() if feed.latest else 0.0
        parts = header(feed)
        if self._overlays:
            parts.insert(1, [("over ", "muted"), (", ".join(other.title for other in self._overlaid), "accent")])
        self.query_one("#header", TitleRow).show(parts)
        self.query_one("#bar", StepBar).show(fraction(feed.about), parts)
        advice = advice_sentence(feed, self._diagnosis.advice)
        line = self.query_one("#advice", AdviceLine)
        news = bool(advice.remedy) != bool(line.advice.remedy)
        line.show(advice)
        self._add_charts()
        grid, over = self.query_one(ChartGrid), self._is_over()
        for chart in grid.charts:
            chart.set_complete(over)
        grid.redraw()
        self._show_documents()
        self._look_every(LOOK_BACK if over else LOOK)
        status = str(feed.about.get("status", ""))
        if status != self._last_status:
            if self._last_status in ("running", "starting", "stopping") and status in ("done", "failed", "stalled"):
                self.post_message(self.RunEnded(feed.title, status))
            self._last_status = status
            news = True
        if news:
            self.refresh_bindings()

    def _is_over(self) -> bool:
        """Whether nothing that is drawn grows any more."""
        return all(feed.about.get("status") in OVER for feed in (self._feed, *self._overlaid))

    def _add_charts(self) -> None:
        grid = self.query_one(ChartGrid)
        others = [(feed.title, feed.series) for feed in self._overlaid]
        known = {entry.metrics for entry in self._entries}
        fresh = [entry for entry in charts_for(self._feed.series) if entry.metrics not in known]
        if fresh:
            self._entries += fresh
            charts = [LineChart(entry.style, log=entry.log) for entry in fresh]
            grid.add_charts(charts)
            if grid.page == 0 and len(self._entries) == len(fresh):
                charts[0].focus()
        for entry, chart in zip(self._entries, grid.charts, strict=True):
            lines = lines_for(entry, self._feed.series, others)
            if [line.series for line in lines] != chart.sources:
                chart.set_lines(lines)

    def _show_documents(self) -> None:
        view = self.query_one("#tabs", TabStrip).open
        if view == "Events":
            self.query_one("#Events", TextPane).show(events_text(self._feed.events))
        folder = self._feed.folder if isinstance(self._feed, RunFeed) else None
        if folder is None:
            return
        if view == "Samples":
            self.query_one("#Samples", TextPane).show(samples_text(folder.samples))
        elif view == "Settings":
            self.query_one("#Settings", TextPane).show(config_text(folder.config))
        elif view == "Receipt":
            self.query_one("#Receipt", TextPane).show(receipt_text(folder.receipt))

    def _show_gpus(self) -> None:
        if self.is_front:
            self.query_one(GpuPanel).show(self._gpus.now(), absence=self._gpus.absence)

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
        self._show_documents()
        target = {"Charts": ".-chart-focus, LineChart", "Log": "LogPane"}.get(name, f"#{name}")
        found = [widget for widget in self.query(target) if widget.focusable]
        if found:
            found[0].focus()

    def action_filter(self) -> None:
        """Type a part of a chart's name."""
        if self.query_one("#tabs", TabStrip).open != "Charts":
            self._open("Charts")
        field = self.query_one("#filter", Input)
        field.add_class("-open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, message: Input.Changed) -> None:
        message.stop()
        self.query_one(ChartGrid).filter(message.value.strip())

    @on(Input.Submitted, "#filter")
    def _filter_done(self, message: Input.Submitted) -> None:
        message.stop()
        self._close_filter()

    def _close_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.remove_class("-open")
        shown = [chart for chart in self.query_one(ChartGrid).charts if chart.display]
        if shown:
            shown[0].focus()

    def action_overlay(self) -> None:
        """Draw other runs over this one."""
        self.post_message(self.OverlayWanted([feed.folder.id for feed in self._overlaid]))

    def overlay(self, folders: list[RunFolder]) -> None:
        """Draw these runs over the one shown; none takes all away."""
        kept = {reader.feed.folder.id: reader for reader in self._overlays}
        self._overlays = [kept.get(folder.id) or FeedReader(RunFeed(folder)) for folder in folders]
        read_feeds(self, self._readers)
        self._show()

    def action_edit(self) -> None:
        """Change the settings and start anew."""
        if isinstance(self._feed, RunFeed):
            self.post_message(self.EditConfig(self._feed.folder.config, {}))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to apply advice only where some is shown that names settings."""
        if action == "apply":
            return self.is_mounted and bool(self._remedy())
        return super().check_action(action, parameters)

    def _remedy(self) -> Mapping[str, Any]:
        shown = self.query_one("#advice", AdviceLine).advice.remedy
        found = self._diagnosis.advice
        return found[0].remedy if shown and found and isinstance(self._feed, RunFeed) else {}

    def action_apply(self) -> None:
        """Change the settings as the advice says, and start anew."""
        if isinstance(self._feed, RunFeed) and (changes := self._remedy()):
            self.post_message(self.EditConfig(self._feed.folder.config, changes))

    def action_back(self) -> None:
        """Leave what is open: the filter, an enlarged chart, another view, and then the run."""
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
            self._open("Charts")
        else:
            self.post_message(self.Leave())
