"""Screen updates that write only the cells in which the terminal differs from what is to be shown.

Textual writes a whole screen whenever another one comes to the front, and each piece of text with all of its colours:
20 to 190 kB for a screen on which half of the cells stay. `TerminalCells` remembers what was written, cell by cell, and
an update then holds the runs of cells that differ, with the colours that change from one to the next.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip


class Sgr(NamedTuple):
    """The parameters of "Select Graphic Rendition" (ECMA-48, CSI … m) that a cell is drawn with.

    Attributes:
        attributes: bold, underlined and the like.
        foreground: of the colour of the text; empty for the terminal's own.
        background: likewise.
    """

    attributes: tuple[str, ...] = ()
    foreground: str = ""
    background: str = ""


class Cell(NamedTuple):
    """What is drawn in one cell.

    Attributes:
        text: a character of two cells stands in the first of them, and the second has an empty text; so it is with text
            of which terminals may disagree how wide it is (see `_AGREED`).
        sgr: how it is drawn.
        link: the target of a hyperlink; empty for none.
    """

    text: str
    sgr: Sgr
    link: str = ""


PlacedStrip = tuple[int, Strip]
"""(column, content) of a part of a row."""
ChangedRow = tuple[int, Sequence[PlacedStrip]]
"""(row, its parts) of what may have changed."""

_AGREED = re.compile(
    "["
    " -~"  # ASCII
    "\u00a1-\u00ac\u00ae-\u02ff"  # Latin, without the soft hyphen
    "\u0370-\u0482\u048a-\u0523"  # Greek and Cyrillic, without combining marks
    "\u2010-\u2015\u2018-\u201f\u2022\u2026"  # dashes, quotation marks, • and …
    "\u2190-\u2193\u2500-\u25ff\u2800-\u28ff"  # arrows, lines, blocks, geometric signs, braille
    "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"  # kana, CJK, Hangul
    "]*"
)
"""Text in which every terminal counts the cells of each character alike. What else there is (emoji, combining marks,
scripts that join letters) is written as one piece, after which the cursor is placed anew."""
_LONGEST_GAP = 4
"""Equal cells between two runs that are written again: a movement of the cursor takes four bytes and more."""
_ENDED_BY = {"1": "22", "2": "22", "3": "23", "4": "24", "5": "25", "7": "27", "8": "28", "9": "29"}
"""The parameter that ends each attribute."""
_UNSEEN_ON_BLANKS = frozenset({"1", "2", "3"})
"""Attributes that change nothing about a space: bold, dim, italic."""
_PLAIN = Sgr()


class TerminalCells:
    """What the terminal shows, as far as this process has written it. The coordinates of cells are from 0."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._rows: list[list[Cell | None]] = []
        """None stands for a cell of which nothing is known."""

    def forget(self) -> None:
        """Take nothing for granted: the terminal was resized, or another program has written to it."""
        self._size, self._rows = (0, 0), []

    def write(self, size: tuple[int, int], rows: Iterable[ChangedRow], colours: ColorSystem) -> str:
        """Take in new content, and return the sequences by which the terminal comes to show it.

        Args:
            size: columns and rows of the screen; with another size than the last one, everything is written.
            rows: what may have changed.
            colours: what the terminal can show.
        """
        if size != self._size:
            self._size = size
            self._rows = [[None] * size[0] for _ in range(size[1])]
        output = _Output()
        for y, parts in rows:
            if not 0 <= y < size[1]:
                continue
            shown = self._rows[y]
            wanted = shown.copy()
            for x, strip in parts:
                _place(wanted, x, _cells(strip, colours))
            if wanted != shown:
                output.row(y, shown, wanted)
                self._rows[y] = wanted
        return output.finish()


class ChangedCells(CompositorUpdate):
    """A CompositorUpdate of Textual, of which only the cells that differ are written.

    Args:
        update: what Textual would write.
        cells: what the terminal shows; brought up to date when the update is rendered.
        size: columns and rows of the screen.
    """

    def __init__(self, update: LayoutUpdate | ChopsUpdate, cells: TerminalCells, size: tuple[int, int]) -> None:
        self._update = update
        self._cells = cells
        self._size = size

    def render_segments(self, console: Console) -> str:
        """The sequences for the terminal."""
        colours = console._color_system or ColorSystem.TRUECOLOR  # as Strip.render has it
        return self._cells.write(self._size, _rows_of(self._update), colours)


def _rows_of(update: LayoutUpdate | ChopsUpdate) -> Iterable[ChangedRow]:
    """The rows of an update, each with the strips that it replaces."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            parts, x = [], update.region.x
            for strip in line:
                parts.append((x, strip))
                x += strip.cell_length
            yield y, parts
        return
    # A chop is a part of a row that was rendered anew, whole, because it meets a changed span; others are None.
    for y in sorted({y for y, _, _ in update.spans}):
        yield y, [(x, strip) for x, strip in update.chops[y].items() if strip is not None]


def _cells(strip: Strip, colours: ColorSystem) -> list[Cell]:
    """The cells of a strip."""
    cells: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        sgr, link = _PLAIN, ""
        if style is not None:
            sgr, link = _parse(Strip.render_ansi(style, colours)), style.link or ""
        blank = Cell(" ", _of_blank(sgr), link)
        if text.isspace() and text.isascii():
            cells.extend([blank] * len(text))
            continue
        cells.extend(blank if piece == " " else Cell(piece, sgr, link) for piece in _pieces(text))
    return cells


@lru_cache(4096)
def _parse(codes: str) -> Sgr:
    """SGR parameters by what they set."""
    attributes: list[str] = []
    foreground = background = ""
    numbers = codes.split(";") if codes else []
    while numbers:
        number = numbers.pop(0)
        taken = number
        if number in ("38", "48") and numbers:  # 38;5;N or 38;2;R;G;B
            size = 2 if numbers[0] == "5" else 4
            taken = ";".join([number, *numbers[:size]])
            del numbers[:size]
        if number[:-1] in ("3", "9"):
            foreground = taken
        elif number[:-1] in ("4", "10"):
            background = taken
        else:
            attributes.append(number)
    return Sgr(tuple(attributes), foreground, background)


@lru_cache(4096)
def _of_blank(sgr: Sgr) -> Sgr:
    """What is seen of it on a space: the background, unless something is drawn there too."""
    return sgr if set(sgr.attributes) - _UNSEEN_ON_BLANKS else Sgr((), "", sgr.background)


@lru_cache(4096)
def _change(old: Sgr, new: Sgr) -> str:
    """The sequence that leads from one rendition to another."""
    if old == new:
        return ""
    if new == _PLAIN:
        return "\x1b[0m"
    parameters: list[str] = []
    if old.attributes != new.attributes:
        if not set(old.attributes) <= _ENDED_BY.keys():
            return f"\x1b[{';'.join(filter(None, ('0', *new.attributes, new.foreground, new.background)))}m"
        parameters += [*dict.fromkeys(_ENDED_BY[one] for one in old.attributes), *new.attributes]
    if old.foreground != new.foreground:
        parameters.append(new.foreground or "39")
    if old.background != new.background:
        parameters.append(new.background or "49")
    return f"\x1b[{';'.join(parameters)}m"


@lru_cache(1024)
def _pieces(text: str) -> tuple[str, ...]:
    """The text of each cell: see `Cell`.

    Few are kept, since rows of a chart never come again, and each character once: as an object of its own each cell of
    braille would take 76 bytes, and the rows of a day as many megabytes as the rest of the app.
    """
    pieces: list[str] = []
    start = 0
    while start < len(text):
        agreed = _AGREED.match(text, start)
        end = agreed.end() if agreed else start
        if start < end < len(text) and not get_character_cell_size(text[end]):
            end -= 1  # a mark that combines with the character before it
        for character in text[start:end]:
            pieces += [sys.intern(character), *[""] * (get_character_cell_size(character) - 1)]
        start = end
        end = min(start + 1, len(text))
        while end < len(text) and not _AGREED.fullmatch(text[end]):
            end += 1
        if size := cell_len(text[start:end]):
            pieces += [text[start:end], *[""] * (size - 1)]
        start = end
    return tuple(pieces)


def _place(row: list[Cell | None], x: int, cells: list[Cell]) -> None:
    """Replace the cells of a row from a column on; what is left of a piece that is cut by that is no longer known."""
    cells = cells[: max(len(row) - x, 0)]
    if not cells:
        return
    first = _first_cell(row, x)
    row[first:x] = [None] * (x - first)
    after = end = x + len(cells)
    while after < len(row) and _continues(row[after]):
        row[after] = None
        after += 1
    row[x:end] = cells


def _continues(cell: Cell | None) -> bool:
    """Whether a cell belongs to a piece that begins left of it."""
    return cell is not None and not cell.text


def _first_cell(row: Sequence[Cell | None], x: int) -> int:
    """The column in which the piece begins to which a cell belongs."""
    while x > 0 and _continues(row[x]):
        x -= 1
    return x


class _Output:
    """The sequences of one update, which begins and ends with the terminal's own rendition."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._cursor: tuple[int, int] | None = None
        """(row, column); None where terminals may disagree."""
        self._sgr = _PLAIN
        self._link = ""

    def row(self, y: int, shown: Sequence[Cell | None], wanted: Sequence[Cell | None]) -> None:
        """Write what differs in a row."""
        differing = (x for x, cell in enumerate(wanted) if cell is not None and cell != shown[x])
        for x in dict.fromkeys(_first_cell(wanted, x) for x in differing):
            if (cell := wanted[x]) is not None:
                self._move(y, x, wanted)
                end = x + 1
                while end < len(wanted) and _continues(wanted[end]):
                    end += 1
                self._put(cell, y, x, end - x)

    def _move(self, y: int, x: int, wanted: Sequence[Cell | None]) -> None:
        if self._cursor == (y, x):
            return
        column = self._cursor[1] if self._cursor is not None and self._cursor[0] == y else None
        if column is None or column > x:
            self._written.append(f"\x1b[{y + 1};{x + 1}H")
        elif x - column <= _LONGEST_GAP and all(self._fits(cell) for cell in wanted[column:x]):
            self._written += [cell.text for cell in wanted[column:x] if cell is not None]
        else:
            self._written.append(f"\x1b[{x - column}C")
        self._cursor = (y, x)

    def _fits(self, cell: Cell | None) -> bool:
        """Whether a cell can be written as it is with the present rendition."""
        if cell is None or cell.link != self._link or not (cell.text.isascii() and cell.text):
            return False
        return cell.sgr == (_of_blank(self._sgr) if cell.text == " " else self._sgr)

    def _put(self, cell: Cell, y: int, x: int, width: int) -> None:
        if cell.link != self._link:
            self._written.append(f"\x1b]8;;{cell.link}\x1b\\")
            self._link = cell.link
        if not (cell.text == " " and self._fits(cell)):
            self._written.append(_change(self._sgr, cell.sgr))
            self._sgr = cell.sgr
        if _AGREED.fullmatch(cell.text):
            self._written.append(cell.text)
            self._cursor = (y, x + width)
        else:
            # Blanks first: where the terminal draws the piece narrower, nothing of what stood there is left.
            self._written.append(f"{' ' * width}\x1b[{width}D{cell.text}")
            self._cursor = None

    def finish(self) -> str:
        """All of it; empty when nothing differs."""
        if self._link:
            self._written.append("\x1b]8;;\x1b\\")
        return "".join([*self._written, _change(self._sgr, _PLAIN)])
