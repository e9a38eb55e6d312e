"""A step bar: how far a run is, in halves of a cell, and beside it what the row above has no room for."""

from collections.abc import Sequence
from math import isnan
from typing import ClassVar

from dpo_tui.views.styled_text import StyledRow, join_parts, row_width
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("done", "rest", "percent", "value", "muted")
_SHORTEST = 16
"""Cells that the bar keeps."""


def bar(fraction: float, width: int) -> tuple[str, str]:
    """The filled and the empty part of a bar of ``width`` cells.

    Args:
        fraction: 0 to 1; anything else is clipped, NaN counts as 0.
        width: cells.
    """
    fraction = 0.0 if isnan(fraction) else min(max(fraction, 0.0), 1.0)
    halves = int(fraction * width * 2)
    full, half = divmod(halves, 2)
    return "━" * full + ("╸" if half else ""), "─" * (width - full - half)


class StepBar(RowsWidget):
    """One row: a bar and the percentage; an unknown total shows an empty bar and no number.

    Parts that a `TitleRow` of the same width leaves out follow where there is room.
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
        """Move the bar.

        Args:
            fraction: between 0 and 1, or None while the total is unknown.
            above: the parts of the `TitleRow` above.
        """
        self.fraction = fraction
        self._above = above
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Bar, then the percentage right-aligned in five cells, then what is left of the row above."""
        percent = "     " if self.fraction is None else f"{int(self.fraction * 100):>3} %"
        _, left = join_parts(self._above, width)
        most = width - 7 - 3 - _SHORTEST
        beside, _ = join_parts(left, most)
        if row_width(beside) > most:
            beside = []
        elif beside:
            beside = [("   ", "muted"), *beside]
        done, rest = bar(self.fraction or 0.0, max(width - 7 - row_width(beside), 1))
        return [[(done, "done"), (rest, "rest"), (f"  {percent}", "percent"), *beside]]
