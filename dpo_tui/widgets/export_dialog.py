"""The dialog before an export: where to, as what, and the command that does the same."""

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
from dpo_tui.paths import expanded
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable
from dpo_tui.views.export_job import GGUF_TYPES, ExportRequest, check_export
from dpo_tui.widgets.compact_inputs import LineInput, TickList
from dpo_tui.widgets.dialogs import DIALOG_CSS

_GGUF_WORDS = {
    "q8_0": "GGUF q8_0: one file for llama.cpp and Ollama, 8 bits",
    "f16": "GGUF f16: in 16 bits, rounds least",
    "bf16": "GGUF bf16: in 16 bits, as most models are published",
}


class ExportDialog(ModalScreen[ExportRequest | None]):
    """Asks where to export a run to and as what, and exports nothing; its result is the request, or None.

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
        """What to export as, target, command, keys."""
        with Vertical():
            yield Static("Export", classes="-title")
            forms = [Selection(Content(words), name) for name, words in _GGUF_WORDS.items()]
            if self._folder.adapter.is_dir():
                merge = "merge into the base: one folder that loads by itself"
                forms.insert(0, Selection(Content(merge), "merge", initial_state=True))
            yield TickList[str](*forms)
            yield Static("Into the folder:", classes="-muted")
            yield LineInput(str(self._target))
            yield Static("The same in a shell:", classes="-muted")
            yield Static("", id="command", markup=False)
            yield Static("", id="problem", markup=False)
            yield Static("space ticks what to make   tab to the folder   enter export   esc cancel", classes="-keys")

    def on_mount(self) -> None:
        """Show the command."""
        self._show_command()

    @on(SelectionList.SelectionToggled)
    def _untick_others(self, event: SelectionList.SelectionToggled[str]) -> None:
        """Untick the other forms: an export is one of them, or none, which is the result as the run saved it."""
        chosen = event.selection.value
        for other in event.selection_list.selected:
            if other != chosen and chosen in event.selection_list.selected:
                event.selection_list.deselect(other)

    @on(SelectionList.SelectedChanged)
    @on(Input.Changed)
    def _show_command(self) -> None:
        request = self._request()
        form = f" --gguf {request.gguf}" if request.gguf else " --merge" if request.merge else ""
        target = printable(shlex.quote(str(request.target)), single_line=True)
        self.query_one("#command", Static).update(f"dpo-tui export {request.folder.id} --to {target}{form}")

    def _request(self) -> ExportRequest:
        ticked: list[str] = self.query_one(TickList).selected
        gguf = next((name for name in GGUF_TYPES if name in ticked), "")
        target = expanded(self.query_one(Input).value.strip())
        return ExportRequest(self._folder, target, "merge" in ticked, gguf=gguf)

    def action_take(self) -> None:
        """Close with the request, or say what is wrong with the folder."""
        request = self._request()
        try:
            check_export(request.folder, request.target, request.gguf)
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
