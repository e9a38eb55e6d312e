"""A line chart of metrics over training steps.

It is redrawn when its owner calls `redraw` after the data grew, not while it is hidden, and repaints only the cells
that differ (`dpo_tui.widgets.rows_widget`), which keeps the traffic over SSH small. Next: `dpo_tui.views.plot` turns
series, smoothed where the user wants that (`dpo_tui.views.smoothing`), into rows of text.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui.themes.themed_app import has_few_colours
from dpo_tui.views.plot import COLOURS, PlotLine, PlotStyle, PlotWindow, draw, steps_shown
from dpo_tui.views.series import Series
from dpo_tui.views.smoothing import SmoothedSeries
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

SMOOTHING = (None, 0.0, 0.6, 0.9, 0.97, 0.99)
"""Decays that the key ``m`` goes through: None chooses one by the number of points, 0 is no smoothing."""

AUTOMATIC = ((2000, 0.97), (100, 0.9))
"""(points, decay) of automatic smoothing: the first whose number of points a series has; none below the last."""

ROLES = ("title", "value", "axis", "raw", "reference", "cursor", *(f"line-{index + 1}" for index in range(COLOURS)))

MIN_WIDTH = 34
MIN_HEIGHT = 5
"""Cells and rows in which a chart is legible."""


class LineChart(RowsWidget, can_focus=True):
    """Lines over steps with a title, the latest value, axes and a value cursor.

    Args:
        plot_style: title, unit, reference line and limits.
        lines: the lines at first; `set_lines` replaces them.
        log: whether the y axis is logarithmic at first.
        name: the name of the widget.
        id: the ID of the widget in the DOM.
        classes: the CSS classes of the widget.

    Attributes:
        chart_window: the part of the data in view.
        smoothing: index of the decay in `SMOOTHING`.
    """

    DEFAULT_CSS = """
    LineChart {
        height: 1fr;
        width: 1fr;
        min-height: 5;
        & > .chart--title { color: $text; text-style: none; }
        & > .chart--value { color: $text; text-style: bold; }
        & > .chart--axis { color: $chart-axis; }
        & > .chart--raw { color: $chart-raw; text-style: $chart-raw-style; }
        & > .chart--reference { color: $chart-reference; }
        & > .chart--cursor { color: $chart-cursor; }
        & > .chart--line-1 { color: $chart-1; }
        & > .chart--line-2 { color: $chart-2; }
        & > .chart--line-3 { color: $chart-3; }
        & > .chart--line-4 { color: $chart-4; }
        & > .chart--line-5 { color: $chart-5; }
        & > .chart--line-6 { color: $chart-6; }
        &:focus > .chart--title { color: $accent; text-style: bold; }
    }
    """
    PREFIX = "chart"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "enlarge", "enlarge", id="chart.enlarge"),
        Binding("left,h", "cursor(-1)", "cursor", id="chart.cursor-left", show=False),
        Binding("right,l", "cursor(1)", "cursor", id="chart.cursor-right", show=False),
        Binding("shift+left,H", "cursor(-10)", "cursor ×10", id="chart.cursor-left-far", show=False),
        Binding("shift+right,L", "cursor(10)", "cursor ×10", id="chart.cursor-right-far", show=False),
        Binding("plus,equals_sign", "zoom(2)", "zoom in", id="chart.zoom-in", show=False),
        Binding("minus", "zoom(0.5)", "zoom out", id="chart.zoom-out", show=False),
        Binding("left_square_bracket", "pan(-0.5)", "earlier", id="chart.pan-left", show=False),
        Binding("right_square_bracket", "pan(0.5)", "later", id="chart.pan-right", show=False),
        Binding("right_curly_bracket", "zoom_values(2)", "zoom values", id="chart.zoom-values-in", show=False),
        Binding("left_curly_bracket", "zoom_values(0.5)", "unzoom values", id="chart.zoom-values-out", show=False),
        Binding("y", "toggle_log", "log y", id="chart.log", show=False),
        Binding("m", "smooth", "smooth", id="chart.smooth", show=False),
        Binding("0", "reset", "whole run", id="chart.reset", show=False),
    ]
    HELP = """\
    ←/→ move the value cursor (shift: ten times as far) · + − zoom the steps · [ ] earlier and later ·
    { } zoom the values · y logarithmic · m smoothing · 0 the whole run · enter enlarge"""

    class Enlarge(Message):
        """Posted when enter is pressed: the chart is to fill the grid, or to return to its place.

        Attributes:
            chart: the chart that posted it.
        """

        def __init__(self, chart: "LineChart") -> None:
            super().__init__()
            self.chart = chart

        @property
        def control(self) -> "LineChart":
            """The chart that posted the message."""
            return self.chart

    def __init__(
        self,
        plot_style: PlotStyle,
        lines: Sequence[PlotLine] = (),
        *,
        log: bool = False,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Textual's own name
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.plot_style = plot_style
        self.chart_window = PlotWindow(log=log)
        self.smoothing = 0
        self._lines = list(lines)
        self._smoothed: dict[int, SmoothedSeries] = {}

    @property
    def lines(self) -> list[PlotLine]:
        """The lines as drawn: each with its smoothed series where it is smoothed."""
        chosen = SMOOTHING[self.smoothing]
        drawn = []
        for line in self._lines:
            decay = automatic_decay(len(line.series)) if chosen is None else chosen
            if not decay:
                drawn.append(line)
                continue
            # Kept between redraws, so that only new points are averaged. An id may be reused: compare the objects.
            smoothed = self._smoothed.get(id(line.series))
            if smoothed is None or smoothed.source is not line.series or smoothed.decay != decay:
                smoothed = self._smoothed[id(line.series)] = SmoothedSeries(line.series, decay)
            drawn.append(replace(line, smooth=smoothed.update()))
        return drawn

    @property
    def sources(self) -> list[Series]:
        """The series of the lines, not smoothed."""
        return [line.series for line in self._lines]

    def set_lines(self, lines: Sequence[PlotLine]) -> None:
        """Replace the lines; the next `redraw` draws them."""
        self._lines = list(lines)
        in_use = {id(line.series) for line in lines}
        self._smoothed = {key: value for key, value in self._smoothed.items() if key in in_use}

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Header, plot and step axis."""
        style = replace(self.plot_style, dashed=has_few_colours(self.app))
        return draw(self.lines, style, self.chart_window, width, max(height, 3))

    def on_focus(self) -> None:
        """Draw the title in the colour of the focus."""
        self.restyle()

    def on_blur(self) -> None:
        """Draw the title without focus and hide the value cursor."""
        self.chart_window = replace(self.chart_window, cursor=None)
        self.restyle()

    def on_click(self, event: events.Click) -> None:
        """Move the value cursor to the mouse."""
        start, stop = steps_shown(self._lines, self.chart_window)
        self._set_window(
            replace(self.chart_window, cursor=start + event.x / max(self.size.width - 1, 1) * (stop - start))
        )

    def set_complete(self, complete: bool) -> None:
        """Set whether the data is complete; otherwise the step axis keeps room at its end. Call `redraw` afterwards."""
        self.chart_window = replace(self.chart_window, complete=complete)

    @property
    def _whole(self) -> PlotWindow:
        """The window without zoom of the steps."""
        return replace(self.chart_window, start=None, stop=None)

    def _set_window(self, window: PlotWindow) -> None:
        self.chart_window = window
        self.redraw()

    def action_enlarge(self) -> None:
        """Post `Enlarge`."""
        self.post_message(self.Enlarge(self))

    def action_cursor(self, dots: int) -> None:
        """Move the value cursor by columns of dots; past the edge of a zoomed view, the view moves along."""
        start, stop = steps_shown(self._lines, self.chart_window)
        last = max((line.series.last_step for line in self._lines if line.series.count), default=stop)
        cell = (stop - start) / max(2 * self.size.width, 1)
        at = self.chart_window.cursor
        at = min(last, stop) if at is None else min(max(at + dots * max(cell, 1), 0.0), last)
        window = replace(self.chart_window, cursor=at)
        if self.chart_window.stop is not None and not start <= at <= stop:
            shift = at - (stop if at > stop else start)
            window = replace(window, start=start + shift, stop=stop + shift)
        self._set_window(window)

    def action_zoom(self, factor: float) -> None:
        """Show fewer steps (factor above 1) or more, around the cursor, or up to the newest step without one."""
        whole = steps_shown(self._lines, self._whole)
        start, stop = steps_shown(self._lines, self.chart_window)
        width = (stop - start) / factor
        if width >= whole[1] - whole[0]:
            self._set_window(self._whole)
            return
        width = max(width, 4.0)
        middle = self.chart_window.cursor
        fraction = 1.0 if middle is None else (middle - start) / (stop - start)
        anchor = stop if middle is None else middle
        left = min(max(anchor - fraction * width, whole[0]), whole[1] - width)
        self._set_window(replace(self.chart_window, start=left, stop=left + width))

    def action_pan(self, fraction: float) -> None:
        """Move a zoomed view by a fraction of its width."""
        if self.chart_window.stop is None:
            return
        whole = steps_shown(self._lines, self._whole)
        start, stop = steps_shown(self._lines, self.chart_window)
        left = min(max(start + fraction * (stop - start), whole[0]), max(whole[1] - (stop - start), 0.0))
        self._set_window(replace(self.chart_window, start=left, stop=left + stop - start))

    def action_zoom_values(self, factor: float) -> None:
        """Narrow the y range around its middle (factor above 1), or widen it again."""
        self._set_window(replace(self.chart_window, zoom=min(max(self.chart_window.zoom * factor, 1.0), 64.0)))

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self._set_window(replace(self.chart_window, log=not self.chart_window.log))

    def action_smooth(self) -> None:
        """Use the next decay of `SMOOTHING`."""
        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)
        self.redraw()

    def action_reset(self) -> None:
        """Undo zoom and cursor; the scale of the y axis stays."""
        self._set_window(PlotWindow(log=self.chart_window.log, complete=self.chart_window.complete))


def automatic_decay(points: int) -> float:
    """The decay of automatic smoothing for a number of points; 0 for none."""
    return next((decay for least, decay in AUTOMATIC if points >= least), 0.0)
