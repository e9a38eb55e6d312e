"""What the checks of a run may cost, and which pairs they take for it."""

import functools
from typing import Any

import numpy as np
import pytest

from dpo_tui.train.shortcuts.check_budget import (
    CheckBudget,
    DatasetLengths,
    PairSize,
    largest_affordable,
    longest_certain_row,
    step_passes,
)
from dpo_tui.train.shortcuts.pair_layout import LayoutCost

TOKENS = LayoutCost(token=1.0, attention=0.0)


def lengths(*pairs: tuple[int, int]) -> DatasetLengths:
    return DatasetLengths(np.array([row for row, _ in pairs]), np.array([span for _, span in pairs]))


def dataset_of(*pairs: tuple[int, int, int]) -> Any:
    from datasets import Dataset

    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return Dataset.from_list([{name: [1] * size for name, size in zip(names, pair, strict=True)} for pair in pairs])


def test_lengths_are_those_of_the_rows_as_they_are_cut() -> None:
    data = dataset_of((10, 5, 3), (10, 30, 2), (50, 5, 5), (1, 1, 9))
    whole, cut = DatasetLengths.of(data, None), DatasetLengths.of(data, 20)
    assert whole.rows.tolist() == [15, 40, 55, 10]
    assert whole.spans.tolist() == [18, 42, 60, 11]
    assert cut.rows.tolist() == [15, 20, 20, 10]
    assert cut.spans.tolist() == [18, 22, 20, 11]
    assert DatasetLengths.of(data.select([3, 1]), None).rows.tolist() == [10, 40], "rows that were selected"
    assert len(DatasetLengths.of(dataset_of((1, 1, 1)).select([]), 20)) == 0


def test_checks_take_a_fiftieth_of_the_work_of_training() -> None:
    """1,000 pairs of 100 tokens, each forward, backward and once more for checkpointing: 400,000 tokens."""
    budget = CheckBudget(TOKENS, lengths((80, 100)), trained=1000, passes=step_passes(checkpointed=True))
    assert step_passes(checkpointed=True) == 4
    assert step_passes(checkpointed=False) == 3
    assert budget.left == pytest.approx(8000)
    assert not budget.spend(8001)
    assert budget.left == pytest.approx(8000)
    assert budget.spend(7999)
    assert not budget.spend(2)


def test_a_run_of_few_pairs_may_check_three() -> None:
    """A pair is checked as two rows of 80 tokens and as one of 100."""
    budget = CheckBudget(TOKENS, lengths((80, 100)), trained=4, passes=4)
    assert budget.left == 3 * 260
    budget.charge(10_000)
    assert budget.left == 3 * 260


def test_attention_counts_by_the_square() -> None:
    cost = LayoutCost(token=10.0, attention=1.0)
    budget = CheckBudget(cost, lengths((80, 100)), trained=1, passes=4)
    assert budget.prices(lengths((80, 100))).tolist() == [2 * 80 * (10 + 80) + 100 * (10 + 100)]


def test_the_largest_pair_that_the_budget_pays_for_is_taken() -> None:
    sizes = lengths((10, 12), (90, 95), (60, 110), (400, 500))
    budget = CheckBudget(TOKENS, sizes, trained=1, passes=4)
    budget.left = 280.0
    assert largest_affordable(sizes, sizes.rows, budget, float("inf")) == 1
    assert largest_affordable(sizes, sizes.spans, budget, float("inf")) == 2
    assert largest_affordable(sizes, sizes.rows, budget, 80) == 2
    assert largest_affordable(sizes, sizes.rows, budget, 5) is None
    budget.left = 275.0
    assert largest_affordable(sizes, sizes.rows, budget, float("inf")) == 1, "2 · 90 + 95 is exactly that"
    budget.left = 31.0
    assert largest_affordable(sizes, sizes.rows, budget, float("inf")) is None


def test_no_check_is_longer_than_a_row_that_a_step_certainly_has() -> None:
    sizes = lengths((30, 40), (10, 12), (20, 25))
    assert longest_certain_row(sizes, 1) == 10, "the shortest may be the one that is drawn"
    assert longest_certain_row(sizes, 2) == 20
    assert longest_certain_row(sizes, 3) == 30
    assert longest_certain_row(sizes, 100) == 30


def test_a_size_covers_what_is_no_larger_in_either_measure() -> None:
    size = PairSize(10, 20)
    assert size.covers(PairSize(10, 20))
    assert not size.covers(PairSize(11, 12))
    assert not size.covers(PairSize(10, 21))
    assert size.joined(PairSize(15, 16)) == PairSize(15, 20)


def test_a_check_of_a_usual_run_costs_a_fiftieth_at_most(home: Any, tiny_model: Any, tmp_path: Any) -> None:
    """Counted: tokens through the model before the first step, against those of all steps."""
    import json
    import random

    from tests.support.tiny import WORDS
    from tests.support.trained_both_ways import ours
    from tests.support.training import make_config

    shuffle = random.Random(0)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    rows = [{"prompt": f"{n} {text(30)}", "chosen": text(30), "rejected": text(20)} for n in range(150)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"max_steps": 40, "per_device_train_batch_size": 8, "eval_split": 0.0, "precompute_ref_log_probs": "off"}
    from dpo_tui.train.shortcuts.shortcuts import Shortcuts

    seen = {"before": 0, "steps": 0}
    when = "before"
    with pytest.MonkeyPatch.context() as patch:
        from transformers import LlamaModel

        forward = LlamaModel.forward

        @functools.wraps(forward)
        def counted(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
            seen[when] += input_ids.numel()
            return forward(self, input_ids=input_ids, **kwargs)

        patch.setattr(LlamaModel, "forward", counted)
        install = Shortcuts.install

        def then_steps(self: Any, trainer: Any) -> None:
            nonlocal when
            install(self, trainer)
            when = "steps"

        patch.setattr(Shortcuts, "install", then_steps)
        trained = ours(make_config(tiny_model, path, sample_prompts=0, kl_prompts=0, **changes))
    assert trained.trainer.shortcuts.sharing.largest.row == max(trained.trainer.shortcuts.sizes.rows)
    # A step in forward passes: policy and reference, gradients (two), checkpointing (one); counted are the first two.
    assert seen["before"] <= 0.02 * seen["steps"] / 2 * 5
