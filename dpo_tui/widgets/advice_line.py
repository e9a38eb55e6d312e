"""The advice line: a sentence about how the run is doing, and the remedy that a key applies."""

from textwrap import wrap
from typing import ClassVar

from dpo_tui.text.printable import printable
from dpo_tui.views.advice_sentence import AdviceSentence, Tone
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("good", "note", "warn", "bad", "text", "remedy")
_GLYPHS: dict[Tone, str] = {"good": "✓", "note": "·", "warn": "⚠", "bad": "✗"}


class AdviceLine(RowsWidget):
    """A glyph and a sentence, wrapped, and the remedy in the row below.

    Its height follows the sentence up to its ``max-height``.
    """

    DEFAULT_CSS = """
    AdviceLine {
        height: auto;
        min-height: 2;
        max-height: 4;
        & > .advice--good { color: $text-success; }
        & > .advice--note { color: $text-muted; }
        & > .advice--warn { color: $text-warning; }
        & > .advice--bad { color: $text-error; text-style: bold; }
        & > .advice--text { color: $text; }
        & > .advice--remedy { color: $text-accent; }
    }
    """
    PREFIX = "advice"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    advice = AdviceSentence("note", "")
    remedy_key = ""
    """The key that applies the remedy, shown before it; without a key the remedy is not shown."""

    def show(self, advice: AdviceSentence) -> None:
        """Replace the sentence."""
        if advice == self.advice:
            return
        before = self._rows_needed(self.size.width)
        self.advice = advice
        if self._rows_needed(self.size.width) != before:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """The rows of the wrapped sentence and of the remedy, one at least."""
        return max(self._rows_needed(width), 1)

    def _rows_needed(self, width: int) -> int:
        return len(self._lines(width)) + bool(self._remedy())

    def _lines(self, width: int, rows: int | None = None) -> list[str]:
        text = printable(self.advice.text, single_line=True)
        return wrap(text, max(width - 2, 1), max_lines=rows, placeholder=" …")

    def _remedy(self) -> str:
        return printable(self.advice.remedy, single_line=True) if self.remedy_key else ""

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The sentence, cut with an ellipsis where it does not fit, and the remedy if there are two rows or more."""
        if not self.advice.text:
            return []
        remedy = self._remedy() if height > 1 else ""
        glyph = _GLYPHS[self.advice.tone]
        rows: list[StyledRow] = [
            [(f"{glyph if not index else ' '} ", self.advice.tone), (line, "text")]
            for index, line in enumerate(self._lines(width, height - bool(remedy)))
        ]
        if remedy:
            rows.append([(f"  {self.remedy_key} tries {remedy}", "remedy")])
        return rows
