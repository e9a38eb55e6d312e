"""Text that was encoded twice: UTF-8 that was taken for Windows-1252 or Latin-1, and saved as UTF-8 again.

``ä`` becomes ``Ã¤`` and ``’`` becomes ``â€™``. Such a text is valid UTF-8, so no decoder complains. A character of it
stands for a byte, and the bytes are UTF-8 again. Real text has such characters too: ``MANHÃ”`` (Portuguese in quotes),
``„MENÜ“``, ``100 Å²``. So only sequences count that no language writes, and of other scripts several in a row.
"""

import re
from collections.abc import Iterable

from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import pair_check

IDENTITY = "double-encoded"
_MOST_ROUNDS = 3
"""How often a text may have been encoded too much."""
_AROUND = 12
"""Characters that an example shows on either side."""


def _characters() -> dict[int, str]:
    """The character that each byte from 0x80 on was taken for; where Windows-1252 has none, Latin-1's control."""
    found = {}
    for byte in range(0x80, 0x100):
        try:
            found[byte] = bytes([byte]).decode("cp1252")
        except UnicodeDecodeError:
            found[byte] = chr(byte)
    return found


_OF_BYTE = _characters()
_TO_BYTE = {ord(character): byte for byte, character in _OF_BYTE.items()}
# Browsers and Latin-1 leave 0x80 to 0x9F as they are: controls, which Windows-1252 has other characters for.
_TO_BYTE |= {code: code for code in range(0x80, 0xA0)}
_IS_ONE_BYTE = re.compile("[\x00-\x7f" + "".join(map(re.escape, map(chr, _TO_BYTE))) + "]*")


def _class(first: int, last: int, without: str = "") -> str:
    characters = {_OF_BYTE[byte] for byte in range(first, last + 1)} | {chr(code) for code in range(first, last + 1)}
    return "[" + "".join(re.escape(one) for one in sorted(characters - set(without))) + "]"


_NEXT = _class(0x80, 0xBF)
"""What continuation bytes of UTF-8 were taken for."""
_AFTER_LETTERS = "\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2022\u2026\u2039\u203a\u2122\xab\xbb"
"""Those of them that follow a capital letter in real text: quotes, dashes, an ellipsis."""
_MEASURES = "\xb0\xb1\xb2\xb3\xb4\xb7\xb9\xad"
"""Those that follow Å, the unit."""
_SEQUENCE = re.compile(
    "|".join(
        (
            f"\xc2{_class(0xA0, 0xBF, _AFTER_LETTERS)}",  # ° £ © and the no-break space
            f"\xc3{_class(0x80, 0xBF, _AFTER_LETTERS)}",  # accented Latin letters
            f"\xc3[{_AFTER_LETTERS}](?=[a-z])",
            f"\xc4{_class(0x80, 0xBF, _AFTER_LETTERS)}",  # Polish, Czech, Turkish letters
            f"\xc5{_class(0x80, 0xBF, _AFTER_LETTERS + _MEASURES)}",
            f"\xe2[\u20ac\x80-\x9f]{_NEXT}",  # quotes, dashes, bullets
            f"\xe2[\u201a\u201e\u2020\u02c6\u2030\u0153\u02dc\u2122]{_NEXT}",  # € ™ → ≥ ✓ ★
            f"\xf0\u0178{_NEXT}{{2}}|\xf0\x9f{_NEXT}{{2}}",  # emoji
            "\xef\xbb\xbf",  # a byte-order mark
            f"(?:[\xd0\xd1]{_NEXT}){{3}}|(?:[\xce\xcf]{_NEXT}){{3}}",  # Cyrillic; Greek
            f"(?:\xd7{_NEXT}){{3}}|(?:[\xd8\xd9]{_NEXT}){{3}}",  # Hebrew; Arabic
            f"(?:[\xe0\xe1\xe3-\xe9\xea-\xed]{_NEXT}{{2}}){{2}}",  # Indic, Thai, Chinese, Japanese, Korean
        )
    )
)

_BEGINNING = re.compile(f"[\xc2-\xc5\xce-\xd1\xd7-\xd9\xe0-\xed\xef\xf0]{_NEXT}")
"""The first two characters of every such sequence: a search for two classes goes through text 30 times as fast."""


def _first_sequence(text: str) -> re.Match[str] | None:
    beginning = None if text.isascii() else _BEGINNING.search(text)
    return _SEQUENCE.search(text, beginning.start()) if beginning else None


def repaired_text(text: str) -> str | None:
    """The text that was encoded twice, restored; None where nothing is wrong, or where it cannot be undone exactly.

    It can where every character stands for a byte and these bytes are UTF-8. One character that was right, among those
    that were not, or one that was lost, and it cannot: then nothing of the text is changed.
    """
    found = text
    for done in range(_MOST_ROUNDS):
        # After a first round whatever can be undone is undone: accents that are right are no UTF-8.
        if found.isascii() or not (done or _first_sequence(found)) or not _IS_ONE_BYTE.fullmatch(found):
            break
        try:
            found = bytes(_TO_BYTE.get(code, code) for code in map(ord, found)).decode("utf-8")
        except UnicodeDecodeError:
            break
    return found if found != text else None


@pair_check(
    IDENTITY,
    "warning",
    bit=25,
    title="letters became two or three wrong ones",
    explanation="UTF-8 was read as Windows-1252 and saved again (Ã¤ for ä, â€™ for ’): the model learns to write that.",
    remedy="Repair it at its source, or by `--write OUT --fix-encoding`, which changes what can be undone exactly.",
    in_app="Repair it at its source, or tick its restoration in w, which changes what can be undone exactly.",
)
def double_encoded(batch: PairColumns) -> Iterable[int]:
    """Sequences of characters that no language writes, and that are UTF-8 read as Windows-1252 or Latin-1."""
    for index in batch.candidates("double_encoded"):
        if any(map(_first_sequence, batch.texts_at(index))):
            yield index


def example(parts: Iterable[str]) -> str:
    """A few words around the first such sequence, and what they were, or that it cannot be undone."""
    for text in parts:
        found = _first_sequence(text)
        if found is None:
            continue
        start = max(text.rfind(" ", 0, found.start()) + 1, found.start() - _AROUND)
        words = text[start : found.end() + _AROUND]
        whole = repaired_text(text)
        if whole is None:
            return f"{words!r}; this text cannot be undone exactly"
        restored = repaired_text(words)
        return f"{words!r} was {restored!r}" if restored else f"{words!r}"
    return ""
