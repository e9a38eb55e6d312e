"""A tally counts every verdict once, and claims a winner only where the interval allows it."""

import pytest

from dpo_tui.judging.win_rate import WINNERS, WinRate, tally


def test_nothing_is_counted_before_the_first_verdict() -> None:
    assert tally([]) == WinRate() == WinRate(tuned=0, base=0, tie=0, both_bad=0, same=0)
    assert (WinRate().judged, WinRate().decided, WinRate().rate, WinRate().interval) == (0, 0, None, None)
    assert WinRate().summary() == "No verdict for either side yet; 0 ties, 0 both bad, 0 the same."


def test_every_verdict_counts_once_and_only_wins_decide() -> None:
    found = WinRate(tuned=16, base=8, tie=4, both_bad=2, same=1)
    assert (found.judged, found.decided, found.rate) == (31, 24, 16 / 24)
    assert sorted(WINNERS) == ["base", "both-bad", "same", "tie", "tuned"]
    assert tally([*WINNERS, "tuned", "a later version's word"]) == WinRate(2, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("tuned", "base", "says"),
    [(10, 0, "the tuned model is better"), (0, 10, "the base model is better"), (6, 4, "too few to tell")],
)
def test_a_winner_is_named_only_where_the_interval_leaves_out_one_half(tuned: int, base: int, says: str) -> None:
    found = WinRate(tuned=tuned, base=base)
    assert found.is_decided is (says != "too few to tell")
    assert says in found.summary()
    assert f"wins {tuned} of 10: {tuned * 10}%" in found.summary()
