"""The dialog in which the two answers of a pair are edited."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea


class EditAnswersDialog(ModalScreen[tuple[str, str] | None]):
    """Two text areas; the result is (chosen, rejected), or None when cancelled.

    Args:
        chosen: the text of the chosen answer at first.
        rejected: the text of the rejected answer at first.
    """

    DEFAULT_CSS = """
    EditAnswersDialog { align: center middle; background: $background 70%; }
    EditAnswersDialog > Vertical { width: 90%; height: 90%; background: $surface; border: round $accent; padding: 0 1; }
    EditAnswersDialog TextArea { height: 1fr; border: none; background: $surface; }
    EditAnswersDialog .-keys { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="edit.cancel", priority=True),
        Binding("ctrl+d", "take", "take it", id="edit.take", priority=True),
    ]

    def __init__(self, chosen: str, rejected: str) -> None:
        super().__init__()
        self._chosen, self._rejected = chosen, rejected

    def compose(self) -> ComposeResult:
        """The chosen answer over the rejected one, keys."""
        with Vertical():
            yield Static("chosen", classes="-keys")
            yield TextArea(self._chosen, id="chosen", tab_behavior="focus", soft_wrap=True)
            yield Static("rejected", classes="-keys")
            yield TextArea(self._rejected, id="rejected", tab_behavior="focus", soft_wrap=True)
            yield Static(Content("ctrl+d take it   tab the other answer   esc cancel"), classes="-keys")

    def on_mount(self) -> None:
        """Stop the cursors from blinking: over SSH every blink is traffic."""
        for area in self.query(TextArea):
            area.cursor_blink = False

    def action_take(self) -> None:
        """Close with the texts."""
        self.dismiss((self.query_one("#chosen", TextArea).text, self.query_one("#rejected", TextArea).text))

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
