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
    "·": "-", "•": "*", "▸": ">", "▾": "v", "▶": ">", "→": ">", "←": "<", "↑": "^", "↓": "v", "…": "~", "○": "o",
    "▼": "v",
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
CONSOLE_GLYPHS = frozenset("─│┌┐└┘├┤┬┴┼░▒▓█▄▌▐▀·°±²")
"""What fonts of the Linux console have: the kernel's own is code page 437, and those of distributions keep its lines
and blocks. None has braille."""
_CONSOLE_TWINS = dict(zip("━╸╺┃╭╮╰╯┄╌▇▆", "───│┌┐└┘-─█▄", strict=True))
CONSOLE_CHARSET = "cp437"
_KEPT_CATEGORIES = "LMN"
"""First letters of the Unicode categories of letters, marks and numbers, which are kept if the charset has them."""


@lru_cache(2048)
def in_ascii(text: str, charset: str = "ascii", *, console: bool = False) -> str:
    """A text of the same width in cells, in ASCII but for letters that the terminal can show.

    Args:
        text: what is drawn.
        charset: the terminal's character set.
        console: whether it is drawn on the Linux console, whose font has some lines and blocks, too.
    """
    drawn = "".join(sign if sign.isascii() else _drawn(sign, charset, console=console) for sign in text)
    cells = cell_len(text)
    return drawn if cell_len(drawn) == cells else set_cell_size(drawn, cells)


def _drawn(sign: str, charset: str, *, console: bool) -> str:
    if console:
        if sign in CONSOLE_GLYPHS:
            return sign
        if (twin := _CONSOLE_TWINS.get(sign)) is not None:
            return twin
    return TWINS.get(sign) or _letter(sign, charset)


def _letter(sign: str, charset: str) -> str:
    if category(sign)[0] in _KEPT_CATEGORIES:
        try:
            sign.encode(charset)
        except UnicodeEncodeError:
            pass
        else:
            return sign
    return "?" * cell_len(sign)
