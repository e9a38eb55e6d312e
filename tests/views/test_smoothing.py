"""The exponential moving average of a series."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.views.series import Series
from dpo_tui.views.smoothing import SmoothedSeries

values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=400)


def test_smoothing_is_the_bias_corrected_moving_average():
    series = Series()
    data = [3.0, 1.0, 4.0, 1.0, 5.0]
    series.extend(range(len(data)), data)
    smooth = SmoothedSeries(series, 0.5).update()
    average = weight = 0.0
    for value in data:
        average, weight = 0.5 * average + 0.5 * value, 0.5 * weight + 0.5
    assert smooth.last_value == pytest.approx(average / weight)
    assert next(iter(smooth.buckets()))[1] == pytest.approx(3.0)


@given(values)
def test_smoothing_bit_by_bit_gives_what_smoothing_at_once_gives(data):
    growing, whole = Series(), Series()
    follower = SmoothedSeries(growing, 0.9)
    for step, value in enumerate(data):
        growing.add(step, value)
        follower.update()
    whole.extend(range(len(data)), data)
    assert list(follower.series.buckets()) == list(SmoothedSeries(whole, 0.9).update().buckets())


def test_smoothing_starts_again_when_the_run_went_back():
    series = Series()
    series.extend(*zip(*[(0, 1.0), (1, 100.0)], strict=True))
    follower = SmoothedSeries(series, 0.9)
    follower.update()
    series.extend(*zip(*[(1, 1.0), (2, 1.0)], strict=True))
    series.add(1, 1.0)
    assert follower.update().last_value == pytest.approx(1.0)
