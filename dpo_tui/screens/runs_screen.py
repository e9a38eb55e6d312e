"""Home: every run at a glance, and more about the one under the cursor."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.signal import Signal

from dpo_tui.views.run_feed import RunFeed, number
from dpo_tui.views.feed_reader import FeedReader
from dpo_tui.views.gpu_watch import GpuReading, GpuWatch
from dpo_tui.views.headline import headline
from dpo_tui.views.run_list import RunSummary, RunList
from dpo_tui.runs.statuses import LIVE, OVER
from dpo_tui.views.monitor_text import header
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.durations import ago, duration
from dpo_tui.screens.feed_reading import FeedRead, read_feeds
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.views.chart_registry import BOOK, lines_for
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.gpu_panel import memory_text
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.run_actions import RunActionsScreen
from dpo_tui.widgets.run_table import RunRow, RunTable
from dpo_tui.widgets.title_row import TitleRow

if TYPE_CHECKING:  # the advice rules are not needed before the first paint
    from dpo_tui.views.run_diagnosis import PacedDiagnosis

SHORT = 24
TALL = 40
PREVIEW_POLL = 0.5
FIRST_WORDS = (
    "No runs yet.",
    "",
    "enter  a guided start: machine, model, data, settings, check; the shipped",
    "       demo is a whole run in a minute",
    "3      look at your data first: what it is, what is wrong with it",
    "5      read when DPO is the right tool, and what the curves mean",
)


class RunsScreen(RunActionsScreen):
    """The table of runs, the GPUs, and a preview.

    Args:
        runs: what there is, kept fresh by the app.
        gpus: this machine's GPUs.
        changed: published when ``runs`` has something new.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Every run on this machine, newest first. Runs go on when you quit.\n\n"
        "n starts a new one, enter opens one, s stops it with a checkpoint, r resumes it, space selects runs and "
        "v compares them, R renames one, D deletes it, u copies its settings into a new run. "
        "4 judges the one under the cursor: are its answers better than those of the model it came from?"
    )
    GUIDE_PAGE = "start"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new", id="runs.new"),
        Binding("v", "compare", "compare", id="runs.compare"),
        Binding("u", "reuse", "reuse settings", id="runs.reuse"),
        Binding("D", "delete_run", "delete", id="runs.delete", show=False),
    ]

    class OpenRun(Message):
        """A run is to be watched."""

        def __init__(self, folder: RunFolder) -> None:
            super().__init__()
            self.folder = folder

    class NewRun(Message):
        """The person wants to start a run, perhaps from another one's settings."""

        def __init__(self, config: Path | None = None) -> None:
            super().__init__()
            self.config = config

    class CompareRuns(Message):
        """Some runs are to be laid side by side."""

        def __init__(self, folders: list[RunFolder]) -> None:
            super().__init__()
            self.folders = folders

    def __init__(self, runs: RunList, gpus: GpuWatch, changed: Signal[None]) -> None:
        super().__init__(id="runs-screen")
        self._runs = runs
        self._gpus = gpus
        self._changed = changed
        self._chosen: set[str] = set()
        self._reader: FeedReader[RunFeed] | None = None
        self._diagnosis: PacedDiagnosis | None = None
        self._judging: PacedDiagnosis | None = None

    def compose(self) -> ComposeResult:
        """Title, table, preview, keys."""
        yield TitleRow("Runs", id="title")
        yield RunTable(id="table")
        with Vertical(id="preview"):
            yield TitleRow(id="preview-title")
            yield AdviceLine(id="preview-advice")
            yield ChartGrid([LineChart(entry.look) for entry in BOOK[:2]], id="preview-charts")
        yield KeyHints()

    def on_mount(self) -> None:
        """Show what is known, and follow the changes."""
        self._changed.subscribe(self, lambda _: self._show())
        self.set_interval(PREVIEW_POLL, self._tick)
        self.query_one(RunTable).focus()
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Make room for the table first."""
        self.set_class(event.size.height < SHORT, "-short")
        self.set_class(event.size.height >= TALL, "-tall")

    def on_screen_resume(self) -> None:
        """Show what came while another screen was in front."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        if not self.is_front:
            return
        now = time.time()
        glances = self._runs.glances
        self.set_class(not glances, "-empty")
        table = self.query_one(RunTable)
        table.empty_words = FIRST_WORDS
        table.show([row(glance, now, glance.id in self._chosen) for glance in glances])
        self.query_one("#title", TitleRow).show([[("Runs", "title")]], gpu_words(self._gpus.now(), self._gpus.absence))
        self.refresh_bindings()

    def _glance(self) -> RunSummary | None:
        key = self.query_one(RunTable).cursor
        return next((glance for glance in self._runs.glances if glance.id == key), None)

    def current_run(self) -> tuple[RunFolder, str, str] | None:
        """The run under the cursor."""
        if not self.is_mounted:
            return None
        glance = self._glance()
        return None if glance is None else (glance.folder, glance.name, glance.status)

    @on(RunTable.Highlighted)
    def _preview(self, message: RunTable.Highlighted) -> None:
        message.stop()
        glance = self._glance()
        self._reader = self._diagnosis = None
        if glance is not None:
            from dpo_tui.views.run_diagnosis import PacedDiagnosis

            self._reader = FeedReader(RunFeed(glance.folder))
            self._diagnosis = PacedDiagnosis(self._reader.feed)
        self.refresh_bindings()
        self._tick()

    @property
    def _shows_preview(self) -> bool:
        return self.is_front and bool(self.query_one("#preview").display)

    def _tick(self) -> None:
        if self._reader is None or not self._shows_preview:
            return
        read_feeds(self, [self._reader])
        diagnosis = self._diagnosis
        if diagnosis is None or self._judging is diagnosis or self._reader.feed.catching_up:
            return
        if diagnosis.due(time.time()):
            self._judging = diagnosis
            self._judge(diagnosis)

    def on_feed_read(self, message: FeedRead) -> None:
        """Take what was read, and go on while history is left and the cursor stays."""
        message.stop()
        draw = message.reader.take(message.change)
        if message.reader is not self._reader:
            return
        if draw:
            self._show_preview()
        self._tick()

    @work(thread=True, group="diagnosis", exit_on_error=False)
    def _judge(self, diagnosis: "PacedDiagnosis") -> None:
        try:
            if diagnosis.look(time.time()) and self.is_attached:
                self.app.call_from_thread(self._show_preview)
        finally:
            # By now the cursor may be on another run, whose diagnosis is under way in a thread of its own.
            if self._judging is diagnosis:
                self._judging = None

    def _show_preview(self) -> None:
        if self._reader is None or not self.is_front:
            return
        feed = self._reader.feed
        self.query_one("#preview-title", TitleRow).show(header(feed))
        found = self._diagnosis.found if self._diagnosis is not None else ()
        self.query_one("#preview-advice", AdviceLine).say(headline(feed, found))
        for chart, entry in zip(self.query_one(ChartGrid).charts, BOOK, strict=False):
            chart.settle(feed.about.get("status") in OVER)
            chart.set_lines(lines_for(entry, feed.series))
            chart.redraw()

    @on(RunTable.Opened)
    def _open(self, message: RunTable.Opened) -> None:
        message.stop()
        if (glance := self._glance()) is not None:
            self.post_message(self.OpenRun(glance.folder))

    @on(RunTable.Chosen)
    def _choose(self, message: RunTable.Chosen) -> None:
        message.stop()
        self._chosen ^= {message.key}
        self._show()

    def on_run_table_begin_asked(self, message: RunTable.BeginAsked) -> None:
        """Lead to the first run."""
        message.stop()
        self.action_new()

    def action_new(self) -> None:
        """Start a new run."""
        self.post_message(self.NewRun())

    def action_reuse(self) -> None:
        """Start a new run from the settings of the one under the cursor."""
        if (glance := self._glance()) is not None:
            self.post_message(self.NewRun(glance.folder.config))

    def action_compare(self) -> None:
        """Lay the selected runs side by side."""
        folders = [glance.folder for glance in self._runs.glances if glance.id in self._chosen]
        if len(folders) < 2:  # noqa: PLR2004 - one run has nothing to be compared with
            self.notify("Select two or more runs with space first.", markup=False)
            return
        self.post_message(self.CompareRuns(folders))


def row(glance: RunSummary, now: float, chosen: bool) -> RunRow:
    """One run as a row of the table."""
    return RunRow(
        key=glance.id,
        status=glance.status,
        name=glance.name,
        model=glance.model,
        fraction=1.0 if glance.status == "done" else glance.fraction,
        label=glance.spark_label,
        spark=glance.spark,
        note=note(glance, now),
        chosen=chosen,
    )


def note(glance: RunSummary, now: float) -> str:
    """The most useful thing to say about a run in a few words."""
    about = glance.about
    reason = str(about.get("reason") or "").partition("\n")[0]
    if glance.status in ("failed", "lost"):
        return f"{reason} → r resumes" if reason else "r resumes"
    if glance.status in ("queued", "stalled", "unknown"):
        return reason
    if (eta := number(about.get("eta_seconds"))) is not None:
        return f"ETA {duration(eta)}"
    if (ended := number(about.get("ended_at"))) is not None:
        return ago(ended, now)
    return str(about.get("phase") or "") if glance.status in LIVE else ""


def gpu_words(gpus: list[GpuReading], absence: str) -> StyledRow:
    """The GPUs in a few words, for a corner."""
    if not gpus:
        return [(absence.partition(":")[0], "muted")]
    row: StyledRow = []
    for gpu in gpus[:2]:
        name = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
        row += [("  " if row else "", "muted"), (f"GPU {gpu.index} {name}  ", "muted")]
        if gpu.samples:
            now = gpu.samples[-1]
            busy = now.utilisation
            row.append((f"{'idle' if not busy else f'{busy} %'}  {memory_text(now) or ''}", "value"))
    if len(gpus) > 2:  # noqa: PLR2004 - the corner has room for two
        row.append((f"  +{len(gpus) - 2}", "muted"))
    return row
