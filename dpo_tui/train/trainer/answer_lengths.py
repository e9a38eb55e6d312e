"""The lengths of the tokenised answers of a run, as its receipt counts them."""

from dataclasses import dataclass
from typing import Any

_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_BATCH = 10_000


@dataclass(frozen=True)
class AnswerLengths:
    """Counts over the training pairs.

    Attributes:
        answers_cut: pairs of which an answer is cut at max_seq_length.
        chosen_longer: pairs whose chosen answer has more tokens than the rejected one.
    """

    answers_cut: int = 0
    chosen_longer: int = 0


def answer_lengths(dataset: Any, max_length: int | None, truncation_mode: str) -> AnswerLengths:
    """Count the answers that are cut, and the pairs whose chosen answer is the longer one.

    Args:
        dataset: the tokenised pairs; other datasets have no such answers.
        max_length: tokens of prompt and answer that TRL keeps; None cuts nothing.
        truncation_mode: ``keep_start`` cuts the end, the answer; ``keep_end`` cuts the prompt first.
    """
    if not set(_COLUMNS) <= set(dataset.column_names or ()):
        return AnswerLengths()
    from pyarrow import compute

    cut = longer = 0
    # As Arrow: the ids of a million pairs need not become Python lists to be counted.
    for batch in dataset.select_columns(list(_COLUMNS)).with_format("arrow").iter(batch_size=_BATCH):
        prompt, chosen, rejected = (compute.list_value_length(batch[column]) for column in _COLUMNS)
        longer += compute.sum(compute.greater(chosen, rejected)).as_py() or 0
        if max_length is not None:
            tokens = compute.max_element_wise(chosen, rejected)
            if truncation_mode == "keep_start":
                tokens = compute.add(tokens, prompt)
            cut += compute.sum(compute.greater(tokens, max_length)).as_py() or 0
    return AnswerLengths(cut, longer)
