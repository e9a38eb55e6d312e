"""A step bar: how far a run is, in halves of a cell."""

from math import isnan
from typing import ClassVar

from dpo_tui.widgets.pieces import Row
from dpo_tui.widgets.rows import RowsWidget, component_classes

ROLES = ("done", "rest", "percent")


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
    """One row: a bar and the percentage; an unknown total shows an empty bar and no number."""

    DEFAULT_CSS = """
    StepBar {
        height: 1;
        & > .step-bar--done { color: $accent; }
        & > .step-bar--rest { color: $chart-axis; }
        & > .step-bar--percent { color: $text; }
    }
    """
    PREFIX = "step-bar"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    fraction: float | None = None

    def show(self, fraction: float | None) -> None:
        """Move the bar to a fraction between 0 and 1, or None while the total is unknown."""
        self.fraction = fraction
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[Row]:
        """Bar, then the percentage right-aligned in five cells."""
        percent = "     " if self.fraction is None else f"{int(self.fraction * 100):>3} %"
        done, rest = bar(self.fraction or 0.0, max(width - 7, 1))
        return [[(done, "done"), (rest, "rest"), (f"  {percent}", "percent")]]
