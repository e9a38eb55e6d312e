"""Find the rows of JSON lines that may hold unusual characters, from their bytes alone, and where the lines end.

Searching for a byte is far faster than matching a pattern in every text, and most rows are clean. The result is a
superset (a ``<|`` need not be a template token): the checks then look at the decoded texts of these rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LINE_BREAK, _ESCAPE, _QUOTE = ord("\n"), ord("\\"), ord('"')
_C1_LEAD, _C1_END, _PUNCTUATION, _PRIVATE = 0xC2, 0xA0, 0xE2, 0xEE
_OVERRIDES = ((0x80, 0xAA, 0xAE), (0x81, 0xA6, 0xA9))  # U+202A to U+202E and U+2066 to U+2069, after E2
_FIRST_FOREIGN = 0xCD  # UTF-8 lead byte of Greek; the letters before it are Latin
# Unsigned bytes wrap round: with C1_LEAD subtracted, the lead bytes of characters beyond ASCII are 0 to 0x3D, and the
# control characters before the space follow directly. So one comparison finds both.
_SPACE_AFTER_C1_LEAD = (ord(" ") - _C1_LEAD) % 256
_BLOCK = 1 << 17  # bytes
_MANY = 1000


def _members(characters: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=bool)
    table[list(characters)] = True
    return table


_AFTER_LESS = _members(b"|s/<beup\xef\\")  # <| <s> </s> <<SYS>> <bos> <eos> <unk> <pad> <｜
_AFTER_BRACKET = _members(b"I/\\")  # [INST] [/INST]
_ZERO_PAGE = _members(b"01789")  # \\u000. \\u001. \\u007f \\u008. \\u009.
_LATIN_1_LEAD = 0xC3  # of À to ÿ, for which the first bytes of characters are taken that are encoded twice
# First bytes of what the bytes after them are taken for: Latin-1's signs, Œ to ž, ƒ, ˆ and ˜, quotes and dashes.
_AFTER_LATIN_1 = (0xC2, 0xC5, 0xC6, 0xCB, 0xE2)
_UPPER_LATIN_1 = _members(b"cdefCDEF")  # \\u00c. to \\u00f.
_LATIN_PAGES = _members(b"012")  # \\u00.. \\u01.. \\u02..


@dataclass(frozen=True, slots=True)
class UnusualRows:
    """Rows of some JSON lines, counted from 0, in order.

    Args:
        ends: the offset after each line break, and the end of the data.
        controls: may hold a control character or a bidirectional override.
        tokens: may hold a special token of a chat template.
        foreign: may hold letters that are not Latin.
        double_encoded: may hold characters that were encoded twice.
        quotes: how many quotes begin or end a text. Where a text ends in a backslash it may be fewer.
    """

    ends: NDArray[np.int64]
    controls: NDArray[np.int64]
    tokens: NDArray[np.int64]
    foreign: NDArray[np.int64]
    double_encoded: NDArray[np.int64]
    quotes: int


def unusual_rows(raw: bytes) -> UnusualRows:
    """Search the bytes of JSON lines for rows that may hold unusual characters.

    Args:
        raw: the lines. At least a quote and a brace follow every text in a row, so that the bytes examined after the
            first one of a character or an escape never lie beyond the end.
    """
    data = np.frombuffer(raw, dtype=np.uint8)
    unusual, quotes = _unusual(data)
    codes = data[unusual]
    ends = unusual[codes == _LINE_BREAK] + 1
    if len(data) and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    after = _at(data, unusual + 1)
    escapes = codes == _ESCAPE
    unicode_escapes = unusual[escapes & (after == ord("u"))]
    controls = [
        # DEL lies neither below the space nor beyond ASCII, so the one comparison of `_unusual` does not find it.
        _find(raw, b"\x7f"),
        unusual[escapes & ((after == ord("b")) | (after == ord("f")))],
        unusual[(codes == _C1_LEAD) & (after < _C1_END)],
        *_overrides(data, unusual[codes == _PUNCTUATION]),
        *_escaped_controls(data, unicode_escapes),
    ]
    letters = unusual[(codes >= _FIRST_FOREIGN) & (codes != _PUNCTUATION) & (codes < _PRIVATE)]
    return UnusualRows(
        ends=ends,
        controls=_rows(ends, controls),
        tokens=_rows(ends, _tokens(raw, data, unicode_escapes)),
        foreign=_rows(ends, [letters, *_escaped_letters(data, unicode_escapes)]),
        double_encoded=_rows(ends, _double_encoded(data, unusual, codes, unicode_escapes)),
        quotes=quotes - int(np.count_nonzero(escapes & (after == _QUOTE))),
    )


def _at(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bytes at some offsets; beyond the end the last one, which belongs to no text."""
    found: NDArray[np.uint8] = data.take(offsets, mode="clip")
    return found


def _find(raw: bytes, byte: bytes) -> NDArray[np.int64]:
    """Offsets of a byte that most texts lack: ``bytes.find`` is faster than numpy until there are many."""
    found: list[int] = []
    at = raw.find(byte)
    while at >= 0:
        found.append(at)
        if len(found) > _MANY:
            return np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == byte[0])
        at = raw.find(byte, at + 1)
    return np.array(found, dtype=np.int64)


def _unusual(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Offsets of backslashes, control characters (line breaks, tabs) and lead bytes beyond ASCII; the number of quotes.

    One search for all, since comparing bytes is nearly free and collecting offsets is not; and block by block, since
    allocating memory for a whole chunk costs more than the comparisons.
    """
    found = [np.zeros(0, dtype=np.int64)]
    quotes = 0
    shifted = np.empty(_BLOCK, dtype=np.uint8)
    marked, compared = np.empty(_BLOCK, dtype=bool), np.empty(_BLOCK, dtype=bool)
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        moved, marks, equal = (part[: len(block)] for part in (shifted, marked, compared))
        np.subtract(block, _C1_LEAD, out=moved)
        np.less(moved, _SPACE_AFTER_C1_LEAD, out=marks)
        np.equal(block, _ESCAPE, out=equal)
        np.bitwise_or(marks, equal, out=marks)
        (offsets,) = marks.nonzero()
        offsets += start
        found.append(offsets)
        np.equal(block, _QUOTE, out=equal)
        quotes += int(np.count_nonzero(equal))
    return np.concatenate(found), quotes


def _rows(ends: NDArray[np.int64], offsets: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The rows in which some offsets lie, each once and in order."""
    found = np.concatenate(offsets)
    return np.unique(np.searchsorted(ends, found, side="right")) if len(found) else found


def _overrides(data: NDArray[np.uint8], leads: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if not len(leads):
        return []
    second, third = _at(data, leads + 1), _at(data, leads + 2)
    return [leads[(third >= low) & (third <= last) & (second == expected)] for expected, low, last in _OVERRIDES]


def _escaped_controls(data: NDArray[np.uint8], unicode_escapes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if not len(unicode_escapes):
        return []
    first, second, third = (_at(data, unicode_escapes + at) for at in (2, 3, 4))
    zero_page = (first == ord("0")) & (second == ord("0")) & _ZERO_PAGE[third]
    punctuation = (first == ord("2")) & (second == ord("0")) & ((third == ord("2")) | (third == ord("6")))
    return [unicode_escapes[zero_page | punctuation]]


def _tokens(raw: bytes, data: NDArray[np.uint8], unicode_escapes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    found = []
    for byte, following in ((b"<", _AFTER_LESS), (b"[", _AFTER_BRACKET)):
        offsets = _find(raw, byte)
        found.append(offsets[following[_at(data, offsets + 1)]])
    # Some writers escape the brackets themselves: \\u003c and \\u005b.
    if not len(unicode_escapes):
        return found
    first, second, third = (_at(data, unicode_escapes + at) for at in (2, 3, 4))
    page = (first == ord("0")) & (second == ord("0")) & ((third == ord("3")) | (third == ord("5")))
    return [*found, unicode_escapes[page]]


def _double_encoded(
    data: NDArray[np.uint8],
    unusual: NDArray[np.int64],
    codes: NDArray[np.uint8],
    unicode_escapes: NDArray[np.int64],
) -> list[NDArray[np.int64]]:
    """Offsets of letters from À to ÿ that are directly before what a second byte may be taken for.

    The bytes are compared before their offsets: there are many accents in some languages, and bytes are small.
    """
    first, second = codes[:-1], codes[1:]
    follows = np.zeros(len(second), dtype=bool)
    for code in _AFTER_LATIN_1:
        follows |= second == code
    pairs = np.flatnonzero(follows & (first == _LATIN_1_LEAD))
    found = [unusual[pairs[unusual[pairs + 1] - unusual[pairs] == 2]]]  # noqa: PLR2004 (bytes of such a letter)
    if len(unicode_escapes):
        high, low, third, after = (_at(data, unicode_escapes + at) for at in (2, 3, 4, 6))
        page = (high == ord("0")) & (low == ord("0")) & _UPPER_LATIN_1[third]
        found.append(unicode_escapes[page & (after == _ESCAPE)])
    return found


def _escaped_letters(data: NDArray[np.uint8], unicode_escapes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    if not len(unicode_escapes):
        return []
    first, second = _at(data, unicode_escapes + 2), _at(data, unicode_escapes + 3)
    latin = (first == ord("0")) & _LATIN_PAGES[second]
    return [unicode_escapes[~latin & (first != ord("2"))]]
