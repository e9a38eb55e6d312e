"""Small screens that ask or tell one thing and go away again; the person always opens them."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from dpo_tui.text.printable import printable
from dpo_tui.widgets.compact_inputs import LineInput

BOX = """
    {name} {{ align: center middle; background: $background 70%; }}
    {name} > Vertical {{
        width: 64; max-width: 96%; height: auto; max-height: 90%;
        background: $surface; border: round $accent; padding: 0 2;
    }}
    {name} .-title {{ text-style: bold; color: $text; margin-bottom: 1; }}
    {name} .-keys {{ color: $text-muted; margin-top: 1; }}
"""
"""The style of a dialog, to be formatted with the name of its class."""


class ConfirmDialog(ModalScreen[bool]):
    """A question with yes and no; Enter does not answer a dangerous one.

    Args:
        question: what is asked, in a line.
        detail: what follows from a yes.
        dangerous: whether only ``y`` means yes.
    """

    DEFAULT_CSS = BOX.format(name="ConfirmDialog")
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
        """Go away with the answer."""
        self.dismiss(yes)

    def action_enter(self) -> None:
        """Yes, unless that is dangerous."""
        if not self._dangerous:
            self.dismiss(True)


class MessageDialog(ModalScreen[None]):
    """Something to read: what went wrong and what to do, or the help for a place.

    Args:
        title: what it is about.
        text: the message.
        hint: what to do next.
    """

    DEFAULT_CSS = (
        BOX.format(name="MessageDialog")
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
        """Go away."""
        self.dismiss(None)


class InputDialog(ModalScreen[str | None]):
    """One line to type; None when the person changes their mind.

    Args:
        title: what is asked for.
        value: what stands there at first.
        placeholder: an example.
        secret: show dots instead of what is typed.
    """

    DEFAULT_CSS = BOX.format(name="InputDialog")
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
        """Go away with the text."""
        message.stop()
        self.dismiss(message.value.strip())

    def action_cancel(self) -> None:
        """Go away without."""
        self.dismiss(None)
