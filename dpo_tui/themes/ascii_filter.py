"""ASCII mode in one place: what every screen draws, on its way to the terminal.

The filter sees each strip, borders, scrollbars and dialogs of Textual included. So no widget has to remember the mode,
and what is drawn newly tomorrow is in ASCII as well.
"""

import codecs

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from dpo_tui.themes.glyphs import in_ascii


class AsciiFilter(LineFilter):
    """Draws the ASCII twin of every glyph.

    Args:
        charset: the terminal's; letters of other people's text that it can show are kept.
    """

    def __init__(self, charset: str = "ascii") -> None:
        super().__init__()
        self._charset = codecs.lookup(charset).name

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells in ASCII."""
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(in_ascii(segment.text, self._charset), segment.style)
            for segment in segments
        ]
