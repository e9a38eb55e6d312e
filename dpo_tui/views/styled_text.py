"""Styled text as plain data: pieces of (text, role), their width, and how they are wrapped, cut and aligned.

A role names a component class of the widget that draws the piece (`dpo_tui.widgets.rows_widget`), which gives it its
colour. Widths are in terminal cells: a wide character takes two.
"""

from collections.abc import Sequence

from rich.cells import cell_len

from dpo_tui.text.printable import printable

StyledPiece = tuple[str, str]
"""(text, role). The text is never markup."""
StyledRow = list[StyledPiece]
"""The pieces of one row, from left to right; their text is printable."""
Paragraph = tuple[str, str]
"""(text, role) of one paragraph of a page: may be long, hold line breaks and come from a file."""

PART_GAP = 3
"""Spaces between the parts of a row."""


def row_width(row: StyledRow) -> int:
    """Cells that a row takes."""
    return sum(cell_len(text) for text, _ in row)


def justified(left: StyledRow, right: StyledRow, width: int) -> StyledRow:
    """A row with one part at each end; the right part is left out where there is no room for it."""
    space = width - row_width(left) - row_width(right)
    if space < 1:
        return left
    return [*left, (" " * space, ""), *right]


def padded(row: StyledRow, width: int, role: str) -> StyledRow:
    """A row cut to a width, or filled up to it with spaces of a role."""
    cut: StyledRow = []
    for text, piece_role in row:
        left = width - row_width(cut)
        if left <= 0:
            break
        cut.append((text[:left], piece_role))
    return [*cut, (" " * (width - row_width(cut)), role)]


def join_parts(parts: Sequence[StyledRow], width: int) -> tuple[StyledRow, list[StyledRow]]:
    """Join as many parts as fit into a row.

    Args:
        parts: the most important first; foreign text in them is made printable.
        width: cells of the row.

    Returns:
        The row, which holds the first part whatever its width, and the parts that did not fit.
    """
    row: StyledRow = []
    for index, part in enumerate(parts):
        clean: StyledRow = [(printable(text), role) for text, role in part]
        if row and row_width(row) + PART_GAP + row_width(clean) > width:
            return row, list(parts[index:])
        row += [(" " * PART_GAP, "muted"), *clean] if row else clean
    return row, []


def wrap_pieces(pieces: Sequence[StyledPiece], width: int) -> list[StyledRow]:
    """Wrap text whose pieces have roles: at spaces where possible, and at the line breaks that it holds.

    Args:
        pieces: foreign text, joined without a gap.
        width: cells of a row.
    """
    rows: list[StyledRow] = []
    row: StyledRow = []
    used = 0

    def end_row() -> None:
        nonlocal row, used
        rows.append(row)
        row, used = [], 0

    for text, role in pieces:
        for number, line in enumerate(printable(text).expandtabs(4).split("\n")):
            if number:
                end_row()
            for word in _split_words(line):
                size = cell_len(word)
                if used and used + cell_len(word.rstrip()) > width:
                    end_row()
                    word = word.lstrip()  # noqa: PLW2901 - no space at the start of a wrapped row
                    size = cell_len(word)
                # Chinese has no spaces: a page of it is one word, of which each row counts its own characters only.
                begin = 0
                while size > width:
                    cut = _characters_that_fit(word, begin, width - used)
                    row.append((word[begin:cut], role))
                    size -= cell_len(word[begin:cut])
                    begin = cut
                    end_row()
                if begin < len(word):
                    row.append((word[begin:], role))
                    used += size
    end_row()
    return rows


def _split_words(line: str) -> list[str]:
    """The words of a line with the spaces behind them: joined, they are the line again."""
    words: list[str] = []
    start = 0
    for index in range(1, len(line)):
        if line[index - 1] == " " and line[index] != " ":
            words.append(line[start:index])
            start = index
    return [*words, line[start:]] if line else []


def _characters_that_fit(word: str, begin: int, room: int) -> int:
    """Where the part of a word ends that begins there and fits into ``room`` cells; it has 1 character at least."""
    used = 0
    for index in range(begin, len(word)):
        used += cell_len(word[index])
        if used > max(room, 1):
            return max(index, begin + 1)
    return len(word)
