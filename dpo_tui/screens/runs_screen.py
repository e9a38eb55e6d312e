"""Runs: the table of all runs on this machine, with a preview of the one under the cursor."""

import time
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.signal import Signal
from textual.widgets import Input

from dpo_tui.runs.folder import RunFolder
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.screens.feed_reader import FeedRead
from dpo_tui.screens.run_preview import RunPreview
from dpo_tui.screens.run_rows import FIRST_STEPS, NOT_LOADED, NOTHING_FOUND, row_of
from dpo_tui.views.gpu_text import gpu_row
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.text.printable import printable
from dpo_tui.views.group_row import RunGroup
from dpo_tui.views.run_groups import GroupedRunList, group_at, is_unfolded, with_groups
from dpo_tui.views.run_list import RunSummary
from dpo_tui.views.run_order import ORDERS, listed, next_order
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.group_actions import GroupActionsScreen
from dpo_tui.widgets.run_table import RunTable
from dpo_tui.widgets.title_row import TitleRow

SHORT_HEIGHT = 24
"""Rows below which there is no room for the preview."""
TALL_HEIGHT = 40
"""Rows from which the preview gets more of them."""
AGE_SECONDS = 10.0
"""Seconds between redraws while nothing changes but how long ago runs ended."""


class RunsScreen(GroupActionsScreen):
    """The table of runs, the GPUs, and a preview of one run.

    Posts `OpenRun`, `NewRun`, `CompareRuns` and `OpenImprovement`, which the app handles. Its reading thread posts `FeedRead` to it.

    Args:
        runs: the runs, polled by the app.
        gpus: the GPUs of this machine.
        changed: published when ``runs`` or ``gpus`` has something new.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Every run on this machine; those that run or wait come first. Runs go on when you quit.\n\n"
        "n starts a new one, enter opens one, s stops it with a checkpoint, r resumes it, D deletes it, R renames it, "
        "u copies its settings into a new run. space selects runs: then s, r and D act on all of them, and v compares "
        "them. / lists only runs whose name, model, dataset or status has what you type, o sorts, p folds the preview. "
        "4 judges the run under the cursor: are its answers better than those of the model it came from?\n\n"
        "The runs of a sweep, and the stages of a chain, are one row: f folds and unfolds it, enter ranks and compares "
        "its runs, s, r and D act on all of it, space selects all its runs. An improvement is one row too: enter opens it."
    )
    GUIDE_PAGE = "start"
    # Textual's default is the first widget that can take the focus, which is the filter, hidden or not.
    AUTO_FOCUS = "RunTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fold_group", "fold", id="runs.fold"),
        Binding("n", "new", "new", id="runs.new"),
        Binding("v", "compare", "compare", id="runs.compare"),
        Binding("u", "reuse", "reuse settings", id="runs.reuse"),
        Binding("D", "delete_run", "delete", id="runs.delete", show=False),
        Binding("slash", "filter", "filter", id="runs.filter"),
        Binding("o", "sort", "sort", id="runs.sort"),
        Binding("p", "fold_preview", "fold preview", id="runs.preview", show=False),
        Binding("escape", "close_filter", "all runs", id="runs.unfilter"),
    ]

    class OpenRun(Message):
        """Posted when the user opens a run.

        Attributes:
            folder: the run.
        """

        def __init__(self, folder: RunFolder) -> None:
            super().__init__()
            self.folder = folder

    class NewRun(Message):
        """Posted when the user wants to start a run.

        Attributes:
            config: config file of the run whose settings it starts from; None for no run's.
        """

        def __init__(self, config: Path | None = None) -> None:
            super().__init__()
            self.config = config

    class CompareRuns(Message):
        """Posted when the user wants to compare runs.

        Attributes:
            folders: the selected runs, two or more, or all runs of a group.
            group: that group; None for runs that the user chose.
        """

        def __init__(self, folders: list[RunFolder], group: GroupFolder | None = None) -> None:
            super().__init__()
            self.folders = folders
            self.group = group

    def __init__(self, runs: GroupedRunList, gpus: GpuWatch, changed: Signal[None]) -> None:
        super().__init__(id="runs-screen")
        # From the beginning: added after mounting, the class would have every widget styled twice.
        self.set_class(not (runs.summaries or runs.groups), "-empty", update=False)
        self._runs = runs
        self._gpus = gpus
        self._changed = changed
        self._selected: set[str] = set()
        """Ids of the runs that are selected: compared, stopped, resumed or deleted together."""
        self._toggled: set[str] = set()
        """Keys of the groups that the user has folded or unfolded: sweeps are folded at first, chains are not."""
        self._rows: list[RunSummary | RunGroup] = []
        self._order = next(iter(ORDERS))

    def compose(self) -> ComposeResult:
        """Title, table, preview and keys, from top to bottom."""
        yield TitleRow("Runs", id="title")
        yield LineInput(placeholder="list runs whose name, model, dataset or status has …", id="filter")
        yield RunTable(id="table")
        yield RunPreview()
        yield KeyHints()

    def on_mount(self) -> None:
        """Show the runs known so far, and subscribe to changes."""
        self._changed.subscribe(self, lambda _: self._show())
        self.set_interval(AGE_SECONDS, self._show_ages)
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Hide the preview on a short terminal, and enlarge it on a tall one."""
        self.set_class(event.size.height < SHORT_HEIGHT, "-short")
        self.set_class(event.size.height >= TALL_HEIGHT, "-tall")

    def on_screen_resume(self) -> None:
        """Draw what changed while another screen was in front."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        if not self.is_front:
            return
        runs = listed(self._runs.summaries, self._filter, self._order)
        self._selected &= {run.id for run in self._runs.summaries}
        groups, every = [] if self._filter and not runs else self._runs.groups, bool(self._filter)
        self._rows = with_groups(runs, groups, self._toggled, unfold_all=every)
        shown = [row for row in self._rows if isinstance(row, RunGroup)]
        unfolded = {row.key for row in shown if is_unfolded(row, self._toggled, every)}
        in_group = {run.id for row in shown for run in row.runs}
        self.set_class(not self._rows, "-empty")
        table = self.query_one(RunTable)
        table.empty_text = NOTHING_FOUND if self._filter else FIRST_STEPS if self._runs.loaded else NOT_LOADED
        table.show([row_of(row, time.time(), self._selected, unfolded, in_group) for row in self._rows])
        self._preview_cursor()
        self._show_title()
        self.refresh_bindings()

    def _show_title(self) -> None:
        first, last = self.query_one(RunTable).shown
        count, total = len(self.query_one(RunTable).runs), len(self._runs.summaries)
        title: list[StyledRow] = [[("Runs", "title")]]
        if total:
            title.append([(f"{first}–{last} of {count}", "muted")])
        if self._filter:
            title.append([(f"{count} of {total} with “{printable(self._filter)}”", "accent")])
        if self._selected:
            title.append([(f"{len(self._selected)} selected", "accent")])
        if self._order != next(iter(ORDERS)):
            title.append([(f"by {self._order}", "accent")])
        self.query_one("#title", TitleRow).show(title, gpu_row(self._gpus.now(), self._gpus.absence))

    @property
    def _filter(self) -> str:
        return self.query_one("#filter", Input).value.strip()

    def current_group(self) -> RunGroup | None:
        """The group under the cursor, unless runs are selected."""
        return None if self._selected or not self.is_mounted else self._group_at_cursor()

    def _group_at_cursor(self) -> RunGroup | None:
        return group_at(self._rows, self.query_one(RunTable).cursor)

    def _group_around_cursor(self) -> RunGroup | None:
        return group_at(self._rows, self.query_one(RunTable).cursor, around=True)

    def action_fold_group(self) -> None:
        """Fold the group at the cursor, or list its runs."""
        if (group := self._group_around_cursor()) is None:
            return
        self._toggled ^= {group.key}
        table = self.query_one(RunTable)
        table.cursor = group.key  # its runs may be gone from the table
        self._show()
        self._open_preview_of_cursor()

    def _show_ages(self) -> None:
        self._show()
        self.query_one(RunPreview).redraw()

    def _run_at_cursor(self) -> RunSummary | None:
        run_id = self.query_one(RunTable).cursor
        return next((run for run in self._runs.summaries if run.id == run_id), None)

    def current_run(self) -> tuple[RunFolder, str, str] | None:
        """The run under the cursor: its folder, name and status; None when there is none."""
        if not self.is_mounted:
            return None
        run = self._run_at_cursor()
        return None if run is None else (run.folder, run.name, run.status)

    def runs_acted_on(self) -> list[tuple[RunFolder, str, str]]:
        """The selected runs, those that the filter hides too; the one under the cursor where none is selected."""
        chosen = [run for run in self._runs.summaries if run.id in self._selected]
        if not chosen and (group := self.current_group()) is not None:
            chosen = list(group.runs)  # of a chain; those of a sweep are its driver's
        return [(run.folder, run.name, run.status) for run in chosen] or super().runs_acted_on()

    @on(RunTable.Highlighted)
    def _open_preview(self, message: RunTable.Highlighted) -> None:
        message.stop()
        self._open_preview_of_cursor()

    def _open_preview_of_cursor(self) -> None:
        self._preview_cursor()
        self._show_title()
        self.refresh_bindings()

    def _preview_cursor(self) -> None:
        run, group = self._run_at_cursor(), self._group_at_cursor()
        if group is not None and group.runs:  # the one that is ahead stands for them; by now it may be another one
            run = max(group.runs, key=lambda one: one.held_out or 0.0)
        self.query_one(RunPreview).show_run(None if run is None else run.folder)

    def on_feed_read(self, message: FeedRead) -> None:
        """Pass on what was read of the previewed run."""
        message.stop()
        self.query_one(RunPreview).take(message)

    @on(RunTable.Opened)
    def _open_run(self, message: RunTable.Opened) -> None:
        message.stop()
        group = self._group_at_cursor()
        if (run := self._run_at_cursor()) is not None:
            self.post_message(self.OpenRun(run.folder))
        elif group is None:
            return
        elif isinstance(group.folder, ImprovementFolder):
            self.post_message(self.OpenImprovement(group.folder))
        elif group.runs:
            self.post_message(self.CompareRuns([one.folder for one in group.runs], group.folder))
        else:
            self.notify("No run of it has started yet.", markup=False)

    @on(RunTable.Chosen)
    def _toggle_selected(self, message: RunTable.Chosen) -> None:
        message.stop()
        group = self._group_at_cursor()
        keys = {message.key} if group is None else {run.id for run in group.runs}
        self._selected = self._selected - keys if keys <= self._selected else self._selected | keys
        self._show()

    def on_run_table_start_requested(self, message: RunTable.StartRequested) -> None:
        """Start the first run: there is none in the table yet. Until the runs are read, Enter means nothing."""
        message.stop()
        if self._runs.loaded and not self._runs.summaries:
            self.action_new()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable also what has nothing to act on: a filter, a selection."""
        if action == "close_filter":
            return self.is_mounted and bool(self._selected or self.query_one("#filter", Input).has_class("-open"))
        if action == "fold_group":
            return self.is_mounted and self._group_around_cursor() is not None
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Open the field that filters the runs."""
        field = self.query_one("#filter", Input)
        field.add_class("-open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, message: Input.Changed) -> None:
        message.stop()
        self._show()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.query_one(RunTable).focus()
        self.query_one("#filter", Input).set_class(bool(self._filter), "-open")

    def action_close_filter(self) -> None:
        """List all runs again, with none of them selected."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("-open")
        self._selected.clear()
        self.query_one(RunTable).focus()
        self._show()

    def action_sort(self) -> None:
        """Sort by the next key."""
        self._order = next_order(self._order)
        self._show()

    def action_fold_preview(self) -> None:
        """Fold the preview away, or show it again."""
        self.toggle_class("-folded")

    def action_new(self) -> None:
        """Start a new run."""
        self.post_message(self.NewRun())

    def action_reuse(self) -> None:
        """Start a new run from the settings of the one under the cursor."""
        if (run := self._run_at_cursor()) is not None:
            self.post_message(self.NewRun(run.folder.config))

    def action_compare(self) -> None:
        """Compare the selected runs."""
        folders = [run.folder for run in self._runs.summaries if run.id in self._selected]
        if len(folders) < 2:  # noqa: PLR2004 - one run has nothing to be compared with
            self.notify("Select two or more runs with space first.", markup=False)
            return
        self.post_message(self.CompareRuns(folders))
