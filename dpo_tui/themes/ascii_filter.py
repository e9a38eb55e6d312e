"""ASCII mode: a Textual line filter that replaces glyphs in every strip on its way to the terminal.

Borders, scrollbars and dialogs of Textual go through it too, so no widget needs to know the mode.
"""

import codecs

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from dpo_tui.themes.glyphs import in_ascii


class AsciiFilter(LineFilter):
    """LineFilter that draws the ASCII equivalent of every glyph.

    Args:
        charset: the terminal's character set; letters that it can show are kept.
        console: whether it is the Linux console.
    """

    def __init__(self, charset: str = "ascii", *, console: bool = False) -> None:
        super().__init__()
        self._console = console
        self._charset = codecs.lookup(charset).name

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace the glyphs of a strip; each segment keeps its width in cells."""
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(in_ascii(segment.text, self._charset, console=self._console), segment.style)
            for segment in segments
        ]
