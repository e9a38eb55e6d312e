"""Wrapping of foreign text into rows of styled pieces."""

from unittest import mock

import pytest
from rich.cells import cell_len

from dpo_tui.views import styled_text
from dpo_tui.views.styled_text import wrap_pieces


@pytest.mark.parametrize("text", ["漢字" * 50, "a漢" * 50, "word 漢字漢字 word", "x" * 99])
def test_no_row_is_wider_than_asked_and_nothing_is_lost(text: str) -> None:
    rows = wrap_pieces([("ab ", "text"), (text, "value")], 7)
    # A space at the end of a row may hang over: it shows nothing.
    assert all(cell_len("".join(piece for piece, _ in row).rstrip()) <= 7 for row in rows)
    assert "".join(piece for row in rows for piece, _ in row).replace(" ", "") == f"ab{text}".replace(" ", "")


def test_a_word_of_many_rows_is_measured_once_a_row_and_not_to_its_end() -> None:
    with mock.patch.object(styled_text, "cell_len", side_effect=styled_text.cell_len) as measured:
        wrap_pieces([("漢" * 4000, "text")], 10)
    characters = sum(len(call.args[0]) for call in measured.call_args_list)
    assert characters < 5 * 4000
