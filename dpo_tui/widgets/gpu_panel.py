"""The GPU panel: every GPU in the largest size of `dpo_tui.views.gpu_text` in which all of them fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

from dpo_tui.text.printable import printable
from dpo_tui.views.gpu_text import TALL_ROWS, GpuHistory, brief, compact, tall
from dpo_tui.views.styled_text import StyledRow, padded
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("name", "label", "value", "history", "hot")
_WIDTHS = {"tall": 64, "compact": 80, "brief": 26}
"""Cells that one GPU needs in each size, with the gap to the next one."""
_GAP = 2
Form = Literal["tall", "compact", "brief"]


class GpuPanel(RowsWidget):
    """Every GPU in at most `room` rows.

    Attributes:
        gpus: what is shown.
        absence: what is shown instead of GPUs.
        room: rows that the panel may take.
    """

    DEFAULT_CSS = """
    GpuPanel {
        height: auto;
        & > .gpu--name { color: $text; }
        & > .gpu--label { color: $text-muted; }
        & > .gpu--value { color: $text; }
        & > .gpu--history { color: $chart-1; }
        & > .gpu--hot { color: $text-error; text-style: bold; }
    }
    """
    PREFIX = "gpu"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    gpus: tuple[GpuHistory, ...] = ()
    absence = "no GPU here: training runs on the CPU"
    room = 3

    def show(self, gpus: Sequence[GpuHistory], *, absence: str | None = None) -> None:
        """Show new readings.

        Args:
            gpus: the GPUs.
            absence: what to show where there is none; None leaves the text as it is.
        """
        layout = len(gpus) != len(self.gpus)
        self.gpus = tuple(gpus)
        if absence is not None:
            self.absence = printable(absence, single_line=True)
        if layout:
            self.refresh(layout=True)
        self.redraw()

    def make_room(self, rows: int) -> None:
        """Set how many rows the panel may take."""
        if rows != self.room:
            self.room = rows
            self.refresh(layout=True)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """The rows that the GPUs take; one where there is none."""
        return arrange(len(self.gpus), width, self.room).rows

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """GPUs from left to right and from top to bottom; the last place counts those for which there is no room."""
        if not self.gpus:
            return [[(self.absence[:width], "label")]]
        layout = arrange(len(self.gpus), width, min(self.room, height))
        cell = width // layout.columns
        drawn = [_draw(gpu, layout.form, cell - _GAP if layout.columns > 1 else width) for gpu in self.gpus]
        if layout.places < len(drawn):
            drawn[layout.places - 1 :] = [[[(f"+{len(drawn) - layout.places + 1} more", "label")]]]
        rows: list[StyledRow] = []
        for start in range(0, len(drawn), layout.columns):
            if rows and layout.form == "tall":
                rows.append([])
            side_by_side = zip(*drawn[start : start + layout.columns], strict=True)
            rows += [[piece for part in parts for piece in padded(part, cell, "label")] for parts in side_by_side]
        return rows


@dataclass(frozen=True, slots=True)
class PanelLayout:
    """The layout of a panel.

    Args:
        form: the size of each GPU.
        columns: GPUs side by side.
        rows: rows of the panel.
        places: how many GPUs have room.
    """

    form: Form
    columns: int
    rows: int
    places: int


def arrange(count: int, width: int, room: int) -> PanelLayout:
    """Choose the largest size in which all GPUs fit; where none does, the smallest, for as many as fit.

    Args:
        count: number of GPUs.
        width: cells of the panel.
        room: rows that the panel may take.
    """
    forms: tuple[Form, ...] = ("tall", "compact", "brief")
    for form in forms:
        columns = max(min(width // _WIDTHS[form], count), 1)
        lines = ceil(max(count, 1) / columns)
        rows = lines * (TALL_ROWS + 1) - 1 if form == "tall" else lines
        if count and rows <= room and (width >= _WIDTHS[form] or form != "tall"):
            return PanelLayout(form, columns, rows, count)
    rows = max(min(room, lines), 1) if count else 1
    return PanelLayout("brief", columns, rows, columns * rows)


def _draw(gpu: GpuHistory, form: Form, width: int) -> list[StyledRow]:
    if form == "tall":
        return tall(gpu, width)
    return [brief(gpu) if form == "brief" else compact(gpu, width)]
