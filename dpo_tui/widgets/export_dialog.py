"""The dialog before an export: where to, merged or not, and the command that does the same."""

import shlex
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, SelectionList, Static
from textual.widgets.selection_list import Selection

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable
from dpo_tui.views.export_job import ExportRequest, check_export
from dpo_tui.widgets.compact_inputs import LineInput, TickList
from dpo_tui.widgets.dialogs import DIALOG_CSS


class ExportDialog(ModalScreen[ExportRequest | None]):
    """Asks where to export a run to and whether to merge, and exports nothing; its result is the request, or None.

    Args:
        folder: the run, which has a result.
        target: the folder to propose.
    """

    DEFAULT_CSS = (
        DIALOG_CSS.format(name="ExportDialog")
        + """
    ExportDialog TickList { height: auto; background: $surface; }
    ExportDialog .-muted { color: $text-muted; margin-top: 1; }
    ExportDialog #problem { color: $text-error; display: none; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="export.cancel"),
        Binding("enter", "take", "export", id="export.take", priority=True),
    ]

    def __init__(self, folder: RunFolder, target: Path) -> None:
        super().__init__()
        self._folder, self._target = folder, target

    def compose(self) -> ComposeResult:
        """Merge or not, target, command, keys."""
        with Vertical():
            yield Static("Export", classes="-title")
            if self._folder.adapter.is_dir():
                merge = "merge into the base: one folder that loads by itself"
                yield TickList[str](Selection(Content(merge), "merge", initial_state=True))
            yield Static("Into the folder:", classes="-muted")
            yield LineInput(str(self._target))
            yield Static("The same in a shell:", classes="-muted")
            yield Static("", id="command", markup=False)
            yield Static("", id="problem", markup=False)
            yield Static("space merge or not   tab to the folder   enter export   esc cancel", classes="-keys")

    def on_mount(self) -> None:
        """Show the command."""
        self._show_command()

    @on(SelectionList.SelectedChanged)
    @on(Input.Changed)
    def _show_command(self) -> None:
        request = self._request()
        merge = " --merge" if request.merge else ""
        target = printable(shlex.quote(str(request.target)), single_line=True)
        self.query_one("#command", Static).update(f"dpo-tui export {request.folder.id} --to {target}{merge}")

    def _request(self) -> ExportRequest:
        ticks = self.query(TickList)
        merge = bool(ticks) and "merge" in ticks.first().selected
        return ExportRequest(self._folder, Path(self.query_one(Input).value.strip()).expanduser(), merge)

    def action_take(self) -> None:
        """Close with the request, or say what is wrong with the folder."""
        request = self._request()
        try:
            check_export(request.folder, request.target)
        except (DpoTuiError, OSError) as error:
            hint = f": {error.hint}" if isinstance(error, DpoTuiError) and error.hint else ""
            problem = self.query_one("#problem", Static)
            problem.update(printable(f"{error}{hint}", single_line=True))
            problem.display = True
            return
        self.dismiss(request)

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
