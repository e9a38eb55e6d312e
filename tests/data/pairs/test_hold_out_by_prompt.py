"""Held-out rows are chosen by prompt, so that no prompt is on both sides."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.data.pairs.hold_out_by_prompt import (
    different_prompts,
    held_out_keys,
    held_out_rows,
    prompt_id,
    prompt_key,
    split_by_prompt,
)
from dpo_tui.data.pairs.pair import Message, Pair
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


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def test_the_split_of_earlier_runs_is_the_split_of_today() -> None:
    """A run that is resumed or judged years later must find the same prompts held out, of groups of every size."""
    prompts = [user(f"prompt {number}") for number in range(12) for _ in range(1 + number * number % 7)]
    held_out = held_out_rows(prompts, 0.25, 42)
    names = [prompt[0]["content"] for prompt, out in zip(prompts, held_out, strict=True) if out]
    assert list(dict.fromkeys(names)) == ["prompt 0", "prompt 4", "prompt 7", "prompt 9"]
    assert len(names) == 10
    assert prompt_key(user("Why?"), 42).hex() == "10841f513c70ad31ebc96fe2d84e7051"


def test_the_name_of_a_prompt_in_run_folders_and_judgements_stays_the_same() -> None:
    """Old verdicts and records of held-out prompts are found by it."""
    assert prompt_id(user("Why?")) == prompt_id([{"content": "Why?", "role": "user"}]) == "04ef5baad7d2c83c"
    assert prompt_id([{"role": "system", "content": "ä"}, *user("日本")]) == "aa1e0f24b8c2694b"


@pytest.mark.parametrize(
    ("fraction", "held_out"),
    [
        (0.05, {b"1"}),  # one prompt at least, though it has three of ten rows
        (0.35, {b"1"}),  # 3 and 4 rows are as far from 3.5: no more than needed
        (0.36, {b"1", b"2"}),
        (0.95, {b"1", b"2"}),  # the last prompt is trained on
    ],
)
def test_prompts_are_held_out_while_that_brings_the_rows_closer_to_the_share(
    fraction: float, held_out: set[bytes]
) -> None:
    assert held_out_keys({b"3": 6, b"1": 3, b"2": 1}, fraction) == held_out


def test_different_prompts_are_those_of_different_text_in_their_order() -> None:
    first, second, third = user("one"), user("two"), user("three")
    again = [{"content": "one", "role": "user"}]
    assert different_prompts([first, second, again, second, third]) == [first, second, third]
    assert different_prompts([first, again, second, third], 2) == [first, second]
    assert different_prompts([first, second], 0) == []


@given(
    st.lists(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.sampled_from("abc")}), max_size=2))
)
def test_different_prompts_are_those_that_a_comparison_of_each_with_each_finds(prompts: list[list[Message]]) -> None:
    again = [[dict(reversed(message.items())) for message in prompt] for prompt in prompts]
    expected = [prompt for number, prompt in enumerate(prompts) if prompt not in prompts[:number]]
    assert different_prompts([*prompts, *again]) == expected
