"""A canvas of braille dots, two columns and four rows in each character cell, and sparklines.

A cell has one colour, so it belongs to the layer that drew on it last: draw the most important line last, and choose
the colour of each cell by its layer.
"""

from collections.abc import Iterable
from math import isnan

from dpo_tui.themes.glyphs import BLOCKS, BRAILLE_BITS

DOTS_X = 2
DOTS_Y = 4

# _SPANS[column][first][last]: the bits of dot rows first to last in one of the two dot columns.
_SPANS = tuple(
    tuple(tuple(sum(column[first : last + 1]) for last in range(DOTS_Y)) for first in range(DOTS_Y))
    for column in BRAILLE_BITS
)


class Canvas:
    """Braille dots in ``width`` by ``height`` character cells; dot (0, 0) is top left.

    Args:
        width: cells in a row.
        height: rows of cells.

    Attributes:
        bits: the dots of each cell, as the low byte of its braille character.
        owner: the layer that drew on each cell last, 1 to 255; 0 for none.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.bits = bytearray(width * height)
        self.owner = bytearray(width * height)
        self._dash = ""

    @property
    def dots_wide(self) -> int:
        """Columns of dots."""
        return self.width * DOTS_X

    @property
    def dots_high(self) -> int:
        """Rows of dots."""
        return self.height * DOTS_Y

    def bar(self, x: int, top: int, bottom: int, layer: int) -> None:
        """Set the dots of column ``x`` from row ``top`` down to row ``bottom``, clipped to the canvas.

        The first dot that a layer sets in a cell of another layer clears that cell. A gap of a dashed line leaves the
        column out, but where the line is steep: a spike of one step is always drawn.
        """
        if self._dash and self._dash[x % len(self._dash)] == " " and bottom - top < DOTS_Y:
            return
        top, bottom = max(top, 0), min(bottom, self.dots_high - 1)
        if not 0 <= x < self.dots_wide or bottom < top:
            return
        spans = _SPANS[x & 1]
        cell_x = x >> 1
        first, last = top >> 2, bottom >> 2  # rows of cells: four dots each
        for row in range(first, last + 1):
            index = row * self.width + cell_x
            if self.owner[index] != layer:
                # A terminal cell has one foreground colour: dots of the other layer, left here, would be drawn in this
                # one's colour and look like a part of its line.
                self.owner[index] = layer
                self.bits[index] = 0
            self.bits[index] |= spans[top & 3 if row == first else 0][bottom & 3 if row == last else 3]

    def curve(self, columns: Iterable[tuple[int, float, float]], layer: int, dash: str = "") -> None:
        """Draw a line through columns of dots that each cover a range of rows.

        Args:
            columns: (x, top, bottom) from left to right, in fractional rows of dots; a NaN top breaks the line.
            layer: 1 to 255.
            dash: which columns of dots are drawn, over and over: a space leaves one out. Empty draws all.
        """
        self._dash = dash
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
        """Connect two columns by the shortest line between their ranges."""
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
            # Each column is filled half a column to either side of the slope, so that steep lines have no gaps.
            here = start + slope * (x - x0)
            near = here - slope / 2 if x > x0 else here
            far = here + slope / 2 if x < x1 else here
            self.bar(x, round(min(near, far)), round(max(near, far)), layer)

    def glyph(self, column: int, row: int) -> str:
        """The character of a cell; a space where nothing is drawn."""
        bits = self.bits[row * self.width + column]
        return chr(0x2800 + bits) if bits else " "

    def layer(self, column: int, row: int) -> int:
        """The layer that drew on a cell last; 0 for none."""
        return self.owner[row * self.width + column]


def blocks(fractions: Iterable[float]) -> str:
    """A sparkline of block characters.

    Args:
        fractions: of full height, one for each character; NaN gives a space.
    """
    return "".join(
        BLOCKS[min(max(round(value * (len(BLOCKS) - 1)), 0), len(BLOCKS) - 1)] if not isnan(value) else " "
        for value in fractions
    )


def sparkline(values: list[float], width: int) -> str:
    """A sparkline of braille dots.

    Args:
        values: finite values; their range is scaled to the height of a row.
        width: cells.
    """
    if not values or width < 1:
        return " " * max(width, 0)
    low, high = min(values), max(values)
    scale = (DOTS_Y - 1) / (high - low) if high > low else 0.0
    canvas = Canvas(width, 1)
    last = max(len(values) - 1, 1)
    rows = [(high - value) * scale if scale else 1.0 for value in values]
    canvas.curve(((round(index * (canvas.dots_wide - 1) / last), row, row) for index, row in enumerate(rows)), 1)
    return "".join(canvas.glyph(column, 0) for column in range(width))
