"""What a terminal shows after some output: a grid of characters with their SGR parameters, without line wrap."""

import re
from collections.abc import Callable

from rich.cells import get_character_cell_size

_TOKEN = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\].*?(?:\x07|\x1b\\)|\x1bP.*?\x1b\\|\x1b[()][A-Z0-9]|\x1b[=>]"
    r"|(?P<character>.)",
    re.DOTALL,
)
Rendition = tuple[frozenset[str], str, str]
"""Attributes, foreground, background."""
_PLAIN: Rendition = (frozenset(), "", "")
_ENDS = {"22": {"1", "2"}, "23": {"3"}, "24": {"4"}, "25": {"5"}, "27": {"7"}, "28": {"8"}, "29": {"9"}}


class TerminalGrid:
    """A terminal of a size.

    Args:
        width: columns.
        height: rows.
        width_of: how many cells it gives a character; terminals differ about some.
    """

    def __init__(self, width: int, height: int, width_of: Callable[[str], int] = get_character_cell_size) -> None:
        self.width, self.height, self.width_of = width, height, width_of
        self.cells: list[list[tuple[str, Rendition]]] = [[(" ", _PLAIN)] * width for _ in range(height)]
        self.row = self.column = 0
        self.rendition = _PLAIN

    def feed(self, output: str) -> None:
        """Take what a program writes."""
        for token in _TOKEN.finditer(output):
            if token["parameters"] == "?1049" and token["final"] == "h":  # the other screen, which is empty
                self.cells = [[(" ", _PLAIN)] * self.width for _ in range(self.height)]
            elif token["character"] is not None:
                self._put(token["character"])
            elif token["final"] is not None and not token["parameters"].startswith(("?", ">", "<", "=")):
                numbers = [int(number or 0) for number in token["parameters"].split(";")] if token["parameters"] else []
                self._control(token["final"], numbers)

    def text(self) -> str:
        """The rows, without colours."""
        return "\n".join("".join(cell for cell, _ in row) for row in self.cells)

    def _control(self, final: str, numbers: list[int]) -> None:
        first = numbers[0] if numbers else 1
        if final == "H":
            self.row = min((first or 1), self.height) - 1
            self.column = min((numbers[1] if len(numbers) > 1 else 1) or 1, self.width) - 1
        elif final == "C":
            self.column = min(self.column + (first or 1), self.width - 1)
        elif final == "D":
            self.column = max(self.column - (first or 1), 0)
        elif final == "m":
            self._select([str(number) for number in numbers] or ["0"])

    def _select(self, numbers: list[str]) -> None:
        attributes, foreground, background = self.rendition
        while numbers:
            number = numbers.pop(0)
            if number in ("38", "48"):
                size = 2 if numbers[0] == "5" else 4
                taken = ";".join([number, *numbers[:size]])
                del numbers[:size]
                foreground, background = (taken, background) if number == "38" else (foreground, taken)
            elif number == "0":
                attributes, foreground, background = _PLAIN
            elif number in ("39", "49"):
                foreground, background = ("", background) if number == "39" else (foreground, "")
            elif number in _ENDS:
                attributes -= _ENDS[number]
            elif number[:-1] in ("3", "9"):
                foreground = number
            elif number[:-1] in ("4", "10"):
                background = number
            else:
                attributes |= {number}
        self.rendition = (attributes, foreground, background)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row = min(self.row + 1, self.height - 1)
        elif character >= " " and (size := self.width_of(character)):
            row, at = self.cells[self.row], min(self.column, self.width - 1)
            self._halve(at)
            self._halve(at + size)
            row[at] = (character, self.rendition)
            for index in range(at + 1, min(at + size, self.width)):
                row[index] = ("", self.rendition)
            self.column = at + size

    def _halve(self, at: int) -> None:
        """A character of two cells of which one is written over leaves a space in the other."""
        row = self.cells[self.row]
        if 0 < at < self.width and row[at][0] == "":
            row[at - 1] = (" ", row[at - 1][1])
            row[at] = (" ", row[at][1])
