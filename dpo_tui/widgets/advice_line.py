"""The one place that speaks in sentences: how it is going, in words, and what to do."""

from textwrap import wrap
from typing import ClassVar

from dpo_tui.plain import printable
from dpo_tui.widgets.advice import Advice, Tone
from dpo_tui.widgets.pieces import Row
from dpo_tui.widgets.rows import RowsWidget, component_classes

ROLES = ("good", "note", "warn", "bad", "text")
_GLYPHS: dict[Tone, tuple[str, str]] = {"good": ("✓", "+"), "note": ("·", "-"), "warn": ("⚠", "!"), "bad": ("✗", "x")}


class AdviceLine(RowsWidget):
    """A glyph and a sentence, wrapped into the rows there are."""

    DEFAULT_CSS = """
    AdviceLine {
        height: 2;
        & > .advice--good { color: $text-success; }
        & > .advice--note { color: $text-muted; }
        & > .advice--warn { color: $text-warning; }
        & > .advice--bad { color: $text-error; text-style: bold; }
        & > .advice--text { color: $text; }
    }
    """
    PREFIX = "advice"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    advice = Advice("note", "")
    ascii_only = False

    def say(self, advice: Advice, *, ascii_only: bool = False) -> None:
        """Replace the sentence."""
        self.advice, self.ascii_only = advice, ascii_only
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[Row]:
        """The sentence, cut with an ellipsis where it does not fit."""
        words = printable(self.advice.text, single_line=True)
        if not words:
            return []
        lines = wrap(words, max(width - 2, 1), max_lines=height, placeholder=" …")
        glyph = _GLYPHS[self.advice.tone][1 if self.ascii_only else 0]
        return [
            [(f"{glyph if not index else ' '} ", self.advice.tone), (line, "text")] for index, line in enumerate(lines)
        ]
