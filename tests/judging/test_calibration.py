"""Agreement with a person: κ and its interval against published values, and what is refused or warned of."""

import math
import random

import pytest

from dpo_tui.judging.calibration import calibrate
from dpo_tui.judging.judges.judge import Side

SIDES: tuple[Side, ...] = ("left", "right", "tie")


def verdicts(table: list[list[int]]) -> list[tuple[Side, Side]]:
    """Pairs of verdicts from a table of counts: rows are the person's, columns the judge's."""
    return [
        (person, judge)
        for row, person in zip(table, SIDES, strict=True)
        for count, judge in zip(row, SIDES, strict=True)
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("table", "kappa", "interval"),
    [
        # Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, table 18.1: κ 0.68, error 0.087.
        ([[75, 1, 4], [5, 4, 1], [0, 0, 10]], 0.6765, (0.505, 0.848)),
        # By hand: p_o = 0.7, p_e = 0.5, κ = 0.2 / 0.5. Cell by cell, p (0.5 − (row + column)·0.3)², plus 0.09 · the
        # others' p (row + column)², less 0.01, gives an error of 0.12698.
        ([[20, 5, 0], [10, 15, 0], [0, 0, 0]], 0.4, (0.1511, 0.6489)),
        ([[10, 10, 0], [10, 10, 0], [0, 0, 0]], 0.0, (-0.3099, 0.3099)),
        ([[5, 10, 0], [15, 10, 0], [0, 0, 0]], -0.25, None),
    ],
)
def test_kappa_and_its_interval_are_those_of_the_literature(
    table: list[list[int]], kappa: float, interval: tuple[float, float] | None
) -> None:
    found = calibrate(verdicts(table))
    assert found.kappa == pytest.approx(kappa, abs=5e-5)
    assert found.interval is not None and found.kappa is not None
    assert found.interval[0] < found.kappa < found.interval[1]
    if interval is not None:
        assert found.interval == pytest.approx(interval, abs=5e-4)


def test_the_interval_is_that_of_resampled_pairs() -> None:
    """A bootstrap with a fixed seed, which knows nothing of the formula: the standard error within a tenth."""
    pairs = verdicts([[60, 10, 5], [15, 50, 10], [10, 5, 35]])
    found = calibrate(pairs)
    assert found.interval is not None
    draw = random.Random(1)
    kappas = [calibrate(draw.choices(pairs, k=len(pairs))).kappa or 0.0 for _ in range(2000)]
    mean = sum(kappas) / len(kappas)
    error = math.sqrt(sum((kappa - mean) ** 2 for kappa in kappas) / len(kappas))
    assert (found.interval[1] - found.interval[0]) / 2 / 1.959964 == pytest.approx(error, rel=0.1)


def test_full_agreement_on_few_pairs_is_not_certainty() -> None:
    """The formula's error is 0 there. Wilson's interval of 20 in 20 begins at 0.8389; (0.8389 − 0.5) / 0.5 = 0.678."""
    found = calibrate(verdicts([[10, 0, 0], [0, 10, 0], [0, 0, 0]]))
    assert (found.kappa, found.interval) == (1.0, (pytest.approx(0.6777, abs=1e-4), 1.0))
    assert found.warning == ""
    assert found.summary() == (
        "The judge agrees with the person on 20 of 20 pairs: Cohen's κ 1.00 (95 % interval 0.68 to 1.00)."
    )
    never = calibrate(verdicts([[0, 10, 0], [10, 0, 0], [0, 0, 0]]))
    assert (never.kappa, never.interval) == (-1.0, (-1.0, pytest.approx(-0.6777, abs=1e-4)))


@pytest.mark.parametrize("pairs", [0, 1, 19])
def test_nothing_is_stated_of_fewer_than_twenty_pairs(pairs: int) -> None:
    found = calibrate([("left", "left")] * pairs)
    assert (found.pairs, found.agreed, found.kappa, found.interval) == (pairs, pairs, None, None)
    assert f"{20 - pairs} more are needed" in found.summary()


def test_one_verdict_for_everything_leaves_it_undefined() -> None:
    found = calibrate([("tie", "tie")] * 20)
    assert found.kappa is None
    assert "nothing tells agreement from chance" in found.summary()


@pytest.mark.parametrize(
    ("table", "warning"),
    [
        ([[20, 5, 0], [10, 15, 0], [0, 0, 0]], ""),
        ([[19, 6, 0], [10, 15, 0], [0, 0, 0]], "below 0.4: this judge does not stand in"),
        ([[7, 3, 0], [3, 7, 0], [0, 0, 0]], "The interval includes 0"),
    ],
)
def test_little_agreement_is_warned_of(table: list[list[int]], warning: str) -> None:
    found = calibrate(verdicts(table))
    assert (warning in found.warning) if warning else not found.warning
