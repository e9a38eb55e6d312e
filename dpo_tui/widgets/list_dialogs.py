"""Modal dialogs to choose one or several items of a list; not in `dialogs`, which is imported at every start."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static
from textual.widgets.selection_list import Selection

from dpo_tui.text.printable import printable
from dpo_tui.widgets.compact_inputs import ChoiceList, TickList
from dpo_tui.widgets.dialogs import DIALOG_CSS


class MultipleChoiceDialog(ModalScreen[list[str] | None]):
    """Several items of a list; its result is their keys, or None when cancelled.

    Args:
        title: what to choose.
        choices: (key, label) of each item.
        chosen: keys that are selected at first.
    """

    DEFAULT_CSS = (
        DIALOG_CSS.format(name="MultipleChoiceDialog")
        + "MultipleChoiceDialog TickList { height: auto; max-height: 16; }"
    )
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
                    Selection(Content(printable(label, single_line=True)), key, key in self._chosen)
                    for key, label in self._choices
                )
            )
            yield Static(Content("space mark   enter take them   esc cancel"), classes="-keys")

    def action_take(self) -> None:
        """Close with the keys of the selected items."""
        self.dismiss(list(self.query_one(TickList).selected))

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)


class ChoiceDialog(ModalScreen[str | None]):
    """One item of a list; its result is its key, or None when cancelled.

    Args:
        title: what to choose.
        choices: (key, label) of each item.
    """

    DEFAULT_CSS = DIALOG_CSS.format(name="ChoiceDialog") + "ChoiceDialog ChoiceList { height: auto; max-height: 16; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel", id="choose.cancel")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._choices = title, choices

    def compose(self) -> ComposeResult:
        """Title, list, keys."""
        with Vertical():
            yield Static(Content(printable(self._title)), classes="-title")
            yield ChoiceList(*(Content(printable(label, single_line=True)) for _, label in self._choices))
            yield Static(Content("enter choose   esc cancel"), classes="-keys")

    def on_option_list_option_selected(self, message: ChoiceList.OptionSelected) -> None:
        """Close with the key of the chosen item."""
        message.stop()
        self.dismiss(self._choices[message.option_index][0])

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
