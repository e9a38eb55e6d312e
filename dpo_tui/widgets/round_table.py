"""The rounds of an improvement as columns of figures, with a cursor on one of them."""

from typing import ClassVar

from rich.cells import cell_len, set_cell_size

from dpo_tui.text.printable import printable
from dpo_tui.views.improvement_view import ImprovementView, RoundColumn
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("name", "value", "muted", "here", "warn")
_NAME, _COLUMN = 18, 20
"""Cells of the names of the rows, and of a round."""


class RoundTable(RowsWidget):
    """Shows the rounds; where they do not fit, those around the cursor.

    Args:
        id: the ID of the widget in the DOM.

    Attributes:
        cursor: the number of the round under the cursor; 0 before there is one.
    """

    DEFAULT_CSS = """
    RoundTable {
        height: 9;
        & > .rounds--name { color: $text-muted; }
        & > .rounds--value { color: $text; }
        & > .rounds--muted { color: $text-muted; }
        & > .rounds--warn { color: $text-warning; }
        & > .rounds--here { color: $text-accent; text-style: bold; }
    }
    """
    PREFIX = "rounds"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._view = ImprovementView("")
        self.cursor = 0

    def show(self, view: ImprovementView) -> None:
        """Show an improvement. The cursor follows the newest round while it is on it."""
        newest = self._view.rounds[-1].number if self._view.rounds else 0
        self._view = view
        if self.cursor == newest and view.rounds:
            self.cursor = view.rounds[-1].number
        self.redraw()

    @property
    def current(self) -> RoundColumn | None:
        """The round under the cursor."""
        return next((one for one in self._view.rounds if one.number == self.cursor), None)

    def move(self, by: int) -> None:
        """Move the cursor by a number of rounds."""
        if self._view.rounds:
            self.cursor = min(max(self.cursor + by, 1), self._view.rounds[-1].number)
            self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """A row of heads, and one for each figure."""
        rounds = self._shown(width)
        if not rounds:
            return [[("No round has begun yet.", "muted")]]
        head: StyledRow = [(set_cell_size("", _NAME), "name")]
        for one in rounds:
            here = one.number == self.cursor
            text = f"{'▸' if here else ' '}round {one.number}{'' if one.complete else ' …'}"
            head.append((_cell(text), "here" if here else "muted"))
        rows = [head]
        for name in self._view.rows:
            row: StyledRow = [(set_cell_size(name, _NAME), "name")]
            for one in rounds:
                role = "warn" if name == "warnings" and one.warnings else "value"
                row.append((_cell(f" {one.figures.get(name, '')}"), role))
            rows.append(row)
        return rows[:height]

    def _shown(self, width: int) -> tuple[RoundColumn, ...]:
        fit = max((width - _NAME) // _COLUMN, 1)
        first = min(max(self.cursor - fit // 2 - 1, 0), max(len(self._view.rounds) - fit, 0))
        return self._view.rounds[first : first + fit]


def _cell(text: str) -> str:
    text = printable(text, single_line=True)
    return set_cell_size(text if cell_len(text) < _COLUMN else f"{set_cell_size(text, _COLUMN - 2)}…", _COLUMN)
