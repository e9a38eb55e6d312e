"""Preview of the run under the cursor: what it is, advice, and two charts."""

import time
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import OVER
from dpo_tui.screens.feed_reader import FeedRead, FeedReader, read_feeds
from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.chart_registry import CHARTS, lines_for
from dpo_tui.views.monitor_text import header
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.title_row import TitleRow

if TYPE_CHECKING:  # imported when a run is shown: the first paint does not need the advice rules
    from dpo_tui.views.run_diagnosis import ThrottledDiagnosis

POLL = 0.5
"""Seconds between two polls of the run's files."""
KEY_REPEAT = 0.1
"""Seconds within which the next run shows that a key is held down; terminals repeat it 25 to 33 times a second."""


class RunPreview(Vertical):
    """Reads one run while it is shown.

    On a `FullScreen`, which passes `FeedRead` on to `take`.
    """

    def __init__(self) -> None:
        super().__init__(id="preview")
        self.reader: FeedReader[RunFeed] | None = None
        self.diagnosis: ThrottledDiagnosis | None = None
        self._reading: FeedReader[RunFeed] | None = None  # asked last; of a run that was shown before, maybe
        self._diagnosing = False
        self._changed_at = float("-inf")
        self._rest: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, advice and charts, from top to bottom."""
        yield TitleRow(id="preview-title")
        yield AdviceLine(id="preview-advice")
        yield ChartGrid([LineChart(entry.style) for entry in CHARTS[:2]], id="preview-charts")

    def on_mount(self) -> None:
        """Begin to poll."""
        self.set_interval(POLL, self._poll)

    def show_run(self, folder: RunFolder | None) -> None:
        """Show a run, or go on with it; None for none. With a key held down those that the cursor passes are not read.

        Args:
            folder: the run.
        """
        if self.reader is not None and self.reader.feed.folder == folder:
            return
        self.reader = self.diagnosis = None
        if folder is None:
            self.visible = False
        else:
            from dpo_tui.views.run_diagnosis import ThrottledDiagnosis

            self.reader = FeedReader(RunFeed(folder))
            self.diagnosis = ThrottledDiagnosis(self.reader.feed)
        passing, self._changed_at = self._is_passing, time.monotonic()
        if self._rest is not None:
            self._rest.stop()
        if passing:
            self._rest = self.set_timer(KEY_REPEAT, self._poll)
        else:
            self._poll()

    def take(self, message: FeedRead) -> None:
        """Merge what was read, and read on: of the run that is shown by now."""
        draw = message.reader.take(message.change)
        if draw and message.reader is self.reader:
            self.redraw()
        if not self._is_passing:
            self._poll()

    def redraw(self) -> None:
        """Draw what is known of the run."""
        if self.reader is None or not self._full_screen.is_front:
            return
        feed = self.reader.feed
        self.visible = True
        self.query_one("#preview-title", TitleRow).show(header(feed))
        advice = self.diagnosis.advice if self.diagnosis is not None else ()
        self.query_one("#preview-advice", AdviceLine).show(advice_sentence(feed, advice))
        for chart, entry in zip(self.query_one(ChartGrid).charts, CHARTS, strict=False):
            chart.set_complete(feed.about.get("status") in OVER)
            chart.set_lines(lines_for(entry, feed.series))
            chart.redraw()

    @property
    def _full_screen(self) -> FullScreen:
        screen = self.screen
        assert isinstance(screen, FullScreen)
        return screen

    @property
    def _is_passing(self) -> bool:
        return time.monotonic() - self._changed_at < KEY_REPEAT

    def _poll(self) -> None:
        if self.reader is None or not self.display or not self._full_screen.is_front:
            return
        # One read and one diagnosis at a time: those that wait for a thread, each with a run's history, would pile up.
        if self._reading is None or not self._reading.busy:
            self._reading = self.reader
            read_feeds(self._full_screen, [self.reader])
        diagnosis, busy = self.diagnosis, self._diagnosing or self.reader.feed.catching_up
        if diagnosis is not None and not busy and diagnosis.due(time.time()):
            self._diagnosing = True
            self._diagnose(diagnosis)

    @work(thread=True, group="diagnosis", exit_on_error=False)
    def _diagnose(self, diagnosis: "ThrottledDiagnosis") -> None:
        try:
            if diagnosis.update(time.time()) and self.is_attached:
                self.app.call_from_thread(self.redraw)
        finally:
            self._diagnosing = False  # that of the run that is shown by now begins at the next poll
