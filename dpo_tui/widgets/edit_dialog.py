"""Dialogs in which the answers of a pair are edited, and a pair is written in the place of a row that gives none."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from dpo_tui.text.printable import printable


class EditAnswersDialog(ModalScreen[tuple[str, str] | None]):
    """Two text areas; the result is (chosen, rejected), or None when cancelled.

    Args:
        chosen: the text of the chosen answer at first.
        rejected: the text of the rejected answer at first.
    """

    DEFAULT_CSS = """
    EditAnswersDialog { align: center middle; background: $background 70%; }
    EditAnswersDialog > Vertical { width: 90%; height: 90%; background: $surface; border: round $accent; padding: 0 1; }
    EditAnswersDialog TextArea { height: 1fr; border: none; padding: 0; background: $surface; }
    EditAnswersDialog TextArea:focus { border: none; background: $panel; }
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


class WritePairDialog(ModalScreen[tuple[str, str, str] | None]):
    """The row as it is over three text areas; the result is (prompt, chosen, rejected), or None when cancelled.

    Args:
        problem: why the row gives no pair.
        source: the row as it stands in the file.
        prompt: the text of the prompt at first.
        chosen: the text of the chosen answer at first.
        rejected: the text of the rejected answer at first.
    """

    DEFAULT_CSS = """
    WritePairDialog { align: center middle; background: $background 70%; }
    WritePairDialog > Vertical { width: 96%; height: 96%; background: $surface; border: round $accent; padding: 0 1; }
    WritePairDialog TextArea { height: 1fr; border: none; padding: 0; background: $surface; }
    WritePairDialog TextArea:focus { border: none; background: $panel; }
    WritePairDialog #source { color: $text-muted; }
    WritePairDialog .-keys { color: $text-muted; }
    WritePairDialog .-problem { color: $text-error; max-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="write.cancel", priority=True),
        Binding("ctrl+d", "take", "take it", id="write.take", priority=True),
    ]

    def __init__(self, problem: str, source: str, prompt: str, chosen: str, rejected: str) -> None:
        super().__init__()
        self._problem, self._source = problem, source
        self._parts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    def compose(self) -> ComposeResult:
        """The problem, the row, the three texts, keys."""
        with Vertical():
            yield Static(Content(printable(self._problem, single_line=True)), classes="-problem")
            yield TextArea(printable(self._source), id="source", read_only=True, tab_behavior="focus", soft_wrap=True)
            for name, text in self._parts.items():
                yield Static(name, classes="-keys")
                yield TextArea(text, id=name, tab_behavior="focus", soft_wrap=True)
            yield Static(Content("ctrl+d take it   tab the next text   esc cancel"), classes="-keys")

    def on_mount(self) -> None:
        """Stop the cursors from blinking, and begin with the first text that is missing."""
        for area in self.query(TextArea):
            area.cursor_blink = False
        empty = next((name for name, text in self._parts.items() if not text.strip()), "prompt")
        self.query_one(f"#{empty}").focus()

    def action_take(self) -> None:
        """Close with the texts."""
        prompt, chosen, rejected = (self.query_one(f"#{name}", TextArea).text for name in self._parts)
        self.dismiss((prompt, chosen, rejected))

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
