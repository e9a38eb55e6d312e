"""Textual's `Input`, `OptionList` and `SelectionList` with rows of one line, without borders and without blinking."""

from typing import Any, ClassVar, TypeVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Key as KeyPress
from textual.strip import Strip
from textual.widgets import Input, OptionList, SelectionList

Key = TypeVar("Key")
_BUTTON_SEGMENTS = 3
"""Segments that `SelectionList` draws for its button: the same character selected or not, distinguished by colour."""


class LineInput(Input):
    """An `Input` of one row without a border. Its cursor does not blink: over SSH every blink is traffic.

    Args:
        args: positional arguments of `Input`.
        options: keyword arguments of `Input`.
    """

    DEFAULT_CSS = "LineInput { border: none; height: 1; padding: 0; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "take it", id="field.submit"),
        Binding("tab", "app.focus_next", "leave the field", id="field.leave"),
    ]
    HELP = "Every printable key is text · enter takes it · tab leaves the field"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"compact": True, **options})
        self.cursor_blink = False


class ChoiceList(OptionList):
    """An `OptionList` to choose one option from, one row each; its Enter key is shown among the key hints.

    Args:
        content: positional arguments of `OptionList`.
        field: selector of an `Input` on the same screen that takes what is typed while the list has the focus. Without
            it, a typed name is lost, and Enter after it chooses whatever option the cursor is at.
        options: keyword arguments of `OptionList`.
    """

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

    def __init__(self, *content: Any, field: str | None = None, **options: Any) -> None:
        super().__init__(*content, **options)
        self._field = field

    def on_key(self, event: KeyPress) -> None:
        """Move the focus to the field with what is typed: letters, also those that are bound, and other unbound keys.

        A name may begin with any letter: `q` of qwen must not quit the app.
        """
        if self._field is None or event.character is None or not event.is_printable:
            return
        if event.character.isalpha() or event.key not in self.screen.active_bindings:
            event.stop()
            field = self.screen.query_one(self._field, Input)
            # At once, not by focus(): the field must select its text for the key to replace before the key arrives.
            self.screen.set_focus(field)
            field.post_message(KeyPress(event.key, event.character))


class TickList(SelectionList[Key]):
    """A `SelectionList` to choose several options from; it draws ``[x]`` and ``[ ]`` instead of two colours."""

    DEFAULT_CSS = """
    TickList {
        border: none;
        padding: 0;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &:focus { border: none; background-tint: transparent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "cursor_up", "up", id="tick.up", show=False),
        Binding("j", "cursor_down", "down", id="tick.down", show=False),
    ]

    def render_line(self, y: int) -> Strip:
        """One row, its button replaced by ``[x]`` or ``[ ]``."""
        button, rest = self._split_button(super().render_line(y))
        if not button:
            return Strip(rest)
        index = self.scroll_offset.y + y
        selected = self.get_option_at_index(index).value in self.selected
        style = rest[0].style
        button_style = button[1].style
        if style is not None and button_style is not None:
            # The metadata of the button's style says which option a click belongs to.
            style += button_style.from_meta(button_style.meta)
        return Strip([Segment("[x]" if selected else "[ ]", style), *rest])

    def _split_button(self, strip: Strip) -> tuple[list[Segment], list[Segment]]:
        """The segments of the button, none on an empty row, and the segments behind it."""
        segments = list(strip)
        if self.scroll_offset.y >= self.option_count or len(segments) <= _BUTTON_SEGMENTS:
            return [], segments
        return segments[:_BUTTON_SEGMENTS], segments[_BUTTON_SEGMENTS:]
