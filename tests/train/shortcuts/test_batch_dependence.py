"""RoPE that depends on the batch, and the batches in which the reference is scored: on modules of a few numbers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from dpo_tui.train.shortcuts.batch_dependence import rope_obstacle
from dpo_tui.train.shortcuts.check_budget import DatasetLengths
from dpo_tui.train.shortcuts.reference_precompute import PAIR_COLUMNS, compute_logps


class Rope(torch.nn.Module):  # type: ignore[misc]
    """What transformers' rotary embeddings keep of their settings."""

    def __init__(self, kind: Any, *, parameters: Any = None, trained: int | None = None, longest: int | None = None):
        super().__init__()
        self.rope_type = kind
        self.config = SimpleNamespace(rope_parameters=parameters)
        if trained is not None:
            self.config.original_max_position_embeddings = trained
        if longest is not None:
            self.original_max_seq_len = longest


def obstacle(rope: Rope, *rows: int) -> str | None:
    lengths = np.array(rows, dtype=np.int64)
    return rope_obstacle(torch.nn.Sequential(torch.nn.Linear(1, 1), rope), DatasetLengths(lengths, lengths))


LONG = {"original_max_position_embeddings": 100}


@pytest.mark.parametrize(
    ("rope", "rows", "found"),
    [
        (Rope("default"), (10, 500), None),
        (Rope("yarn", trained=100), (10, 500), None),
        (Rope("dynamic", longest=100), (10, 101), "(dynamic) depends on the longest row of a batch, and from 100"),
        (Rope("dynamic", longest=100), (10, 100), None),
        (Rope("dynamic"), (10, 11), "(dynamic) depends on the longest row of a batch; the longest has 11 tokens"),
        (Rope("dynamic"), (11, 11), None),
        (Rope("longrope", parameters=LONG), (10, 101), "(longrope) depends on the longest row of a batch"),
        (Rope("longrope", parameters=LONG), (10, 100), None),
        (Rope("longrope", parameters=LONG), (101, 500), None),
        (Rope("longrope", parameters=LONG), (100, 500), "(longrope)"),
        (Rope("longrope", trained=100), (10, 100), None),
        (Rope({"full": "longrope", "sliding": "default"}, parameters={"full": LONG}), (10, 101), "(longrope)"),
        (Rope({"full": "longrope", "sliding": "default"}, parameters={"full": LONG}), (10, 100), None),
        (Rope("longrope", parameters=LONG), (), None),
    ],
)  # fmt: skip
def test_rope_is_in_the_way_only_where_rows_of_one_batch_may_get_other_frequencies(
    rope: Rope, rows: tuple[int, ...], found: str | None
) -> None:
    """longrope has one set of frequencies up to the length first trained on and another beyond it."""
    said = obstacle(rope, *rows)
    assert (said is None) if found is None else found in str(said)


def scored(rows: list[tuple[int, int, int]], size: int, *, exact: bool, most: int | None) -> Any:
    """Score rows of these lengths by a reference whose answers are told by their lengths; returns the batches too."""
    dataset = Dataset.from_list(
        [{"prompt_ids": [1] * p, "chosen_ids": [2] * c, "rejected_ids": [3] * r, "other": 0} for p, c, r in rows]
    )
    batches: list[list[tuple[int, int]]] = []

    def collate(found: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        assert set(found[0]) == {"prompt_ids", "chosen_ids", "rejected_ids"}
        return {name: torch.tensor([len(row[f"{name}_ids"]) for row in found]) for name in ("chosen", "rejected")}

    def reference(model: str, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        assert model == "the policy without its adapter"
        batches.append(list(zip(inputs["chosen"].tolist(), inputs["rejected"].tolist(), strict=True)))
        return [-inputs["chosen"].double(), -inputs["rejected"].double()]

    done: list[int] = []
    trainer = SimpleNamespace(
        ref_model=None,
        model="the policy without its adapter",
        accelerator=SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=1),
        args=SimpleNamespace(max_length=most),
        data_collator=collate,
        compute_ref_log_probs=reference,
    )
    found = compute_logps(trainer, dataset, PAIR_COLUMNS, size, exact_batches=exact, progress=done.append)
    return tuple(found.values()), batches, done


ROWS = [(1, 1, 2), (4, 8, 3), (1, 2, 1), (2, 3, 9), (1, 3, 1)]
"""Longer rows of 3, 12, 3, 11 and 4 tokens."""


def test_the_longest_rows_are_scored_first_and_the_scores_keep_the_datasets_order() -> None:
    (chosen, rejected), batches, done = scored(ROWS, 2, exact=True, most=None)
    assert chosen == [-1.0, -8.0, -2.0, -3.0, -3.0] and rejected == [-2.0, -3.0, -1.0, -9.0, -1.0]
    assert batches == [[(8, 3), (3, 9)], [(3, 1), (1, 2)], [(2, 1)]]
    assert done == [2, 4, 5]


@pytest.mark.parametrize(
    ("size", "most", "counts"),
    [(1, None, [1, 1, 3]), (2, None, [2, 3]), (1, 4, [1, 1, 1, 1, 1]), (2, 6, [2, 3])],
)
def test_batches_of_shorter_rows_grow_to_as_many_tokens_as_the_first(
    size: int, most: int | None, counts: list[int]
) -> None:
    """A row is never longer than it may be, so that all may be as long as the longest."""
    _, batches, done = scored(ROWS, size, exact=False, most=most)
    assert [len(batch) for batch in batches] == counts
    assert done[-1] == len(ROWS)
