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
_AFTER_LESS = np.frombuffer(b"|s/<beup\xef\\", dtype=np.uint8)  # <| <s> </s> <<SYS>> <bos> <eos> <unk> <pad> <｜
_AFTER_BRACKET = np.frombuffer(b"I/\\", dtype=np.uint8)  # [INST] [/INST]
_ZERO_PAGE = np.frombuffer(b"01789", dtype=np.uint8)  # \\u000. \\u001. \\u007f \\u008. \\u009.
_LATIN_PAGES = np.frombuffer(b"012", dtype=np.uint8)  # \\u00.. \\u01.. \\u02..
_GREATEST_MARGIN = 6


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


def suspicions(raw: bytes, lines: list[bytes]) -> Suspicions:
    """Look through the bytes of a portion and name the suspected rows.

    Args:
        raw: the JSON lines.
        lines: the same, line by line.
    """
    data = np.frombuffer(raw + b"\0" * _GREATEST_MARGIN, dtype=np.uint8)
    ends = np.cumsum(np.fromiter(map(len, lines), dtype=np.int64, count=len(lines)) + 1)
    # One search for all of them: comparing bytes is nearly free, collecting the places is not.
    unusual = np.flatnonzero((data >= _DEL) | (data == ord("\\")) | (data == ord("<")) | (data == ord("[")))
    codes = data[unusual]
    escapes = unusual[codes == ord("\\")]
    unicode_escapes = escapes[data[escapes + 1] == ord("u")]
    high = unusual[codes >= _DEL]
    brackets = unusual[codes == ord("<")], unusual[codes == ord("[")]
    return Suspicions(
        controls=_rows(ends, _controls(data, escapes, unicode_escapes, high)),
        tokens=_rows(ends, _tokens(data, unicode_escapes, brackets)),
        foreign=_rows(ends, _foreign(data, unicode_escapes, high)),
    )


def _rows(ends: NDArray[np.int64], places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.searchsorted(ends, np.concatenate(places), side="right"))


def _controls(
    data: NDArray[np.uint8], escapes: NDArray[np.int64], unicode_escapes: NDArray[np.int64], high: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    after = data[escapes + 1]
    found = [escapes[(after == ord("b")) | (after == ord("f"))]]
    first, second, third = (data[unicode_escapes + at] for at in (2, 3, 4))
    zero_page = (first == ord("0")) & (second == ord("0")) & np.isin(third, _ZERO_PAGE)
    punctuation = (first == ord("2")) & (second == ord("0")) & ((third == ord("2")) | (third == ord("6")))
    found.append(unicode_escapes[zero_page | punctuation])
    lead, second, third = data[high], data[high + 1], data[high + 2]
    found.append(high[(lead == _DEL) | ((lead == _C1_LEAD) & (second < _C1_END))])
    for expected, low, last in _OVERRIDES:
        found.append(high[(lead == _PUNCTUATION) & (second == expected) & (third >= low) & (third <= last)])
    return found


def _tokens(
    data: NDArray[np.uint8],
    unicode_escapes: NDArray[np.int64],
    brackets: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    found = []
    for places, following in zip(brackets, (_AFTER_LESS, _AFTER_BRACKET), strict=True):
        found.append(places[np.isin(data[places + 1], following)])
    # Some writers escape the brackets themselves: \\u003c and \\u005b.
    first, second, third = (data[unicode_escapes + at] for at in (2, 3, 4))
    page = (first == ord("0")) & (second == ord("0")) & ((third == ord("3")) | (third == ord("5")))
    return [*found, unicode_escapes[page]]


def _foreign(
    data: NDArray[np.uint8], unicode_escapes: NDArray[np.int64], high: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    lead = data[high]
    letters = high[(lead >= _FIRST_FOREIGN) & (lead != _PUNCTUATION) & (lead < _PRIVATE)]
    first, second = data[unicode_escapes + 2], data[unicode_escapes + 3]
    latin = (first == ord("0")) & np.isin(second, _LATIN_PAGES)
    return [letters, unicode_escapes[~latin & (first != ord("2"))]]
