"""Which rows of some JSON lines may hold unusual characters, told from their bytes alone.

Looking for a byte is far faster than matching a pattern in every text, and most rows are clean. What is found here is
only suspected: the checks then look at the texts of these rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEL, _C1_LEAD, _C1_END, _PUNCTUATION, _PRIVATE = 0x7F, 0xC2, 0xA0, 0xE2, 0xEE
_OVERRIDES = ((0x80, 0xAA, 0xAE), (0x81, 0xA6, 0xA9))  # U+202A to U+202E and U+2066 to U+2069, after E2
_FIRST_FOREIGN = 0xCD  # lead byte of Greek; what comes before is Latin
_GREATEST_MARGIN = 6
_BLOCK = 1 << 16
_MANY = 1000


def _members(characters: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=bool)
    table[list(characters)] = True
    return table


_AFTER_LESS = _members(b"|s/<beup\xef\\")  # <| <s> </s> <<SYS>> <bos> <eos> <unk> <pad> <｜
_AFTER_BRACKET = _members(b"I/\\")  # [INST] [/INST]
_ZERO_PAGE = _members(b"01789")  # \\u000. \\u001. \\u007f \\u008. \\u009.
_LATIN_PAGES = _members(b"012")  # \\u00.. \\u01.. \\u02..


@dataclass(frozen=True, slots=True)
class Suspicions:
    """Rows of a portion, counted from 0, in order.

    Args:
        controls: may hold a control character or a bidirectional override.
        tokens: may hold a special token of a chat template.
        foreign: may hold letters that are not Latin.
    """

    controls: NDArray[np.int64]
    tokens: NDArray[np.int64]
    foreign: NDArray[np.int64]


def suspicions(raw: bytes) -> Suspicions:
    """Look through the bytes of a portion and name the suspected rows.

    Args:
        raw: the JSON lines.
    """
    data = np.frombuffer(raw + b"\0" * _GREATEST_MARGIN, dtype=np.uint8)
    unusual = _unusual(data)
    codes = data[unusual]
    escapes = unusual[codes == ord("\\")]
    unicode_escapes = escapes[data[escapes + 1] == ord("u")]
    leads = unusual[codes >= _C1_LEAD]
    controls = [_find(raw, b"\x7f"), *_escaped_controls(data, escapes, unicode_escapes), *_raw_controls(data, leads)]
    brackets = _find(raw, b"<"), _find(raw, b"[")
    ends = np.flatnonzero(data == ord("\n")) + 1
    return Suspicions(
        controls=_rows(ends, controls),
        tokens=_rows(ends, _tokens(data, unicode_escapes, brackets)),
        foreign=_rows(ends, _foreign(data, unicode_escapes, leads)),
    )


def _find(raw: bytes, sign: bytes) -> NDArray[np.int64]:
    """Where a byte is that most texts lack: the search of ``bytes`` is faster than numpy until there are many."""
    found: list[int] = []
    at = raw.find(sign)
    while at >= 0:
        found.append(at)
        if len(found) > _MANY:
            return np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == sign[0])
        at = raw.find(sign, at + 1)
    return np.array(found, dtype=np.int64)


def _unusual(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where backslashes and the first bytes of characters beyond ASCII are.

    One search for both, since comparing bytes is nearly free and collecting places is not; and a block at a time, since
    fresh memory for whole portions costs more than the comparisons.
    """
    found = []
    marked, compared = np.empty(_BLOCK, dtype=bool), np.empty(_BLOCK, dtype=bool)
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        marks, one = marked[: len(block)], compared[: len(block)]
        np.greater_equal(block, _C1_LEAD, out=marks)
        np.equal(block, ord("\\"), out=one)
        np.bitwise_or(marks, one, out=marks)
        found.append(np.flatnonzero(marks) + start)
    return np.concatenate(found)


def _rows(ends: NDArray[np.int64], places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.searchsorted(ends, np.concatenate(places), side="right"))


def _escaped_controls(
    data: NDArray[np.uint8], escapes: NDArray[np.int64], unicode_escapes: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    after = data[escapes + 1]
    found = [escapes[(after == ord("b")) | (after == ord("f"))]]
    if len(unicode_escapes):
        first, second, third = (data[unicode_escapes + at] for at in (2, 3, 4))
        zero_page = (first == ord("0")) & (second == ord("0")) & _ZERO_PAGE[third]
        punctuation = (first == ord("2")) & (second == ord("0")) & ((third == ord("2")) | (third == ord("6")))
        found.append(unicode_escapes[zero_page | punctuation])
    return found


def _raw_controls(data: NDArray[np.uint8], leads: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    kinds = data[leads]
    first_page = leads[kinds == _C1_LEAD]
    found = [first_page[data[first_page + 1] < _C1_END]]
    punctuation = leads[kinds == _PUNCTUATION]
    second, third = data[punctuation + 1], data[punctuation + 2]
    for expected, low, last in _OVERRIDES:
        found.append(punctuation[(third >= low) & (third <= last) & (second == expected)])
    return found


def _tokens(
    data: NDArray[np.uint8],
    unicode_escapes: NDArray[np.int64],
    brackets: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    found = []
    for places, following in zip(brackets, (_AFTER_LESS, _AFTER_BRACKET), strict=True):
        found.append(places[following[data[places + 1]]])
    # Some writers escape the brackets themselves: \\u003c and \\u005b.
    if not len(unicode_escapes):
        return found
    first, second, third = (data[unicode_escapes + at] for at in (2, 3, 4))
    page = (first == ord("0")) & (second == ord("0")) & ((third == ord("3")) | (third == ord("5")))
    return [*found, unicode_escapes[page]]


def _foreign(
    data: NDArray[np.uint8], unicode_escapes: NDArray[np.int64], leads: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    kinds = data[leads]
    letters = leads[(kinds >= _FIRST_FOREIGN) & (kinds != _PUNCTUATION) & (kinds < _PRIVATE)]
    first, second = data[unicode_escapes + 2], data[unicode_escapes + 3]
    latin = (first == ord("0")) & _LATIN_PAGES[second]
    return [letters, unicode_escapes[~latin & (first != ord("2"))]]
