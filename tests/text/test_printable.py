"""Text from outside: no sequence reaches the terminal, nothing visible is hidden, nothing hidden stays unseen."""

import pytest

from dpo_tui.text.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("start \x1b]0;never ended, and what follows", "start 0;never ended, and what follows"),
        ("one \x1b]2;open\ntwo", "one 2;open\ntwo"),
        ("\x1bPdevice control without an end", "device control without an end"),
        ("half \x1b]0;a \x1b[31mred", "half 0;a red"),
        ("a\x00b\x9d", "a�b�"),
    ],
)
def test_sequences_go_and_one_without_an_end_hides_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "hidden",
    ["\u200b", "\u200e", "\u200f", "\u202e", "\u2066", "\u2060", "\ufeff", "\u00ad", "\u061c", "\u3164", "\U000e0041"],
)
def test_what_cannot_be_seen_is_shown_as_a_sign(hidden: str) -> None:
    assert printable(f"pass{hidden}word") == "pass�word"


def test_a_joiner_that_belongs_to_the_spelling_stays_and_one_between_latin_letters_is_shown() -> None:
    assert printable("👩\u200d💻 می\u200cخواهم") == "👩\u200d💻 می\u200cخواهم"
    assert printable("pay\u200dpal \u200c") == "pay�pal �"


def test_a_single_line_has_no_breaks() -> None:
    assert printable("a\r\nb\tc", single_line=True) == "a b c"
