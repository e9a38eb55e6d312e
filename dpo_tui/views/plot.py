"""Draw a chart as rows of styled text: pure functions from series to characters, without a screen.

Roles are the component classes of `dpo_tui.widgets.chart.LineChart` without their prefix: ``title``, ``value``,
``axis``, ``line-1`` … ``line-6``, ``raw`` (the unsmoothed line behind a smoothed one), ``reference``, ``cursor``.

`dpo_tui.views.axes` maps values to fractions of the height. Next: `dpo_tui.views.series` gives the lowest and highest
value of each column of dots, `dpo_tui.views.braille` sets the dots, and the rows go back to the chart, whose
`dpo_tui.widgets.rows_widget` sends them.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan, nan

from dpo_tui.text.numbers import short_number
from dpo_tui.views.axes import Axis, grouped_number, nice_axis, nice_step, step_range, tick_label, ticks
from dpo_tui.views.braille import DOTS_Y, Canvas
from dpo_tui.views.series import Series, SeriesPoint
from dpo_tui.views.styled_text import StyledRow

COLOURS = 6
"""Line colours of a theme."""
DASHES = ("", "....    ", ". ", "......  .   ", ".     ", "..........    ")
"""The dashes of lines of each colour, as `Canvas.curve` takes them, for terminals of few colours or none."""
SAMPLES = ("───", "─ ─", "...", "─ .", ". .", "── ")
"""Those lines beside their names; told apart in ASCII, too."""


@dataclass(frozen=True, slots=True)
class PlotLine:
    """One line of a chart.

    Args:
        label: its name beside other lines; printable text.
        series: its values.
        colour: 1 to `COLOURS`.
        smooth: the smoothed series to draw over it, or None; with one, the series itself is drawn dimmed.
    """

    label: str
    series: Series
    colour: int = 1
    smooth: Series | None = None


@dataclass(frozen=True, slots=True)
class PlotWindow:
    """The part of the data that a chart shows.

    Args:
        start: first step, or None for the start of the data.
        stop: last step, or None to follow the data as it grows.
        log: whether the y axis is logarithmic, where the values allow it.
        zoom: the whole y range divided by the range shown: 1 shows all of it, 2 a half.
        centre: the middle of a zoomed y range as a fraction of the whole range.
        cursor: the step of the value cursor, or None.
        complete: whether the data will not grow; the step axis then ends at the last step.
    """

    start: float | None = None
    stop: float | None = None
    log: bool = False
    zoom: float = 1.0
    centre: float = 0.5
    cursor: float | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class PlotStyle:
    """The fixed properties of a chart.

    Args:
        title: the name of the metric.
        unit: written after values; empty for none.
        reference: the value of a dashed line, or None.
        within: ends that the y axis does not exceed unless values do.
        dashed: whether lines differ by dashes beside their colours.
    """

    title: str
    unit: str = ""
    reference: float | None = None
    within: tuple[float, float] | None = None
    dashed: bool = False


def steps_shown(lines: list[PlotLine], window: PlotWindow) -> tuple[float, float]:
    """The steps at the left and the right edge of the chart."""
    last = max((line.series.last_step for line in lines if line.series.count), default=nan)
    start, stop = (0.0, last) if window.complete and last > 0 else step_range(last)
    start = start if window.start is None else window.start
    stop = stop if window.stop is None else window.stop
    return start, max(stop, start + 1)


def value_axis(lines: list[PlotLine], style: PlotStyle, window: PlotWindow, shown: tuple[float, float]) -> Axis | None:
    """The y axis: it holds every value in view and the reference line, before zooming.

    Args:
        lines: the lines of the chart.
        style: reference line and limits.
        window: scale and zoom.
        shown: first and last step in view.

    Returns:
        None when there is no finite value in view.
    """
    found = [bounds for line in lines if (bounds := line.series.bounds(*shown)) is not None]
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if style.reference is not None:
        low, high = min(low, style.reference), max(high, style.reference)
    # Bounds of what is in view alone: with those of the whole run, the first steps would flatten a zoomed view.
    axis = nice_axis(low, high, log=window.log, within=style.within)
    if window.zoom > 1:
        half = 0.5 / window.zoom
        middle = min(max(window.centre, half), 1 - half)
        axis = replace(axis, low=axis.value(middle - half), high=axis.value(middle + half))
    return axis


def draw(lines: list[PlotLine], style: PlotStyle, window: PlotWindow, width: int, height: int) -> list[StyledRow]:
    """Draw the whole chart: a header row, the plot with its y axis, and the step axis.

    Args:
        lines: the lines; the first is drawn over the others.
        style: title, unit, reference line and limits.
        window: the part in view.
        width: cells in a row.
        height: rows, at least 3.
    """
    shown = steps_shown(lines, window)
    axis = value_axis(lines, style, window, shown)
    rows = [_header(lines, style, window, width)]
    plot_height = height - 2
    if axis is None:
        message = "no values yet" if not any(line.series.count for line in lines) else "no finite values here"
        middle = plot_height // 2
        rows += [[((message if row == middle else "").center(width)[:width], "axis")] for row in range(plot_height)]
        return [*rows, [(" " * width, "axis")]]
    labels = _tick_rows(axis, plot_height)
    gutter = min(max((len(text) for text in labels.values()), default=1), max(width - 2, 1))
    plot_width = max(width - gutter - 1, 1)
    canvas = Canvas(plot_width, plot_height)
    _paint(canvas, lines, axis, shown, dashed=style.dashed)
    marks = _marks(canvas, style, window, axis, shown)
    for row in range(plot_height):
        label = labels.get(row, "")
        head = (label[:gutter].rjust(gutter) + ("┤" if label else "│"), "axis")
        rows.append([head, *_cells(canvas, row, lines, marks)])
    rows.append(_step_axis(shown, gutter=gutter, width=plot_width))
    return rows


def _header(lines: list[PlotLine], style: PlotStyle, window: PlotWindow, width: int) -> StyledRow:
    """Title on the left; on the right the values at the cursor, or the latest ones."""
    if window.cursor is not None and lines:
        points = [(line, point) for line in lines if (point := line.series.at(window.cursor)) is not None]
        with_values = [line for line, _ in points]
        step = points[0][1].step if points else window.cursor
        values = [(_point_text(point), f"line-{line.colour}") for line, point in points]
        note = f"step {grouped_number(step)}"
    else:
        with_values = [line for line in lines if line.series.count]
        values = [(_latest(line, style.unit), f"line-{line.colour}") for line in with_values]
        unusable = sum(line.series.unusable for line in lines)
        note = f"{unusable:,} NaN/Inf" if unusable else ""
    labels, room = [line.label for line in with_values], width - len(style.title) - len(note) - 2
    if style.dashed and len(values) > 1:
        samples = [SAMPLES[(line.colour - 1) % COLOURS] for line in with_values]
        sampled = [(f"{sample} {text}", role) for sample, (text, role) in zip(samples, values, strict=True)]
        fitting = _fit_values(sampled, labels, room)
        values = fitting if len(fitting) == len(values) else _fit_values(values, labels, room)
    else:
        values = _fit_values(values, labels, room)
    taken = sum(len(text) for text, _ in values) + 2 * max(len(values) - 1, 0)
    note = f"  {note}" if note and taken + len(note) + 6 <= width else ""
    title = style.title[: max(width - taken - len(note) - 1, 0)]
    row: StyledRow = [
        (title, "title"),
        (note, "cursor"),
        (" " * max(width - taken - len(note) - len(title), 0), "value"),
    ]
    for index, (text, role) in enumerate(values):
        if index:
            row.append(("  ", "value"))
        row.append((text[:width], role if len(lines) > 1 else "value"))
    return row


def _fit_values(values: StyledRow, labels: list[str], room: int) -> StyledRow:
    """What fits beside the title: the values with the labels of their lines, without labels, or fewer of them."""
    if len(values) < 2:  # noqa: PLR2004 - one value needs no label
        return values
    labelled = [(f"{label} {text}", role) for label, (text, role) in zip(labels, values, strict=False)]
    for choice in (labelled, values, *(labelled[:count] for count in range(len(labelled) - 1, 1, -1))):
        if sum(len(text) + 2 for text, _ in choice) - 2 <= room:
            return choice
    return values[:1]


def _latest(line: PlotLine, unit: str) -> str:
    """The last value of a line, with its unit."""
    return short_number(line.series.last_value) + (f" {unit}" if unit else "")


def _point_text(point: SeriesPoint) -> str:
    """The value of a point; of a bucket of several points the mean, and the range in brackets."""
    if point.high <= point.low or isnan(point.mean):
        return short_number(point.mean)
    return f"{short_number(point.mean)} ({short_number(point.low)}–{short_number(point.high)})"


def _tick_rows(axis: Axis, height: int) -> dict[int, str]:
    """The tick label of each plot row that has one; row 0 is at the top."""
    pieces = max(height // 3, 1)
    values = ticks(axis, pieces)
    while len(values) < 2 and pieces < height:  # noqa: PLR2004 - a scale needs two labels
        pieces += 1
        values = ticks(axis, pieces)
    distance = abs(values[1] - values[0]) if len(values) > 1 and not axis.log else 0.0
    labels: dict[int, str] = {}
    for value in values:
        # Rounded to a row of dots as `_paint` does, and only then to a row of cells: a label rounded to cells directly
        # could stand one row beside the line at its value.
        row = height - 1 - round(axis.fraction(value) * (height * DOTS_Y - 1)) // DOTS_Y
        if 0 <= row < height and row not in labels:
            labels[row] = tick_label(value, distance)
    return labels


def _paint(canvas: Canvas, lines: list[PlotLine], axis: Axis, shown: tuple[float, float], *, dashed: bool) -> None:
    """Draw raw lines behind smoothed ones, and the first line over all others.

    Line ``i`` draws on layer 2i + 2; the raw line behind a smoothed one on layer 2i + 1. `_cells` reads them back.
    """
    last_row = canvas.dots_high - 1

    def columns(series: Series) -> list[tuple[int, float, float]]:
        view = series.view(*shown, canvas.dots_wide)
        return [(x, (1 - axis.fraction(high)) * last_row, (1 - axis.fraction(low)) * last_row) for x, low, high in view]

    # All raw lines before all smoothed ones: a cell belongs to the layer that drew in it last, and a noisy raw line
    # would take most cells of another run's smoothed line.
    for index, line in reversed(list(enumerate(lines))):
        if line.smooth is not None:
            canvas.curve(columns(line.series), 2 * index + 1)
    for index, line in reversed(list(enumerate(lines))):
        dash = DASHES[(line.colour - 1) % COLOURS] if dashed else ""
        canvas.curve(columns(line.smooth or line.series), 2 * index + 2, dash)


@dataclass(frozen=True, slots=True)
class _Marks:
    """The plot row of the reference line and the plot column of the cursor, None where out of view."""

    reference_row: int | None
    cursor_column: int | None


def _marks(canvas: Canvas, style: PlotStyle, window: PlotWindow, axis: Axis, shown: tuple[float, float]) -> _Marks:
    row = column = None
    if style.reference is not None and 0 <= (up := axis.fraction(style.reference)) <= 1:
        row = round((1 - up) * (canvas.dots_high - 1)) // DOTS_Y
    if window.cursor is not None and shown[0] <= window.cursor <= shown[1]:
        column = round((window.cursor - shown[0]) / (shown[1] - shown[0]) * (canvas.dots_wide - 1)) // 2
    return _Marks(row, column)


def _cells(canvas: Canvas, row: int, lines: list[PlotLine], marks: _Marks) -> StyledRow:
    """One plot row; neighbouring cells of one role are joined. Lines cover the cursor, and that the reference line."""
    cells: StyledRow = []
    for column in range(canvas.width):
        glyph, layer = canvas.glyph(column, row), canvas.layer(column, row)
        if layer:
            line = lines[(layer - 1) // 2]
            role = "raw" if layer & 1 else f"line-{line.colour}"
        elif column == marks.cursor_column:
            glyph, role = "│", "cursor"
        elif row == marks.reference_row:
            glyph, role = "┄", "reference"
        else:
            role = "axis"
        cells.append((glyph, role))
    return [("".join(glyph for glyph, _ in group), role) for role, group in groupby(cells, key=lambda cell: cell[1])]


def _step_axis(shown: tuple[float, float], *, gutter: int, width: int) -> StyledRow:
    """The step axis: a rule with round steps where there is room for them, and the last step at the right.

    It depends on the range shown and not on the last point, so that a new point does not repaint it.
    """
    start, stop = shown
    cells = ["─"] * width
    end = grouped_number(stop)
    right = width - len(end)
    step = nice_step(stop - start, max(width // 16, 1))
    value = (start // step + 1) * step
    while value < stop:
        label = grouped_number(value)
        left = round((value - start) / (stop - start) * (width - 1)) - len(label) // 2
        if left > 0 and left + len(label) + 1 < right:
            cells[left : left + len(label)] = label
        value += step
    if start > 0 and len(grouped_number(start)) + 2 < right:
        cells[: len(grouped_number(start))] = grouped_number(start)
    if right > 0:
        cells[right - 1 :] = f" {end}"
    return [(" " * gutter + "└" + "".join(cells)[:width], "axis")]
