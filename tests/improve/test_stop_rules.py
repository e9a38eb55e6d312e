"""Each rule that ends an improvement ends it at its limit and not before, with its evidence."""

from typing import Any

import pytest

from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.stop_rules import stop_after
from dpo_tui.judging.win_rate import wilson


def _wins(tuned: int, base: int) -> dict[str, Any]:
    decided = tuned + base
    interval = list(wilson(tuned, decided)) if decided else None
    return {"tuned": tuned, "base": base, "rate": tuned / decided if decided else None, "interval": interval}


def _round(
    number: int, start: tuple[int, int] = (30, 10), last: tuple[int, int] = (30, 10), **more: Any
) -> dict[str, Any]:
    return {
        "number": number,
        "wins": {"judge": {"start": _wins(*start), "last": _wins(*last)}},
        "features": {"words": 50.0},
        "kl": None,
        "counts": {},
        **more,
    }


def _plan(**options: Any) -> ImprovementPlan:
    return ImprovementPlan("", "better", "model", **({"rounds": 9} | options))


START = {"words": 50.0}


def test_it_goes_on_while_no_rule_ends_it() -> None:
    assert stop_after(_plan(), [], START) is None
    assert stop_after(_plan(), [_round(1)], START) is None


def test_the_target_must_be_reached_by_the_lower_end_of_the_interval() -> None:
    # Wilson's interval of 36 in 40 begins at 0.7695: 0.90 is not known to be above 0.8.
    assert stop_after(_plan(target=0.77), [_round(1, start=(36, 4))], START) is None
    stop = stop_after(_plan(target=0.76), [_round(1, start=(36, 4))], START)
    assert stop is not None and stop.rule == "target"
    assert stop.sentence == (
        "the target of 76% is reached: wins 36 of 40 (90%, 95 % interval 77% to 96%) over the start model"
    )


def test_two_rounds_without_a_gain_end_it_and_one_does_not() -> None:
    gain, none = (30, 10), (22, 18)
    assert stop_after(_plan(), [_round(1, last=none)], START) is None
    assert stop_after(_plan(), [_round(1, last=none), _round(2, last=gain)], START) is None
    stop = stop_after(_plan(), [_round(1, last=gain), _round(2, last=none), _round(3, last=(0, 0))], START)
    assert stop is not None and stop.rule == "no-gain"
    assert "round 2 wins 22 of 40" in stop.sentence and "round 3 has no decided verdict" in stop.sentence


def test_the_limit_of_kl() -> None:
    assert stop_after(_plan(kl_limit=10.0), [_round(1, kl=10.0)], START) is None
    assert stop_after(_plan(), [_round(1, kl=99.0)], START) is None
    stop = stop_after(_plan(kl_limit=10.0), [_round(1, kl=10.5)], START)
    assert stop is not None and stop.rule == "kl" and "10.5 nats per answer" in stop.sentence


@pytest.mark.parametrize(("words", "said"), [(101.0, "2.0 times as long"), (24.0, "48% as long"), (0.0, "0% as long")])
def test_the_limit_of_length_holds_both_ways(words: float, said: str) -> None:
    assert stop_after(_plan(), [_round(1, features={"words": 100.0})], START) is None
    stop = stop_after(_plan(), [_round(1, features={"words": words})], START)
    assert stop is not None and stop.rule == "length" and said in stop.sentence


def test_a_judge_that_contradicts_itself_in_most_comparisons_ends_it() -> None:
    def counts(asked: int, contradicted: int) -> dict[str, Any]:
        return {"judge": {"asked": asked, "contradicted": contradicted}}

    assert stop_after(_plan(), [_round(1, counts=counts(40, 20))], START) is None
    assert stop_after(_plan(), [_round(1, counts=counts(19, 19))], START) is None
    stop = stop_after(_plan(), [_round(1, counts=counts(40, 21))], START)
    assert stop is not None and stop.rule == "judge" and "in 21 of 40 comparisons" in stop.sentence


def test_the_last_round_ends_it() -> None:
    stop = stop_after(_plan(rounds=2), [_round(1), _round(2)], START)
    assert stop is not None and (stop.rule, stop.sentence) == ("rounds", "all 2 rounds are done")
