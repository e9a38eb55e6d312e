"""The receipt counts the answers that are cut, and how often the chosen one is the longer."""

import pytest
from datasets import Dataset

from dpo_tui.train.trainer.answer_lengths import AnswerLengths, answer_lengths

PAIRS = Dataset.from_dict({
    "prompt_ids": [[1] * 4, [1] * 4, [1] * 9, [1] * 2],
    "chosen_ids": [[2] * 6, [2] * 3, [2] * 1, [2] * 12],
    "rejected_ids": [[3] * 5, [3] * 7, [3] * 1, [3] * 2],
})  # fmt: skip


@pytest.mark.parametrize(
    ("max_length", "mode", "cut"),
    [(None, "keep_start", 0), (14, "keep_start", 0), (11, "keep_start", 1), (10, "keep_start", 2), (9, "keep_start", 4),
     (9, "keep_end", 1), (12, "keep_end", 0)],
)  # fmt: skip
def test_an_answer_is_cut_where_it_does_not_fit(max_length: int | None, mode: str, cut: int) -> None:
    """keep_start cuts what is beyond the prompt and the room left; keep_end cuts prompts first."""
    assert answer_lengths(PAIRS, max_length, mode) == AnswerLengths(answers_cut=cut, chosen_longer=2)


def test_rows_are_counted_as_the_dataset_has_them_after_a_selection() -> None:
    """A filtered dataset is a list of places in the same table."""
    assert answer_lengths(PAIRS.select([3, 0]), 10, "keep_start") == AnswerLengths(answers_cut=1, chosen_longer=2)
    assert answer_lengths(PAIRS.select([]), 10, "keep_start") == AnswerLengths()


def test_demonstrations_have_no_two_answers_to_compare() -> None:
    assert answer_lengths(Dataset.from_dict({"input_ids": [[1, 2]]}), 1, "keep_start") == AnswerLengths()
