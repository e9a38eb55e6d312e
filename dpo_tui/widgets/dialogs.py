"""Small screens that ask or tell one thing and go away again; the person always opens them."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static
from textual.widgets.selection_list import Selection

from dpo_tui.plain import printable
from dpo_tui.widgets.choice_list import ChoiceList
from dpo_tui.widgets.line_input import LineInput
from dpo_tui.widgets.tick_list import TickList

_BOX = """
    {name} {{ align: center middle; background: $background 70%; }}
    {name} > Vertical {{
        width: 64; max-width: 96%; height: auto; max-height: 90%;
        background: $surface; border: round $accent; padding: 0 2;
    }}
    {name} .-title {{ text-style: bold; color: $text; margin-bottom: 1; }}
    {name} .-keys {{ color: $text-muted; margin-top: 1; }}
"""


class AskDialog(ModalScreen[bool]):
    """A question with yes and no; Enter does not answer a dangerous one.

    Args:
        question: what is asked, in a line.
        detail: what follows from a yes.
        dangerous: whether only ``y`` means yes.
    """

    DEFAULT_CSS = _BOX.format(name="AskDialog")
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


class TellDialog(ModalScreen[None]):
    """Something to read: what went wrong and what to do, or the help for a place.

    Args:
        title: what it is about.
        text: the message.
        hint: what to do next.
    """

    DEFAULT_CSS = (
        _BOX.format(name="TellDialog")
        + """
    TellDialog .-text { height: auto; max-height: 20; overflow-y: auto; }
    TellDialog .-hint { color: $text-accent; margin-top: 1; }
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


class TypeDialog(ModalScreen[str | None]):
    """One line to type; None when the person changes their mind.

    Args:
        title: what is asked for.
        value: what stands there at first.
        placeholder: an example.
        secret: show dots instead of what is typed.
    """

    DEFAULT_CSS = _BOX.format(name="TypeDialog")
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


class PickDialog(ModalScreen[list[str] | None]):
    """Several of a list; None when the person changes their mind.

    Args:
        title: what is asked for.
        choices: (key, words) for each line.
        chosen: keys that are marked at first.
    """

    DEFAULT_CSS = _BOX.format(name="PickDialog") + "PickDialog TickList { height: auto; max-height: 16; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="pick.cancel"),
        Binding("enter", "take", "take", id="pick.take", priority=True),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], chosen: Sequence[str] = ()) -> None:
        super().__init__()
        self._title, self._choices, self._chosen = title, choices, chosen

    def compose(self) -> ComposeResult:
        """Title, list, keys."""
        with Vertical():
            yield Static(Content(printable(self._title)), classes="-title")
            yield TickList[str](
                *(
                    Selection(Content(printable(words, single_line=True)), key, key in self._chosen)
                    for key, words in self._choices
                )
            )
            yield Static(Content("space mark   enter take them   esc cancel"), classes="-keys")

    def action_take(self) -> None:
        """Go away with what is marked."""
        self.dismiss(list(self.query_one(TickList).selected))

    def action_cancel(self) -> None:
        """Go away without."""
        self.dismiss(None)


class ChooseDialog(ModalScreen[str | None]):
    """One of a list; None when the person changes their mind.

    Args:
        title: what is asked for.
        choices: (key, words) for each line.
    """

    DEFAULT_CSS = _BOX.format(name="ChooseDialog") + "ChooseDialog ChoiceList { height: auto; max-height: 16; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel", id="choose.cancel")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._choices = title, choices

    def compose(self) -> ComposeResult:
        """Title, list, keys."""
        with Vertical():
            yield Static(Content(printable(self._title)), classes="-title")
            yield ChoiceList(*(Content(printable(words, single_line=True)) for _, words in self._choices))
            yield Static(Content("enter choose   esc cancel"), classes="-keys")

    def on_option_list_option_selected(self, message: ChoiceList.OptionSelected) -> None:
        """Go away with the choice."""
        message.stop()
        self.dismiss(self._choices[message.option_index][0])

    def action_cancel(self) -> None:
        """Go away without."""
        self.dismiss(None)
