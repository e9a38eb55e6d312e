"""Held-out rows are chosen by prompt, so that no prompt is on both sides."""

import random

import pytest

from dpo_tui.data.pairs.hold_out_by_prompt import split_by_prompt
from dpo_tui.data.pairs.pair import Pair
from tests.support.data_files import pairs_of


def prompts_of(found: list[Pair]) -> set[str]:
    return {pair.prompt[0]["content"] for pair in found}


def test_no_prompt_is_on_both_sides() -> None:
    """Whole prompt groups move together."""
    everything = pairs_of([f"prompt {number % 30}" for number in range(300)])
    train, held_out = split_by_prompt(everything, 0.2, seed=1)
    assert not prompts_of(train) & prompts_of(held_out)
    assert len(held_out) == 60
    assert sorted(pair.row for pair in train + held_out) == list(range(1, 301))


def test_the_same_seed_gives_the_same_split_whatever_the_order() -> None:
    everything = pairs_of([f"prompt {number}" for number in range(50)])
    shuffled = random.Random(0).sample(everything, len(everything))
    assert prompts_of(split_by_prompt(everything, 0.1, 7)[1]) == prompts_of(split_by_prompt(shuffled, 0.1, 7)[1])
    assert prompts_of(split_by_prompt(everything, 0.1, 7)[1]) != prompts_of(split_by_prompt(everything, 0.1, 8)[1])


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_two_prompts_give_one_to_each_side(fraction: float) -> None:
    train, held_out = split_by_prompt(pairs_of(["a", "b", "b", "b"]), fraction, 0)
    assert train
    assert held_out


def test_a_single_prompt_cannot_be_held_out() -> None:
    train, held_out = split_by_prompt(pairs_of(["a", "a"]), 0.5, 0)
    assert (len(train), held_out) == (2, [])


def test_nothing_is_held_out_of_nothing() -> None:
    everything = pairs_of(["a", "b"])
    assert split_by_prompt(everything, 0, 0) == (everything, [])


def test_a_share_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        split_by_prompt(pairs_of(["a"]), 1.0, 0)
