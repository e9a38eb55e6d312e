"""Numbers as text, in the forms that settings, charts and estimates need."""

import re
from math import nan
from pathlib import Path

import pytest

import dpo_tui
from dpo_tui.text.numbers import grouped_number, parameter_count, plain_number, short_number, whole_percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.512, "0.512"), (12.345, "12.3"), (9.996, "10.0"), (71, "71.0"), (12_000, "12.0k"), (5e-7, "5e-7"),
        (4.7e-6, "4.7e-6"), (0, "0"), (nan, "NaN"), (float("-inf"), "-∞"), (-0.00012, "-1.2e-4"), (0.99999, "1.00"),
        (1.5e9, "1.50G"), (1234, "1234"), (2e15, "2e15"),
    ],
)  # fmt: skip
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (2.0, "2"), (5e-7, "5e-7"), (1e-10, "1e-10")])
def test_a_setting_is_written_as_in_a_config_file(value: float, text: str) -> None:
    assert plain_number(value) == text


def test_no_number_is_a_negative_zero() -> None:
    assert [short_number(-0.0), plain_number(-0.0), grouped_number(-0.4)] == ["0", "0", "0"]


SIGNED = re.compile(
    r"\{[^{}\n]*(?:kl(?:'\]|\b)|margin|estimates|estimate\.mean|reward|log_ratio)[^{}\n:]*:(?!z|\+z)[^{}\n]*\.\d[f%]\}"
)


def test_every_figure_that_may_round_to_zero_from_below_is_written_without_a_sign_then() -> None:
    """KL estimates, margins and rewards: the format option z (PEP 682) takes the sign from a zero."""
    package = Path(dpo_tui.__file__).parent
    found = {
        f"{path.relative_to(package)}: {match[0]}"
        for path in package.rglob("*.py")
        for match in SIGNED.finditer(path.read_text(encoding="utf-8"))
        if "accuracies" not in match[0]
    }
    assert found == set()


def test_counts_have_their_thousands_separated() -> None:
    assert [grouped_number(value) for value in (0, 999, 1124.6)] == ["0", "999", "1,125"]


@pytest.mark.parametrize(("count", "text"), [(8_030_000_000, "8.03 B"), (134_500_000, "134.5 M")])
def test_the_size_of_a_model_is_given_in_parameters(count: int, text: str) -> None:
    assert parameter_count(count) == text


@pytest.mark.parametrize(
    ("share", "percent"), [(0.0, 0), (412 / 1125, 36), (0.29, 29), (0.57, 57), (0.999, 99), (1.0, 100)]
)
def test_a_percentage_is_rounded_down_the_same_way_everywhere(share: float, percent: int) -> None:
    """The list of runs, the bar and `status` agree, and 100 % is said of what is done."""
    assert whole_percent(share) == percent
