"""Braille dots, lines and sparklines."""

from math import nan

from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.views.braille import Canvas, blocks, sparkline


def test_a_dot_sits_in_its_cell_and_corner():
    canvas = Canvas(2, 1)
    canvas.bar(0, 0, 0, 1)
    canvas.bar(3, 3, 3, 2)
    assert canvas.glyph(0, 0) == "⠁"
    assert canvas.glyph(1, 0) == "⢀"
    assert (canvas.layer(0, 0), canvas.layer(1, 0)) == (1, 2)


def test_a_falling_line_has_no_holes():
    canvas = Canvas(20, 5)
    canvas.curve([(0, 0.0, 0.0), (39, 19.0, 19.0)], 1)
    filled = {column for column in range(20) if any(canvas.glyph(column, row) != " " for row in range(5))}
    assert filled == set(range(20))


def test_what_lies_outside_the_picture_is_cut_not_wrapped():
    canvas = Canvas(4, 2)
    canvas.curve([(-1, -50.0, -50.0), (3, 4.0, 4.0), (9, 99.0, 99.0)], 1)
    assert canvas.glyph(0, 1) == " " or canvas.layer(0, 1) == 1
    assert len(canvas.bits) == 8


def test_a_gap_is_left_open():
    canvas = Canvas(10, 1)
    canvas.curve([(0, 1.0, 1.0), (1, 1.0, 1.0), (9, nan, nan), (18, 1.0, 1.0), (19, 1.0, 1.0)], 1)
    assert [canvas.glyph(column, 0) for column in range(1, 9)] == [" "] * 8


def test_sparklines_rise_with_their_values():
    assert blocks([0.0, 0.5, 1.0]) == " ▄█"
    assert len(sparkline([1, 2, 3], 6)) == 6
    assert sparkline([], 4) == "    "
    assert in_ascii(blocks([k / 8 for k in range(9)])) == " _.-=+*#@"
