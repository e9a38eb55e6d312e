"""ASCII equivalents of every glyph that the app draws, for `dpo_tui.themes.ascii_filter`. Imports nothing of Textual.

Each equivalent is one cell wide like its glyph, so the layout stays. A glyph that is missing here becomes a question
mark in ASCII mode.
"""

from functools import lru_cache
from unicodedata import category

from rich.cells import cell_len, set_cell_size

BLOCKS, BLOCK_TWINS = " ▁▂▃▄▅▆▇█", " _.-=+*#@"
_SIGNS = {
    # states of runs (dpo_tui.views.status_labels has their words)
    "◌": "~", "◔": "^", "●": "*", "◍": "?", "◑": "/", "✓": "+", "✗": "x", "■": "#", "⚑": "!", "⚠": "!", "▪": "#",
    # lists, cursors, arrows in words
    "·": "-", "•": "*", "▸": ">", "▾": "v", "▶": ">", "→": ">", "←": "<", "↑": "^", "↓": "v", "…": "~", "○": "o", "▼": "v",
    # signs in words and numbers
    "×": "x", "±": "~", "≤": "<", "≥": ">", "−": "-", "√": "v", "∞": "I", "°": "o", "²": "2", "–": "-", "—": "-",
    "’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "α": "a", "β": "b", "ε": "e", "σ": "s", "τ": "t",
}  # fmt: skip
_LINES = {
    **dict.fromkeys("─━┄┅╌╍╴╶╸╺═⎯", "-"),
    **dict.fromkeys("│┃┆┇┊┋╎╏╵╷╹╻║▌▐▎▏▍▊▋▉▕", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬╼╾╽╿", "+"),
    **dict.fromkeys("▔▀▗▖▝▘▚▞▛▜▙▟", "-"),
    "━": "=",
    "╸": ">",  # the half cell at the end of a bar: only a whole bar looks full
}
# Unicode braille, U+2800 + bits: dots 1-2-3-7 down the left column, 4-5-6-8 down the right one.
BRAILLE_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_DOT_ROWS = 4
# Which of the four dot rows are set, as an ASCII sign: one row by its height, more by slope or bar.
_BY_ROWS = " '-'-~-|.:~|.|||"  # index: bit 0 = top row … bit 3 = bottom row


def _braille_twin(bits: int) -> str:
    """The ASCII sign for a braille cell, by which of its four rows have dots."""
    left, right = BRAILLE_BITS
    return _BY_ROWS[sum(1 << row for row in range(_DOT_ROWS) if bits & (left[row] | right[row]))]


_BRAILLE = {chr(0x2800 + bits): _braille_twin(bits) for bits in range(256)}
TWINS: dict[str, str] = {**_LINES, **dict(zip(BLOCKS, BLOCK_TWINS, strict=True)), **_SIGNS, **_BRAILLE}
_KEPT_CATEGORIES = "LMN"
"""First letters of the Unicode categories of letters, marks and numbers, which are kept if the charset has them."""


@lru_cache(2048)
def in_ascii(text: str, charset: str = "ascii") -> str:
    """A text of the same width in cells, in ASCII but for letters that the terminal can show.

    Args:
        text: what is drawn.
        charset: the terminal's character set.
    """
    drawn = "".join(sign if sign.isascii() else TWINS.get(sign) or _letter(sign, charset) for sign in text)
    cells = cell_len(text)
    return drawn if cell_len(drawn) == cells else set_cell_size(drawn, cells)


def _letter(sign: str, charset: str) -> str:
    if category(sign)[0] in _KEPT_CATEGORIES:
        try:
            sign.encode(charset)
        except UnicodeEncodeError:
            pass
        else:
            return sign
    return "?" * cell_len(sign)
