"""A preference pair to read: the prompt and both answers, side by side or stacked, with their differences marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType

from dpo_tui.views.styled_text import StyledRow, row_width, wrap_pieces
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("prompt", "head", "same", "chosen", "rejected", "note", "bad", "decided")
NARROW = 72
"""Width in cells below which the answers are stacked."""


@dataclass(frozen=True, slots=True)
class PairContent:
    """The texts of a pair, untrusted.

    Args:
        prompt: the prompt.
        chosen: pieces of the chosen answer: (text, whether the rejected answer lacks it).
        rejected: pieces of the rejected answer, likewise.
        chosen_words: number of words in the chosen answer.
        rejected_words: number of words in the rejected answer.
        problem: why the row gives no pair; the other texts are empty then.
        source: the row as it stands in the file, where it gives no pair.
        decided: the user's decisions about the row, such as ``dropped``; empty for none.
    """

    prompt: str = ""
    chosen: tuple[tuple[str, bool], ...] = ()
    rejected: tuple[tuple[str, bool], ...] = ()
    chosen_words: int = 0
    rejected_words: int = 0
    problem: str = ""
    source: str = ""
    decided: str = ""


class PairView(RowsWidget, can_focus=True):
    """Shows a `PairContent` and scrolls it by rows.

    Args:
        id: the ID of the widget in the DOM.

    Attributes:
        pair: what is shown.
    """

    DEFAULT_CSS = """
    PairView {
        height: 1fr;
        & > .pair--prompt { color: $text; }
        & > .pair--head { color: $text-muted; }
        & > .pair--same { color: $text; }
        & > .pair--chosen { color: $text-success; text-style: bold; }
        & > .pair--rejected { color: $text-warning; text-style: bold; }
        & > .pair--note { color: $text-muted; }
        & > .pair--bad { color: $text-error; }
        & > .pair--decided { color: $text-accent; text-style: bold; }
    }
    """
    PREFIX = "pair"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "up", id="pair.up", show=False),
        Binding("down,j", "scroll_by(1)", "down", id="pair.down", show=False),
        Binding("pageup", "scroll_by(-12)", "page up", id="pair.page-up", show=False),
        Binding("pagedown", "scroll_by(12)", "page down", id="pair.page-down", show=False),
        Binding("Y", "copy", "copy", id="pair.copy", show=False),
    ]
    HELP = "↑/↓ scroll a long pair · words that only one answer has are marked"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.pair = PairContent()
        self._top = 0
        self._count = 0

    def show(self, pair: PairContent) -> None:
        """Show a pair from its top."""
        self.pair, self._top = pair, 0
        self.redraw()

    def action_scroll_by(self, rows: int) -> None:
        """Scroll by a number of rows."""
        self._top = min(max(self._top + rows, 0), max(self._count - self.size.height, 0))
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows in view."""
        rows = self._all_rows(width)
        self._count = len(rows)
        return rows[self._top : self._top + height]

    def _all_rows(self, width: int) -> list[StyledRow]:
        pair = self.pair
        rows: list[StyledRow] = []
        if pair.decided:
            rows += [[(pair.decided, "decided")], []]
        if pair.problem:
            note = "training and a repaired copy leave this row out · e writes a pair in its place"
            rows += [*wrap_pieces([(pair.problem, "bad")], width), *wrap_pieces([(note, "note")], width)]
            if not pair.source:
                return rows
            rule = f"─ the row as it is {'─' * width}"[:width]
            return [*rows, [], [(rule, "head")], *wrap_pieces([(pair.source, "prompt")], width)]
        rows += [*wrap_pieces([(pair.prompt, "prompt")], width), []]
        sides = [
            ("chosen", _roles(pair.chosen, "chosen"), pair.chosen_words),
            ("rejected", _roles(pair.rejected, "rejected"), pair.rejected_words),
        ]
        return [*rows, *two_answers(sides, width, stacked=width < NARROW)]


def two_answers(sides: Sequence[tuple[str, StyledRow, int]], width: int, *, stacked: bool) -> list[StyledRow]:
    """Lay out two answers, each under a rule with its name and number of words.

    Args:
        sides: (name, text, number of words) of each answer.
        width: cells for both.
        stacked: whether one goes below the other instead of beside it.
    """
    divider = " │ "
    if stacked:
        return [
            row
            for name, text, count in sides
            for row in (_answer_heading(name, count, width), *wrap_pieces(text, width), [])
        ]
    half = (width - len(divider)) // 2
    columns = [[_answer_heading(name, count, half), *wrap_pieces(text, half)] for name, text, count in sides]
    rows: list[StyledRow] = []
    for index in range(max(map(len, columns))):
        left, right = (column[index] if index < len(column) else [] for column in columns)
        rows.append([*left, (" " * (half - row_width(left)), "note"), (divider, "head"), *right])
    return rows


def _roles(pieces: tuple[tuple[str, bool], ...], side: str) -> StyledRow:
    """Pieces with the role of their side where the other answer lacks them."""
    return [(text, side if only else "same") for text, only in pieces]


def _answer_heading(name: str, count: int, width: int) -> StyledRow:
    counted = f"{count:,} words" if count != 1 else "1 word"
    fill = max(width - len(name) - len(counted) - 4, 1)
    return [(f"─ {name} {'─' * fill} {counted}"[:width], "head")]
