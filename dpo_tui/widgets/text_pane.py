"""A page of paragraphs, wrapped to its width and scrolled by keys; text is never interpreted as markup."""

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from textual.binding import Binding, BindingType

from dpo_tui.text.printable import printable
from dpo_tui.views.styled_text import Paragraph, StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("text", "heading", "muted", "accent", "good", "warn", "bad", "code")


class TextPane(RowsWidget, can_focus=True):
    """A page of paragraphs.

    Args:
        paragraphs: the text at first.
        follow: whether to stay at the end when text is added.
        id: the ID of the widget in the DOM.
    """

    DEFAULT_CSS = """
    TextPane {
        height: 1fr;
        & > .text--text { color: $text; }
        & > .text--heading { color: $text-accent; text-style: bold; }
        & > .text--muted { color: $text-muted; }
        & > .text--accent { color: $text-accent; }
        & > .text--good { color: $text-success; }
        & > .text--warn { color: $text-warning; }
        & > .text--bad { color: $text-error; }
        & > .text--code { color: $text; }
    }
    """
    PREFIX = "text"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up", id="text.up", show=False),
        Binding("down,j", "scroll_by(1)", "down", id="text.down", show=False),
        Binding("pageup", "scroll_pages(-1)", "page up", id="text.page-up", show=False),
        Binding("pagedown,space", "scroll_pages(1)", "page down", id="text.page-down", show=False),
        Binding("Y", "copy", "copy", id="text.copy", show=False),
        Binding("home,g", "scroll_by(-1000000)", "start", id="text.first", show=False),
        Binding("end,G", "scroll_by(1000000)", "end", id="text.last", show=False),
    ]
    HELP = "↑/↓ and page keys scroll · g start · G end · Y copies what is shown"

    def __init__(
        self,
        paragraphs: Sequence[Paragraph] = (),
        *,
        follow: bool = False,
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self._paragraphs = tuple(paragraphs)
        self._follow = follow
        self._top = 0
        self._wrapped: tuple[int, list[StyledRow]] = (-1, [])

    def show(self, paragraphs: Sequence[Paragraph], *, top: bool = False) -> None:
        """Replace the text.

        Args:
            paragraphs: the new text.
            top: whether to scroll to the top; otherwise the position is kept.
        """
        if tuple(paragraphs) == self._paragraphs:
            return
        self._paragraphs = tuple(paragraphs)
        self._wrapped = (-1, [])
        if top:
            self._top = 0
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows in view."""
        if self._wrapped[0] != width:
            at_end = self._follow and self._top >= len(self._wrapped[1]) - height
            self._wrapped = (width, [row for paragraph in self._paragraphs for row in _wrap(paragraph, width)])
            if at_end:
                self._top = len(self._wrapped[1])
        rows = self._wrapped[1]
        self._top = min(max(self._top, 0), max(len(rows) - height, 0))
        shown = rows[self._top : self._top + height]
        below = len(rows) - self._top - len(shown)
        if below and height > 1:
            shown[-1] = [(f"↓ {below + 1} more", "muted")]
        return shown

    def action_scroll_by(self, rows: int) -> None:
        """Scroll by a number of rows."""
        self._top = min(max(self._top + rows, 0), max(len(self._wrapped[1]) - self.size.height, 0))
        self.redraw()

    def action_scroll_pages(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll_by(pages * max(self.size.height - 1, 1))


def _wrap(paragraph: Paragraph, width: int) -> list[StyledRow]:
    """The rows of a paragraph; wrapped lines are indented like the line that they belong to."""
    text, role = paragraph
    rows: list[StyledRow] = []
    for line in printable(text).expandtabs(4).split("\n"):
        if not line.strip():
            rows.append([])
            continue
        indent = " " * min(len(line) - len(line.lstrip()), max(width - 8, 0))
        pieces = wrap(line, max(width, 8), subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)
        rows += [[(piece, role)] for piece in pieces]
    return rows
