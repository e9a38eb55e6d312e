"""Rows of styled text as plain data: pieces of text, each with the role that colours it."""

from rich.cells import cell_len

StyledRow = list[tuple[str, str]]
"""Pieces of (text, role); the text is printable and never markup, the role names a component class."""


def row_width(row: StyledRow) -> int:
    """Cells that a row takes."""
    return sum(cell_len(text) for text, _ in row)


def justified(left: StyledRow, right: StyledRow, width: int) -> StyledRow:
    """A row with one part at each end; the right part goes when there is no room for it."""
    space = width - row_width(left) - row_width(right)
    if space < 1:
        return left
    return [*left, (" " * space, ""), *right]
