"""Rows of one prompt never stand side by side, and the order depends on nothing but the seed."""

from collections import Counter
from itertools import pairwise

from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.spread_by_prompt import spread_by_prompt
from tests.support.data_files import assistant, user


def answers(prompts: int, each: int) -> list[LabelledAnswer]:
    return [
        LabelledAnswer(number + 1, [user(f"prompt {number // each}")], [assistant(f"{number}")], number % each == 0)
        for number in range(prompts * each)
    ]


def test_every_row_is_kept_once_and_the_seed_decides_the_order() -> None:
    rows = answers(40, 2)
    ordered = spread_by_prompt(rows, 1)
    assert sorted(row.row for row in ordered) == [row.row for row in rows]
    assert ordered == spread_by_prompt(rows, 1) != spread_by_prompt(rows, 2)
    assert ordered != rows


def test_answers_to_one_prompt_are_far_apart() -> None:
    """A micro-batch of KTO pairs each answer with the next prompt, which must be another one."""
    for each in (2, 3, 5):
        ordered = spread_by_prompt(answers(60, each), 42)
        places: dict[str, list[int]] = {}
        for place, row in enumerate(ordered):
            places.setdefault(row.prompt[0]["content"], []).append(place)
        nearest = min(later - earlier for one in places.values() for earlier, later in pairwise(one))
        assert nearest > 40


def test_labels_are_mixed_all_along() -> None:
    """The desirable answer of a pair comes first in the file; in the order it must not."""
    ordered = spread_by_prompt(answers(200, 2), 42)
    quarters = [Counter(row.desirable for row in ordered[start : start + 100]) for start in range(0, 400, 100)]
    assert all(30 <= quarter[True] <= 70 for quarter in quarters)
