"""A progress bar of a run's steps, and beside it the parts of the title row that did not fit there."""

from collections.abc import Sequence
from math import isnan
from typing import ClassVar

from dpo_tui.text.numbers import whole_percent
from dpo_tui.views.styled_text import StyledRow, join_parts, row_width
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("done", "rest", "percent", "value", "muted")
_SHORTEST = 16
"""Cells that the bar keeps beside other parts."""


def bar(fraction: float, width: int) -> tuple[str, str]:
    """The filled and the empty part of a bar, drawn in halves of a cell.

    Args:
        fraction: the filled share, clipped to 0 to 1; NaN counts as 0.
        width: cells of the whole bar.
    """
    fraction = 0.0 if isnan(fraction) else min(max(fraction, 0.0), 1.0)
    halves = int(fraction * width * 2)
    full, half = divmod(halves, 2)
    return "━" * full + ("╸" if half else ""), "─" * (width - full - half)


class StepBar(RowsWidget):
    """One row with a bar and the percentage; without a known total the bar is empty and there is no number.

    Parts that a `TitleRow` of the same width leaves out follow where there is room.

    Attributes:
        fraction: the share that is done, or None.
    """

    DEFAULT_CSS = """
    StepBar {
        height: 1;
        & > .step-bar--done { color: $accent; }
        & > .step-bar--rest { color: $chart-axis; }
        & > .step-bar--percent { color: $text; }
        & > .step-bar--value { color: $text; }
        & > .step-bar--muted { color: $text-muted; }
    }
    """
    PREFIX = "step-bar"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    fraction: float | None = None
    _above: Sequence[StyledRow] = ()

    def show(self, fraction: float | None, above: Sequence[StyledRow] = ()) -> None:
        """Show a state of the run.

        Args:
            fraction: the share that is done, 0 to 1; None while the total is unknown.
            above: all parts of the `TitleRow` above.
        """
        self.fraction = fraction
        self._above = above
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The bar, the percentage right-aligned in five cells, and what did not fit into the row above."""
        percent = "     " if self.fraction is None else f"{whole_percent(self.fraction):>3} %"
        _, left = join_parts(self._above, width)
        most = width - 7 - 3 - _SHORTEST
        beside, _ = join_parts(left, most)
        if row_width(beside) > most:
            beside = []
        elif beside:
            beside = [("   ", "muted"), *beside]
        done, rest = bar(self.fraction or 0.0, max(width - 7 - row_width(beside), 1))
        return [[(done, "done"), (rest, "rest"), (f"  {percent}", "percent"), *beside]]
