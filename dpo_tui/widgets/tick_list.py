"""A list to tick several things in; a tick is a sign and not a colour alone."""

from typing import ClassVar, TypeVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widgets import SelectionList

Key = TypeVar("Key")
_BUTTON = 3
"""Segments that Textual draws for the button: the same sign ticked or not, told apart by colour."""


class TickList(SelectionList[Key]):
    """A `SelectionList` that draws ``[x]`` and ``[ ]``, with vi's keys too."""

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
        """The row with its tick."""
        button, rest = self._split(super().render_line(y))
        if not button:
            return Strip(rest)
        index = self.scroll_offset.y + y
        ticked = self.get_option_at_index(index).value in self.selected
        style = rest[0].style
        meta = button[1].style
        if style is not None and meta is not None:
            style += meta.from_meta(meta.meta)
        return Strip([Segment("[x]" if ticked else "[ ]", style), *rest])

    def _split(self, strip: Strip) -> tuple[list[Segment], list[Segment]]:
        segments = list(strip)
        if self.scroll_offset.y >= self.option_count or len(segments) <= _BUTTON:
            return [], segments
        return segments[:_BUTTON], segments[_BUTTON:]
