"""The dialog before a repaired copy is written: checks whose rows are left out, how many remain, and the file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from dpo_tui.paths import expanded
from dpo_tui.text.printable import printable
from dpo_tui.widgets.compact_inputs import LineInput, TickList

RepairChoice = tuple[tuple[str, ...], Path]
"""Ids of the checks whose rows are left out, and the file to write."""


class RepairDialog(ModalScreen[RepairChoice | None]):
    """Asks what to leave out and where to write, and writes nothing; its result is a `RepairChoice`, or None.

    Args:
        checks: (id, label) of the checks that flagged rows.
        remaining: gives the number of rows left without those of some checks, as text; called in a thread.
        out: the file to propose.
    """

    DEFAULT_CSS = """
    RepairDialog { align: center middle; background: $background 70%; }
    RepairDialog > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 90%;
        background: $surface; border: round $accent; padding: 0 2;
    }
    RepairDialog .-title { text-style: bold; color: $text; }
    RepairDialog .-muted { color: $text-muted; }
    RepairDialog TickList { height: auto; max-height: 9; margin-top: 1; background: $surface; }
    RepairDialog #remains { color: $text-accent; margin: 1 0; min-height: 2; }
    RepairDialog .-keys { color: $text-muted; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="repair.cancel"),
        Binding("enter", "take", "write", id="repair.take", priority=True),
    ]

    def __init__(
        self, checks: Sequence[tuple[str, str]], remaining: Callable[[tuple[str, ...]], str], out: Path
    ) -> None:
        super().__init__()
        self._checks, self._remaining, self._out = checks, remaining, out

    def compose(self) -> ComposeResult:
        """Checks, remaining rows, file name, keys."""
        with Vertical():
            yield Static("Write a repaired copy", classes="-title")
            if self._checks:
                yield Static("Leave out the rows that these checks name:", classes="-muted")
                yield TickList[str](*(Selection(Content(printable(label)), key) for key, label in self._checks))
            yield Static("", id="remains", markup=False)
            yield LineInput(str(self._out))
            keys = "space mark   tab to the file's name   " if self._checks else ""
            yield Static(f"{keys}enter write   esc cancel", classes="-keys")

    def on_mount(self) -> None:
        """Show how many rows remain at first."""
        self._count(self._chosen())

    def on_selection_list_selected_changed(self, message: SelectionList.SelectedChanged[str]) -> None:
        """Show how many rows remain now."""
        message.stop()
        self._count(self._chosen())

    def _chosen(self) -> tuple[str, ...]:
        return tuple(self.query_one(TickList).selected) if self._checks else ()

    @work(thread=True, exclusive=True, group="remaining", exit_on_error=False)
    def _count(self, chosen: tuple[str, ...]) -> None:
        text = self._remaining(chosen)
        self.app.call_from_thread(self._show, chosen, text)

    def _show(self, chosen: tuple[str, ...], text: str) -> None:
        # The choice may have changed while the rows were counted; another count is on its way then.
        if self.is_attached and chosen == self._chosen():
            self.query_one("#remains", Static).update(text)

    def action_take(self) -> None:
        """Close with the choice."""
        typed = self.query_one(LineInput).value.strip()
        if typed:
            self.dismiss((self._chosen(), expanded(typed)))

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
