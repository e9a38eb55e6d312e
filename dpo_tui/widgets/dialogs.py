"""Modal dialogs: a question with yes and no, a message, and one line of input."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from dpo_tui.text.printable import printable
from dpo_tui.widgets.compact_inputs import LineInput

DIALOG_CSS = """
    {name} {{ align: center middle; background: $background 70%; }}
    {name} > Vertical {{
        width: 64; max-width: 96%; height: auto; max-height: 90%;
        background: $surface; border: round $accent; padding: 0 2;
    }}
    {name} .-title {{ text-style: bold; color: $text; margin-bottom: 1; }}
    {name} .-keys {{ color: $text-muted; margin-top: 1; }}
"""
"""CSS that dialogs share; a format string with the name of the dialog's class."""


class ConfirmDialog(ModalScreen[bool]):
    """A question with yes and no; its result is the answer.

    Args:
        question: the question, in one line.
        detail: the consequences of a yes.
        dangerous: whether ``y`` is the only key for yes; otherwise enter is one too.
    """

    DEFAULT_CSS = DIALOG_CSS.format(name="ConfirmDialog")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", id="ask.yes"),
        Binding("n,escape,q", "answer(False)", "no", id="ask.no"),
        Binding("enter", "enter", "yes", id="ask.enter", show=False),
    ]

    def __init__(self, question: str, detail: str = "", *, dangerous: bool = False) -> None:
        super().__init__()
        self._question, self._detail, self._dangerous = question, detail, dangerous

    def compose(self) -> ComposeResult:
        """Question, consequence, keys."""
        with Vertical():
            yield Static(Content(printable(self._question)), classes="-title")
            yield Static(Content(printable(self._detail)))
            yield Static(Content("y yes   n no" if self._dangerous else "enter yes   n no"), classes="-keys")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)

    def action_enter(self) -> None:
        """Close with yes, unless that is dangerous."""
        if not self._dangerous:
            self.dismiss(True)


class MessageDialog(ModalScreen[None]):
    """A message to read, such as an error or the help of a screen.

    Args:
        title: the subject, in one line.
        text: the message.
        hint: what to do next; empty for none.
    """

    DEFAULT_CSS = (
        DIALOG_CSS.format(name="MessageDialog")
        + """
    MessageDialog .-text { height: auto; max-height: 20; overflow-y: auto; }
    MessageDialog .-hint { color: $text-accent; margin-top: 1; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark,space", "close", "close", id="tell.close")
    ]

    def __init__(self, title: str, text: str, hint: str = "") -> None:
        super().__init__()
        self._title, self._text, self._hint = title, text, hint

    def compose(self) -> ComposeResult:
        """Title, text, hint, keys."""
        with Vertical():
            yield Static(Content(printable(self._title)), classes="-title")
            yield Static(Content(printable(self._text)), classes="-text")
            if self._hint:
                yield Static(Content(printable(self._hint)), classes="-hint")
            yield Static(Content("enter close"), classes="-keys")

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)


class InputDialog(ModalScreen[str | None]):
    """One line of input; its result is the text without surrounding spaces, or None when cancelled.

    Args:
        title: what to type.
        value: the text at first.
        placeholder: an example, shown while the field is empty.
        secret: whether to show dots instead of the text.
    """

    DEFAULT_CSS = DIALOG_CSS.format(name="InputDialog")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel", id="type.cancel")]

    def __init__(self, title: str, value: str = "", placeholder: str = "", *, secret: bool = False) -> None:
        super().__init__()
        self._title, self._value, self._placeholder, self._secret = title, value, placeholder, secret

    def compose(self) -> ComposeResult:
        """Title, field, keys."""
        with Vertical():
            yield Static(Content(printable(self._title)), classes="-title")
            yield LineInput(self._value, placeholder=self._placeholder, password=self._secret)
            yield Static(Content("enter take it   esc cancel"), classes="-keys")

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Close with the text."""
        message.stop()
        self.dismiss(message.value.strip())

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
