"""The title row of a screen: what it shows on the left, the state of the machine or of work on the right."""

from typing import ClassVar

from dpo_tui.views.plot import COLOURS
from dpo_tui.views.styled_text import StyledRow, join_parts, justified
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = (
    *("title", "good", "busy", "bad", "warn", "quiet", "value", "muted", "accent"),
    *(f"line-{index + 1}" for index in range(COLOURS)),
)


class TitleRow(RowsWidget):
    """A row of parts; the last ones are left out where there is no room.

    Args:
        title: the only part at first.
        id: the ID of the widget in the DOM.
    """

    DEFAULT_CSS = """
    TitleRow {
        height: 1;
        & > .title--title { color: $text; text-style: bold; }
        & > .title--accent { color: $text-accent; text-style: bold; }
        & > .title--good { color: $text-success; }
        & > .title--busy { color: $text-accent; }
        & > .title--bad { color: $text-error; text-style: bold; }
        & > .title--warn { color: $text-warning; }
        & > .title--quiet { color: $text-muted; }
        & > .title--value { color: $text; }
        & > .title--muted { color: $text-muted; }
        & > .title--line-1 { color: $chart-1; }
        & > .title--line-2 { color: $chart-2; }
        & > .title--line-3 { color: $chart-3; }
        & > .title--line-4 { color: $chart-4; }
        & > .title--line-5 { color: $chart-5; }
        & > .title--line-6 { color: $chart-6; }
    }
    """
    PREFIX = "title"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._left: list[StyledRow] = [[(title, "title")]]
        self._right: StyledRow = []

    def show(self, left: list[StyledRow], right: StyledRow | None = None) -> None:
        """Replace the row.

        Args:
            left: parts from the left, the most important first; their text is made printable.
            right: what to show at the right end, if there is room.
        """
        self._left = left
        self._right = right or []
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """As many parts as fit."""
        row, _ = join_parts(self._left, width)
        return [justified(row, self._right, width)]
