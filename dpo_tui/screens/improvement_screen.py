"""One improvement: its rounds as columns, what it does now, why it ended, and answers before and after."""

from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui import paths
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_store import groups_home
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import RESUMABLE
from dpo_tui.views.improvement_view import ImprovementReader, ImprovementView
from dpo_tui.views.status_labels import status_label
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.improvement_actions import ImprovementActionsScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.round_table import RoundTable
from dpo_tui.widgets.step_bar import StepBar
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

POLL_SECONDS = 1.0


class ImprovementScreen(ImprovementActionsScreen):
    """The screen of an improvement.

    Posts `OpenRuns`, `GiveVerdicts` and `FullScreen.Leave`, which the app handles.

    Args:
        folder: the improvement.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Each round is a column: pairs made, accuracy on held-out pairs, how often held-out answers win over those of the "
        "start model and of the round before (95 % intervals), KL from the reference, length, and warnings of what the "
        "judge may reward by mistake.\n\n"
        "←/→ choose a round, enter opens its run, or compares its runs where it has several. s stops it, r goes on where it "
        "was, v asks for your verdicts. It goes on when you leave."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "verdicts", "verdicts", id="improvement.verdicts"),
        Binding("enter", "open", "open the round", id="improvement.open"),
        Binding("right", "move(1)", "next round", id="improvement.next"),
        Binding("left", "move(-1)", "round before", id="improvement.previous", show=False),
        Binding("s,x", "stop", "stop", id="improvement.stop", key_display="s"),
        Binding("r", "resume", "resume", id="improvement.resume"),
        Binding("escape", "back", "runs", id="improvement.back"),
    ]

    class OpenRuns(Message):
        """Posted when the runs of a round are to be shown.

        Attributes:
            folders: one run, or several.
            group: their group; None where it is not known.
        """

        def __init__(self, folders: list[RunFolder], group: GroupFolder | None) -> None:
            super().__init__()
            self.folders = folders
            self.group = group

    class GiveVerdicts(Message):
        """Posted when the person wants to judge.

        Attributes:
            folder: the improvement.
        """

        def __init__(self, folder: ImprovementFolder) -> None:
            super().__init__()
            self.folder = folder

    def __init__(self, folder: ImprovementFolder) -> None:
        super().__init__()
        self._folder = folder
        self._improvement_reader = ImprovementReader(folder)
        self._reading = False
        self.view = ImprovementView("")
        """What was read last."""

    def compose(self) -> ComposeResult:
        """Title, progress, rounds, page and keys, from top to bottom."""
        yield TitleRow("Improvement", id="title")
        yield TitleRow(id="now")
        yield StepBar(id="step")
        yield RoundTable(id="rounds")
        yield TextPane([("Reading …", "muted")], id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Start reading."""
        self.query_one("#page").focus()
        self.set_interval(POLL_SECONDS, self._poll)
        self._poll()

    def on_screen_resume(self) -> None:
        """Draw what was read while another screen was in front, and read on."""
        self.call_after_refresh(self._show)
        self._poll()

    def _poll(self) -> None:
        if self.is_front and not self._reading:
            self._reading = True
            self._read()

    @work(thread=True, group="improvement", exit_on_error=False)
    def _read(self) -> None:
        try:
            view = self._improvement_reader.read()
        finally:
            self._reading = False
        if self.is_attached and view != self.view:
            self.app.call_from_thread(self._view_read, view)

    def _view_read(self, view: ImprovementView) -> None:
        self.view = view
        self.draw_when_front(self._show)

    def _show(self) -> None:
        view = self.view
        if not view.name or not self.is_front:
            return
        label = status_label("working" if view.status == "running" else view.status)
        parts: list[StyledRow] = [[(view.name, "title")], [(label.text, label.role)]]
        right: StyledRow = [(f"{view.waiting} waiting for you", "accent")] if view.by_hand and view.waiting else []
        self.query_one("#title", TitleRow).show(parts, right)
        # A row of its own: some steps have long names.
        self.query_one("#now", TitleRow).show([[(view.step, "value")]])
        step = self.query_one("#step", StepBar)
        step.display = view.live
        step.show(view.fraction)
        table = self.query_one(RoundTable)
        table.styles.height = len(view.rows) + 1
        table.show(view)
        self.query_one("#page", TextPane).show(view.page)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable each key where it can do something."""
        if action == "stop":
            return self.view.live
        if action == "resume":
            return not self.view.live and self.view.status in RESUMABLE
        if action == "verdicts":
            return bool(self.view.waiting) or (self.view.by_hand and self.view.live)
        if action in ("open", "move"):
            return len(self.view.rounds) > (action == "move")
        return True

    def action_move(self, by: int) -> None:
        """Choose another round."""
        self.query_one(RoundTable).move(by)

    def action_open(self) -> None:
        """Open the runs of the round at the cursor."""
        column = self.query_one(RoundTable).current
        folders = [RunFolder(paths.runs() / run) for run in column.runs] if column is not None else []
        here = [folder for folder in folders if folder.path.is_dir()]
        if not here or column is None:
            gone = "Its run was deleted." if folders else "This round does not train yet."
            self.notify(gone, markup=False)
            return
        group = GroupFolder(groups_home() / column.group) if column.group else None
        self.post_message(self.OpenRuns(here, group if group is not None and group.path.is_dir() else None))

    def action_stop(self) -> None:
        """Stop the improvement."""
        self.stop_improvement(self._folder, self.view.name, again=self.view.status == "stopping")

    def action_resume(self) -> None:
        """Have it go on."""
        self.resume_improvement(self._folder, self.view.name)

    def action_verdicts(self) -> None:
        """Ask for verdicts."""
        self.post_message(self.GiveVerdicts(self._folder))

    def action_back(self) -> None:
        """Leave."""
        self.post_message(self.Leave())
