"""Durations as text: exact ones in two units, estimates in one."""

import pytest

from dpo_tui.text.durations import ago, duration, rough_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (4320, "1 h 12 min"),
        (187200, "2 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_a_span_of_time_is_told_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_moment_in_the_past_is_given_in_its_largest_unit() -> None:
    assert ago(1000.0, 1000.0 + 4320) == "1 h ago"


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12_600, "3.5 h"), (181_440, "2.1 days")])
def test_an_estimate_has_no_more_digits_than_it_deserves(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s ago"), (59, "59 s ago"), (200, "3 min ago"), (8000, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago_is_said_in_the_largest_unit(seconds: float, text: str) -> None:
    assert ago(1000.0, 1000.0 + seconds) == text
