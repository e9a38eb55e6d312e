"""Of several attention implementations the fastest that computes what plain TRL computes is taken, in limited time."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from dpo_tui.train.shortcuts import attention_choice
from dpo_tui.train.shortcuts.attention_choice import MeasuredAttention, PassResult, choose_attention, passes_of_choice

LOGPS, GRADIENTS = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([3.0, 4.0])


def result(logps: float = 0.0, gradients: float = 0.0) -> PassResult:
    """A pass whose log-probabilities and gradients are so far from plain TRL's, the gradients as a share."""
    return PassResult(LOGPS + logps, GRADIENTS * (1 + gradients))


class StandIn:
    """Passes that take so many seconds of a clock of their own, and differ so much from plain TRL.

    Args:
        seconds: of each implementation, for a batch.
        differ: what each computes.
        noise: plain TRL in another layout.
    """

    def __init__(
        self, seconds: dict[str, float], differ: dict[str, Any] | None = None, noise: PassResult | None = None
    ) -> None:
        self.seconds, self.differ, self.noise = seconds, differ or {}, noise or result()
        self.time, self.calls = 0.0, 0

    def clock(self) -> float:
        return self.time

    def plain(self) -> Sequence[PassResult]:
        self.calls += 2
        self.time += 2 * next(iter(self.seconds.values()))
        return [result(), self.noise]

    def shared(self, attention: str) -> PassResult:
        self.timed(attention)
        found: PassResult | Exception = self.differ.get(attention, result())
        if isinstance(found, Exception):
            raise found
        return found

    def timed(self, attention: str) -> float:
        self.calls += 1
        self.time += self.seconds[attention]
        return self.seconds[attention]


def choose(passes: StandIn, **options: Any) -> Any:
    return choose_attention(list(passes.seconds), passes, passes.clock, **options)


def test_the_fastest_is_taken_and_the_receipt_has_what_was_measured() -> None:
    choice = choose(StandIn({"sdpa": 0.5, "varlen": 0.25, "flex_attention": 0.3}, noise=result(0.125, 0.25)))
    assert choice.name == "varlen"
    assert choice.why == "the fastest of those measured, 0.25 s a batch, against sdpa 0.5 s, flex_attention 0.3 s"
    told = choice.to_json()
    assert told["noise"] == {"logps_differ": 0.125, "gradients_differ": 0.25}
    assert told["candidates"][1] == {
        "name": "varlen",
        "seconds": 0.25,
        "logps_differ": 0.0,
        "gradients_differ": 0.0,
        "why_not": "",
    }


def test_the_models_own_stays_where_nothing_is_faster() -> None:
    assert choose(StandIn({"sdpa": 0.5, "varlen": 0.5})).name == "sdpa"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (result(logps=0.3), "log-probabilities differ by 0.3 from plain TRL's, which differ by 0.01 themselves"),
        (result(gradients=0.3), "gradients differ by 0.3 from plain TRL's, which differ by 0.02 themselves"),
        (result(gradients=float("nan")), "gradients differ by inf"),
        (ValueError("no such head"), "the model refuses it: ValueError: no such head"),
        (torch.OutOfMemoryError("8 GiB"), "the GPU's memory is too small for it"),
    ],
    ids=["log-probabilities", "gradients", "nan", "refused", "memory"],
)
def test_what_is_fast_and_wrong_is_not_taken(found: Any, reason: str) -> None:
    choice = choose(StandIn({"sdpa": 0.5, "varlen": 0.1}, {"varlen": found}, noise=result(0.01, 0.02)))
    assert choice.name == "sdpa"
    assert choice.candidates[1].why_not.startswith(reason)
    assert choice.candidates[1].seconds is None


def test_four_times_what_plain_trl_differs_from_itself_is_allowed() -> None:
    """Half precision rounds differently in every batch layout."""
    for factor, name in ((3.9, "varlen"), (4.1, "sdpa")):
        found = result(0.01 * factor, 0.02 * factor)
        assert choose(StandIn({"sdpa": 0.5, "varlen": 0.1}, {"varlen": found}, noise=result(0.01, 0.02))).name == name


def test_a_model_whose_own_attention_is_wrong_is_not_left_with_it_by_being_first() -> None:
    choice = choose(StandIn({"sdpa": 0.1, "varlen": 0.5}, {"sdpa": result(0.3)}))
    assert choice.name == "varlen"


def test_all_of_it_ends_within_the_limit() -> None:
    """A pass begins only where one as long as the longest so far would end in time."""
    passes = StandIn({"sdpa": 3.0, "varlen": 1.0, "flex_attention": 1.0})
    choice = choose(passes, limit=20.0)
    assert passes.time <= 20.0
    assert choice.name == "sdpa"
    assert choice.candidates[2].why_not == "20 s were over"
    slow = choose(StandIn({"sdpa": 30.0, "varlen": 1.0}), limit=20.0)
    assert (slow.name, slow.why) == ("sdpa", "none was measured to the end: 20 s were over")


def test_no_more_passes_are_made_than_the_budget_counts() -> None:
    passes = StandIn({"sdpa": 0.1, "varlen": 0.1, "flex_attention": 0.1})
    choose(passes)
    assert passes.calls <= passes_of_choice(3)


def test_ranks_take_the_same_one_by_the_slowest_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """varlen is fastest here, slow on another rank, and flex_attention is refused there."""
    there = [
        MeasuredAttention("sdpa", 0.5, 0.0, 0.0),
        MeasuredAttention("varlen", 0.9, 0.0, 0.0),
        MeasuredAttention("flex_attention", None, None, None, "no compiler"),
    ]
    monkeypatch.setattr(attention_choice, "values_of_ranks", lambda here: [here, there])
    choice = choose(StandIn({"sdpa": 0.4, "varlen": 0.1, "flex_attention": 0.2}))
    assert choice.name == "sdpa"
    assert [one.seconds for one in choice.candidates] == [0.5, 0.9, None]
    assert choice.candidates[2].why_not == "no compiler"
