"""Draw lines with braille dots: two columns and four rows of dots in every character cell.

Pure functions and one small canvas; no colours, no widgets. Every cell belongs to the layer that drew on it last, so
the caller draws what matters most last and asks each cell for its layer when it picks a colour.
"""

from collections.abc import Iterable
from math import isnan

from dpo_tui.themes.glyphs import BLOCKS, BRAILLE_BITS

DOTS_X = 2
DOTS_Y = 4

_SPANS = tuple(
    tuple(tuple(sum(column[first : last + 1]) for last in range(DOTS_Y)) for first in range(DOTS_Y))
    for column in BRAILLE_BITS
)


class Canvas:
    """A picture of ``width`` by ``height`` character cells; dot (0, 0) is top left.

    Args:
        width: cells a row.
        height: rows of cells.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.bits = bytearray(width * height)
        self.owner = bytearray(width * height)
        """For each cell, the layer that drew on it last; 0 is nobody."""

    @property
    def dots_wide(self) -> int:
        """Columns of dots."""
        return self.width * DOTS_X

    @property
    def dots_high(self) -> int:
        """Rows of dots."""
        return self.height * DOTS_Y

    def bar(self, x: int, top: int, bottom: int, layer: int) -> None:
        """Set the dots of column ``x`` from row ``top`` down to row ``bottom``, clipped to the picture."""
        top, bottom = max(top, 0), min(bottom, self.dots_high - 1)
        if not 0 <= x < self.dots_wide or bottom < top:
            return
        spans = _SPANS[x & 1]
        cell_x = x >> 1
        first, last = top >> 2, bottom >> 2
        for row in range(first, last + 1):
            index = row * self.width + cell_x
            if self.owner[index] != layer:
                self.owner[index] = layer
                self.bits[index] = 0
            self.bits[index] |= spans[top & 3 if row == first else 0][bottom & 3 if row == last else 3]

    def curve(self, columns: Iterable[tuple[int, float, float]], layer: int) -> None:
        """Draw a line through columns that each cover a range of rows.

        Args:
            columns: (x, top, bottom) from left to right in (fractional) dot rows; a NaN top breaks the line.
            layer: who draws, 1 to 255.
        """
        previous: tuple[int, float, float] | None = None
        for x, top, bottom in columns:
            if isnan(top):
                previous = None
                continue
            if previous is not None:
                self._join(previous, (x, top, bottom), layer)
            self.bar(x, round(top), round(bottom), layer)
            previous = (x, top, bottom)

    def _join(self, left: tuple[int, float, float], right: tuple[int, float, float], layer: int) -> None:
        """Connect two columns by the shortest slope between their ranges."""
        x0, top0, bottom0 = left
        x1, top1, bottom1 = right
        if bottom0 < top1:
            start, end = bottom0, top1
        elif bottom1 < top0:
            start, end = top0, bottom1
        else:
            start = end = (max(top0, top1) + min(bottom0, bottom1)) / 2
        width = x1 - x0
        if width <= 0:
            return
        slope = (end - start) / width
        for x in range(max(x0, 0), min(x1, self.dots_wide - 1) + 1):
            # Each column covers the slope half a column to either side, so the line has no holes.
            here = start + slope * (x - x0)
            near = here - slope / 2 if x > x0 else here
            far = here + slope / 2 if x < x1 else here
            self.bar(x, round(min(near, far)), round(max(near, far)), layer)

    def glyph(self, column: int, row: int) -> str:
        """The character of one cell; a space where nothing is drawn."""
        bits = self.bits[row * self.width + column]
        return chr(0x2800 + bits) if bits else " "

    def layer(self, column: int, row: int) -> int:
        """The layer that drew on a cell last; 0 is nobody."""
        return self.owner[row * self.width + column]


def blocks(fractions: Iterable[float]) -> str:
    """A bar sparkline, one character a value; values are fractions of full height, NaN is a space."""
    return "".join(
        BLOCKS[min(max(round(value * (len(BLOCKS) - 1)), 0), len(BLOCKS) - 1)] if not isnan(value) else " "
        for value in fractions
    )


def sparkline(values: list[float], width: int) -> str:
    """A one-row line drawing of finite values, scaled to their own range and padded to ``width`` cells."""
    if not values or width < 1:
        return " " * max(width, 0)
    low, high = min(values), max(values)
    scale = (DOTS_Y - 1) / (high - low) if high > low else 0.0
    canvas = Canvas(width, 1)
    last = max(len(values) - 1, 1)
    rows = [(high - value) * scale if scale else 1.0 for value in values]
    canvas.curve(((round(index * (canvas.dots_wide - 1) / last), row, row) for index, row in enumerate(rows)), 1)
    return "".join(canvas.glyph(column, 0) for column in range(width))
