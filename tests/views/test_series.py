"""Metric series: nothing is lost but detail, and memory is bounded."""

from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.views.series import Series

values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=400)


@given(values, st.integers(2, 300), st.sampled_from([8, 32, 1 << 15]))
def test_a_view_of_the_whole_run_holds_its_highest_and_lowest_value_whatever_the_width(data, columns, capacity):
    """A spike of one step among many must be on the screen."""
    series = Series(capacity=capacity)
    series.extend(range(len(data)), data)
    shown = series.view(0, max(len(data) - 1, 1), columns)
    assert max(high for _, _, high in shown) == max(data)
    assert min(low for _, low, _ in shown) == min(data)


@given(values, st.integers(2, 120), st.sampled_from([8, 32]))
def test_columns_of_a_view_come_from_left_to_right_and_once_each(data, columns, capacity):
    series = Series(capacity=capacity)
    series.extend(range(len(data)), data)
    found = [column for column, _, _ in series.view(0, max(len(data) - 1, 1), columns)]
    assert found == sorted(set(found))
    assert all(-1 <= column <= columns for column in found)


@given(values, st.data())
def test_a_zoomed_view_shows_only_what_lies_in_it_and_one_neighbour_on_each_side(data, draw):
    series = Series()
    series.extend(range(len(data)), data)
    start = draw.draw(st.integers(0, len(data) - 1))
    stop = draw.draw(st.integers(start, len(data) - 1)) + 1
    inside = [high for column, _, high in series.view(start, stop, 5000) if 0 <= column < 5000]
    assert max(inside) == max(data[start : stop + 1])


def test_a_million_points_take_bounded_memory_and_keep_a_single_spike():
    series = Series(capacity=1024)
    for step in range(100_000):
        series.add(step, 50.0 if step == 12_345 else 1.0)
    assert sum(len(level.mean) for level in series._levels) <= 2 * 1024 + 32
    assert series.bounds(0, 100_000) == (1.0, 50.0)
    assert series.bounds(20_000, 100_000) == (1.0, 1.0)
    assert len(series) == 100_000


@given(values, st.integers(0, 400), st.integers(2, 60))
def test_expecting_many_points_loses_no_extreme(data, so_far, columns):
    series = Series(capacity=16)
    so_far = min(so_far, len(data))
    series.extend(range(so_far), data[:so_far])
    series.expect(500)
    series.extend(range(so_far, len(data)), data[so_far:])
    assert series.span >= 32
    shown = series.view(0, max(len(data) - 1, 1), columns)
    assert max(high for _, _, high in shown) == max(data)
    assert min(low for _, low, _ in shown) == min(data)
    assert len(series) == len(data)


def test_the_newest_points_are_in_view_even_before_their_bucket_is_full():
    series = Series(capacity=8)
    for step in range(29):
        series.add(step, 1.0)
    series.add(29, 9.0)
    assert series.span > 1
    assert max(high for _, _, high in series.view(0, 29, 40)) == 9.0


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.0, -3.25, nan, inf])), max_size=60),
        max_size=8,
    ),
    st.sampled_from([4, 16, 1 << 10]),
)
def test_adding_many_points_at_once_is_adding_each(chunks, capacity):
    """Resumed runs, holes and all: fast reading must not change what is drawn."""
    at_once, one_by_one = Series(capacity=capacity), Series(capacity=capacity)
    for number, chunk in enumerate(chunks):
        steps = [number * 50 + step for step, _ in chunk]
        rising = sorted(steps) if number % 2 else steps
        at_once.extend(rising, [value for _, value in chunk])
        for step, (_, value) in zip(rising, chunk, strict=True):
            one_by_one.add(step, value)
    assert repr(list(at_once.buckets())) == repr(list(one_by_one.buckets()))
    assert repr(at_once.view(0, 500, 40)) == repr(one_by_one.view(0, 500, 40))
    assert repr(at_once.last_value) == repr(one_by_one.last_value)
    assert (at_once.count, at_once.span, at_once.unusable) == (one_by_one.count, one_by_one.span, one_by_one.unusable)


@pytest.mark.parametrize("hole", [nan, inf, -inf])
def test_values_that_are_no_numbers_break_the_line_and_are_counted(hole):
    series = Series()
    series.extend(*zip(*[(0, 1.0), (1, hole), (2, 2.0)], strict=True))
    assert [isnan(low) for _, low, _ in series.view(0, 2, 9)] == [False, True, False]
    assert series.unusable == 1
    assert series.bounds(0, 2) == (1.0, 2.0)


def test_a_resumed_run_replaces_what_it_does_again():
    series = Series()
    series.extend(*zip(*[(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0), (25, 9.0), (35, 8.0)], strict=True))
    assert list(series.buckets()) == [(10, 1.0), (20, 2.0), (25, 9.0), (35, 8.0)]
    assert series.rewinds == 1
    assert series.bounds(0, 40) == (1.0, 9.0)


def test_the_reading_at_a_step_is_the_nearest_point():
    series = Series()
    series.extend(*zip(*[(0, 1.0), (10, 2.0), (20, 3.0)], strict=True))
    assert series.at(14).step == 10
    assert series.at(16).mean == 3.0
    assert series.at(1e9).step == 20
    assert Series().at(3) is None


def test_an_empty_series_has_nothing_to_draw():
    series = Series()
    assert series.view(0, 10, 20) == []
    assert series.bounds(0, 10) is None
    assert series.tail(8) == []
