"""Axes: ranges, ticks, and numbers as short text."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.text.numbers import short_number
from dpo_tui.views.axes import nice_axis, step_range, tick_label, ticks


def test_the_right_edge_moves_in_leaps_so_that_a_new_point_redraws_little():
    ends = [step_range(step)[1] for step in range(1024, 2048)]
    assert len(set(ends)) <= 9
    assert all(end >= step for end, step in zip(ends, range(1024, 2048), strict=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.512, "0.512"), (12.345, "12.3"), (9.996, "10.0"), (71, "71.0"), (12_000, "12.0k"), (5e-7, "5e-7"),
        (4.7e-6, "4.7e-6"), (0, "0"), (nan, "NaN"), (float("-inf"), "-∞"), (-0.00012, "-1.2e-4"), (0.99999, "1.00"),
        (1.5e9, "1.50G"),
    ],
)  # fmt: skip
def test_numbers_are_written_short(value, text):
    assert short_number(value) == text


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9), st.booleans())
def test_an_axis_holds_its_data_and_its_ticks(low, extent, log):
    axis = nice_axis(low, low + extent, log=log)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + slack
    assert axis.high >= low + extent - slack
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks(axis, 4))


def test_an_accuracy_axis_ends_at_one():
    assert nice_axis(0.55, 0.99, within=(0.0, 1.0)).high == 1.0


def test_a_logarithmic_axis_needs_positive_values():
    assert nice_axis(1e-7, 1e-2, log=True).log
    assert not nice_axis(0.0, 1e-2, log=True).log


def test_ticks_show_the_decimals_they_differ_in():
    assert [tick_label(value, 0.2) for value in (0.4, 0.6000000000000001)] == ["0.4", "0.6"]
    assert tick_label(2.5, 2.5) == "2.5"
