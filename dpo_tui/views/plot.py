"""Turn series and a view into rows of text with roles; pure, so that a chart is testable without a screen.

A row is a list of (text, role) pieces. Roles are the chart's component classes without their prefix: ``title``,
``value``, ``axis``, ``line-1`` … ``line-6``, ``raw`` (the unsmoothed line behind a smoothed one), ``reference``,
``cursor``. The widget gives roles their colours.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan, nan

from dpo_tui.text.numbers import grouped_number, short_number
from dpo_tui.views.axes import Axis, nice_axis, nice_step, step_range, tick_label, ticks
from dpo_tui.views.braille import DOTS_Y, Canvas
from dpo_tui.views.series import Series, SeriesPoint
from dpo_tui.views.styled_text import StyledRow

COLOURS = 6
"""How many line colours a theme has; further lines start again at the first."""


@dataclass(frozen=True, slots=True)
class PlotLine:
    """One line of a chart.

    Args:
        label: what to call it beside others; plain text, already safe to print.
        series: its values.
        colour: 1 to `COLOURS`.
        smooth: the smoothed line to draw over it, if any; the raw line is dimmed then.
    """

    label: str
    series: Series
    colour: int = 1
    smooth: Series | None = None


@dataclass(frozen=True, slots=True)
class PlotWindow:
    """What part of the data a chart shows, and how.

    Args:
        start: first step, or None for the start of the data.
        stop: last step, or None to follow the data as it grows.
        log: a logarithmic y axis, where the values allow it.
        zoom: how much of the y range is cut away around its middle: 1 shows all, 2 the middle half.
        centre: the middle of a zoomed y range as a fraction of the whole one.
        cursor: the step that the value cursor stands on, or None.
        settled: the data grows no more, so the axis may end at its last step.
    """

    start: float | None = None
    stop: float | None = None
    log: bool = False
    zoom: float = 1.0
    centre: float = 0.5
    cursor: float | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class PlotStyle:
    """What stays the same about a chart while its data grows.

    Args:
        title: the metric in words.
        unit: written after values; empty for plain numbers.
        reference: a value to draw a dashed line at, or None.
        within: ends that the y axis never passes.
    """

    title: str
    unit: str = ""
    reference: float | None = None
    within: tuple[float, float] | None = None


def steps_shown(lines: list[PlotLine], window: PlotWindow) -> tuple[float, float]:
    """The first and last step of the picture."""
    last = max((line.series.last_step for line in lines if line.series.count), default=nan)
    start, stop = (0.0, last) if window.settled and last > 0 else step_range(last)
    start = start if window.start is None else window.start
    stop = stop if window.stop is None else window.stop
    return start, max(stop, start + 1)


def value_axis(lines: list[PlotLine], look: PlotStyle, window: PlotWindow, shown: tuple[float, float]) -> Axis | None:
    """The y axis that holds every value in view (and the reference line), zoomed if asked; None without values."""
    found = [bounds for line in lines if (bounds := line.series.bounds(*shown)) is not None]
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if look.reference is not None:
        low, high = min(low, look.reference), max(high, look.reference)
    axis = nice_axis(low, high, log=window.log, within=look.within)
    if window.zoom > 1:
        half = 0.5 / window.zoom
        middle = min(max(window.centre, half), 1 - half)
        axis = replace(axis, low=axis.value(middle - half), high=axis.value(middle + half))
    return axis


def draw(lines: list[PlotLine], look: PlotStyle, window: PlotWindow, width: int, height: int) -> list[StyledRow]:
    """The whole chart: a header row, the picture with its y axis, and the x axis.

    Args:
        lines: what to draw; the first is on top and gives the header its value.
        look: title, unit and fixed marks.
        window: the part in view.
        width: cells a row.
        height: rows, at least 3.
    """
    shown = steps_shown(lines, window)
    axis = value_axis(lines, look, window, shown)
    rows = [_header(lines, look, window, width)]
    picture_height = height - 2
    if axis is None:
        message = "no values yet" if not any(line.series.count for line in lines) else "no finite values here"
        middle = picture_height // 2
        rows += [[((message if row == middle else "").center(width)[:width], "axis")] for row in range(picture_height)]
        return [*rows, [(" " * width, "axis")]]
    labels = _tick_rows(axis, picture_height)
    gutter = min(max((len(text) for text in labels.values()), default=1), max(width - 2, 1))
    plot_width = max(width - gutter - 1, 1)
    canvas = Canvas(plot_width, picture_height)
    _paint(canvas, lines, axis, shown)
    marks = _marks(canvas, look, window, axis, shown)
    for row in range(picture_height):
        label = labels.get(row, "")
        head = (label[:gutter].rjust(gutter) + ("┤" if label else "│"), "axis")
        rows.append([head, *_cells(canvas, row, lines, marks)])
    rows.append(_step_axis(shown, gutter=gutter, width=plot_width))
    return rows


def _header(lines: list[PlotLine], look: PlotStyle, window: PlotWindow, width: int) -> StyledRow:
    # Foreign names were made printable by whoever built the lines; here they are only cut to fit.
    if window.cursor is not None and lines:
        found = [(line, reading) for line in lines if (reading := line.series.at(window.cursor)) is not None]
        told = [line for line, _ in found]
        stepped = found[0][1].step if found else window.cursor
        values = [(_reading(reading), f"line-{line.colour}") for line, reading in found]
        note = f"step {grouped_number(stepped)}"
    else:
        told = [line for line in lines if line.series.count]
        values = [(_latest(line, look.unit), f"line-{line.colour}") for line in told]
        unusable = sum(line.series.unusable for line in lines)
        note = f"{unusable:,} NaN/Inf" if unusable else ""
    values = _fitting(values, [line.label for line in told], width - len(look.title) - len(note) - 2)
    taken = sum(len(text) for text, _ in values) + 2 * max(len(values) - 1, 0)
    note = f"  {note}" if note and taken + len(note) + 6 <= width else ""
    title = look.title[: max(width - taken - len(note) - 1, 0)]
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


def _fitting(values: StyledRow, labels: list[str], room: int) -> StyledRow:
    """The values with their lines' names, or without, or fewer of them: what fits beside the title."""
    if len(values) < 2:  # noqa: PLR2004 - one value needs no name
        return values
    named = [(f"{label} {text}", role) for label, (text, role) in zip(labels, values, strict=False)]
    for choice in (named, values, *(named[:count] for count in range(len(named) - 1, 1, -1))):
        if sum(len(text) + 2 for text, _ in choice) - 2 <= room:
            return choice
    return values[:1]


def _latest(line: PlotLine, unit: str) -> str:
    return short_number(line.series.last_value) + (f" {unit}" if unit else "")


def _reading(reading: SeriesPoint) -> str:
    if reading.high <= reading.low or isnan(reading.mean):
        return short_number(reading.mean)
    return f"{short_number(reading.mean)} ({short_number(reading.low)}–{short_number(reading.high)})"


def _tick_rows(axis: Axis, height: int) -> dict[int, str]:
    """Labels by picture row, top row 0."""
    pieces = max(height // 3, 1)
    values = ticks(axis, pieces)
    while len(values) < 2 and pieces < height:  # noqa: PLR2004 - one label alone does not tell the scale
        pieces += 1
        values = ticks(axis, pieces)
    distance = abs(values[1] - values[0]) if len(values) > 1 and not axis.log else 0.0
    labels: dict[int, str] = {}
    for value in values:
        row = height - 1 - round(axis.fraction(value) * (height * DOTS_Y - 1)) // DOTS_Y
        if 0 <= row < height and row not in labels:
            labels[row] = tick_label(value, distance)
    return labels


def _paint(canvas: Canvas, lines: list[PlotLine], axis: Axis, shown: tuple[float, float]) -> None:
    """Draw raw lines behind smoothed ones, and the first line over all others.

    Layers are 2 × line + 1 for a raw line behind its smoothed one, and 2 × line + 2 for the line itself.
    """
    tall = canvas.dots_high - 1

    def columns(series: Series) -> list[tuple[int, float, float]]:
        found = series.view(*shown, canvas.dots_wide)
        return [(x, (1 - axis.fraction(high)) * tall, (1 - axis.fraction(low)) * tall) for x, low, high in found]

    for index, line in reversed(list(enumerate(lines))):
        if line.smooth is not None:
            canvas.curve(columns(line.series), 2 * index + 1)
    for index, line in reversed(list(enumerate(lines))):
        canvas.curve(columns(line.smooth or line.series), 2 * index + 2)


@dataclass(frozen=True, slots=True)
class _Marks:
    reference_row: int | None
    cursor_column: int | None


def _marks(canvas: Canvas, look: PlotStyle, window: PlotWindow, axis: Axis, shown: tuple[float, float]) -> _Marks:
    row = column = None
    if look.reference is not None and 0 <= (up := axis.fraction(look.reference)) <= 1:
        row = round((1 - up) * (canvas.dots_high - 1)) // DOTS_Y
    if window.cursor is not None and shown[0] <= window.cursor <= shown[1]:
        column = round((window.cursor - shown[0]) / (shown[1] - shown[0]) * (canvas.dots_wide - 1)) // 2
    return _Marks(row, column)


def _cells(canvas: Canvas, row: int, lines: list[PlotLine], marks: _Marks) -> StyledRow:
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
    """The bottom rule with steps written into it: round ones where there is room, the end of the axis at the right.

    Nothing in it changes with a new point: Textual resends a row up to its last change, and this one has no other.
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
