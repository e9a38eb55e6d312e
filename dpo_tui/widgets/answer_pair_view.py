"""Two answers to judge without knowing which model gave which: side by side, or stacked where it is narrow."""

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType

from dpo_tui.views.styled_text import StyledRow, wrap_pieces
from dpo_tui.widgets.pair_view import two_answers
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("prompt", "head", "answer", "note", "more")
NARROW = 90
"""Width in cells below which the answers are stacked: two columns of less than 45 are hard to read."""
EMPTY = "(an empty answer)"


@dataclass(frozen=True, slots=True)
class BlindAnswers:
    """A prompt and two answers, as untrusted text.

    Args:
        prompt: the prompt, all its messages.
        left: answer A.
        right: answer B.
    """

    prompt: str = ""
    left: str = ""
    right: str = ""


class AnswerPairView(RowsWidget, can_focus=True):
    """Shows an `BlindAnswers` and scrolls it by rows.

    Args:
        id: the ID of the widget in the DOM.

    Attributes:
        pair: what is shown.
    """

    DEFAULT_CSS = """
    AnswerPairView {
        height: 1fr;
        & > .ballot--prompt { color: $text; text-style: bold; }
        & > .ballot--head { color: $text-accent; }
        & > .ballot--answer { color: $text; }
        & > .ballot--note { color: $text-muted; }
        & > .ballot--more { color: $text-muted; }
    }
    """
    PREFIX = "ballot"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up", id="ballot.up", show=False),
        Binding("down,j", "scroll_by(1)", "down", id="ballot.down", show=False),
        Binding("pageup", "scroll_pages(-1)", "page up", id="ballot.page-up", show=False),
        Binding("pagedown,space", "scroll_pages(1)", "page down", id="ballot.page-down", show=False),
        Binding("Y", "copy", "copy", id="ballot.copy", show=False),
    ]
    HELP = "↑/↓ and page keys scroll long answers · Y copies what is shown"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.pair = BlindAnswers()
        self._top = 0
        self._count = 0

    def show(self, pair: BlindAnswers) -> None:
        """Show a pair; one that differs from the pair shown is shown from its top."""
        if pair != self.pair:
            self._top = 0
        self.pair = pair
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows in view; where more are below, the last one gives their number."""
        rows = self._all_rows(width)
        self._count = len(rows)
        self._top = min(self._top, self._last_top(height))
        below = self._count - self._top - height
        if below <= 0:
            return rows[self._top : self._top + height]
        return [*rows[self._top : self._top + height - 1], [(f"↓ {below + 1:,} more rows", "more")]]

    def action_scroll_by(self, rows: int) -> None:
        """Scroll by a number of rows."""
        self._top = min(max(self._top + rows, 0), self._last_top(self.size.height))
        self.redraw()

    def action_scroll_pages(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll_by(pages * max(self.size.height - 2, 1))

    def _last_top(self, height: int) -> int:
        return max(self._count - height, 0)

    def _all_rows(self, width: int) -> list[StyledRow]:
        pair = self.pair
        sides = [
            (name, [(text, "answer") if text.strip() else (EMPTY, "note")], len(text.split()))
            for name, text in (("A  left", pair.left), ("B  right", pair.right))
        ]
        answers = two_answers(sides, width, stacked=width < NARROW)
        return [*wrap_pieces([(pair.prompt, "prompt")], width), [], *answers]
