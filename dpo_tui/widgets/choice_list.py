"""A list to choose one thing from: one row a choice, never wrapped, with vi's keys too."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import OptionList


class ChoiceList(OptionList):
    """An `OptionList` that tells its Enter key and keeps every choice to one row."""

    DEFAULT_CSS = """
    ChoiceList {
        border: none;
        padding: 0;
        background: $background;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &:focus { border: none; background-tint: transparent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "choose", id="choice.take"),
        Binding("k", "cursor_up", "up", id="choice.up", show=False),
        Binding("j", "cursor_down", "down", id="choice.down", show=False),
    ]
    HELP = "↑/↓ move · enter chooses"
