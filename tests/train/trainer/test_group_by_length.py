"""Batches of like length: that they are trained on, and what New says they would spare."""

import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.screens.steps.settings_step import setting_help
from dpo_tui.views import run_plan as plans
from dpo_tui.views.padding_savings import PaddingSavings, estimate_padding
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.run_plan import RunPlan
from tests.support.training import make_config, train


def uneven(count: int) -> list[tuple[int, int]]:
    dice = random.Random(3)
    return [(dice.randint(20, 400), dice.randint(20, 400)) for _ in range(count)]


def lengths_of_batches(model: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[list[int]]:
    """Train for an epoch, and return how many tokens the chosen sequences of each batch have, sorted."""
    from dpo_tui.train.trainer.trainers import PairTrainer

    batches: list[list[int]] = []
    step = PairTrainer.training_step

    def seen(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = inputs["attention_mask"].sum(dim=1).tolist()
        batches.append(sorted(tokens[: len(tokens) // 2]))  # TRL puts the rejected sequences after all chosen ones
        return step(self, model, inputs, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PairTrainer, "training_step", seen)
        quiet = {"sample_prompts": 0, "kl_prompts": 0, "eval_split": 0.0, "max_steps": 16, "share_prefix": "off"}
        folder = train(make_config(model, pairs, per_device_train_batch_size=2, **quiet, **changes))
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, len(batches) + 1))
    return batches


def test_pairs_are_trained_on_in_batches_of_like_length(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "uneven.jsonl"
    rows = [
        {"prompt": "Say it", "chosen": " ".join(["no"] * count), "rejected": "yes"}
        for count in random.Random(5).sample(range(2, 34), 32)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grouped = lengths_of_batches(tiny_model, path, monkeypatch, group_by_length=True)
    shuffled = lengths_of_batches(tiny_model, path, monkeypatch, group_by_length=False)
    everything = sorted(chain.from_iterable(grouped))
    assert len(set(everything)) == 32
    assert sorted(chain.from_iterable(shuffled)) == everything, "the same pairs, once each"
    # Transformers sorts every eight pairs here, so two in a batch are an eighth of all lengths apart and not a third.
    apart = [sum(longest - shortest for shortest, longest in batches) for batches in (grouped, shuffled)]
    assert apart[0] < apart[1] / 2


def test_the_sampler_gets_the_longer_sequence_of_each_pair() -> None:
    from datasets import Dataset

    from dpo_tui.train.trainer.pair_rows import longer_lengths

    rows = {"prompt_ids": [[1, 2], [3]], "chosen_ids": [[1], [1, 2, 3]], "rejected_ids": [[1, 2, 3, 4], [1]]}
    assert longer_lengths(Dataset.from_dict({**rows, "other": [0, 0]})) == [6, 4]


@pytest.mark.parametrize(("micro", "accumulate"), [(2, 4), (4, 2), (8, 1)])
def test_the_padding_foretold_is_that_of_the_trainers_own_order(micro: int, accumulate: int) -> None:
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    pairs = uneven(160)
    forecast = estimate_padding(pairs, len(pairs), micro, accumulate)
    assert forecast is not None
    torch.manual_seed(0)
    lengths = [max(pair) for pair in pairs]
    shares = []
    for _ in range(8):
        order = [pairs[index] for index in get_length_grouped_indices(lengths, micro * accumulate)]
        batches = [order[start : start + micro] for start in range(0, len(order), micro)]
        computed = sum(2 * len(batch) * max(map(max, batch)) for batch in batches)
        shares.append(1 - sum(map(sum, pairs)) / computed)
    assert forecast.grouped == pytest.approx(sum(shares) / len(shares), abs=0.02)
    assert forecast.shuffled > forecast.grouped


def test_pairs_of_one_length_have_nothing_to_spare_and_few_pairs_no_answer() -> None:
    same = estimate_padding([(100, 100)] * 40, 40, 4, 2)
    assert same == PaddingSavings(0.0, 0.0)
    assert same.saved == 0
    assert estimate_padding([(100, 50)] * 3, 3, 2, 4) is None


def test_the_sample_that_is_counted_tells_the_length_of_both_sequences(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "p" * 40, "chosen": "c" * 400, "rejected": "r" * 40}
    path.write_text((json.dumps(row) + "\n") * 10)
    sizes = pair_sizes(from_values({"model_name": "m", "dataset": str(path), "max_seq_length": 64}), None)
    assert sizes.sequences == ((64, 20),) * 10


def test_the_setting_says_beside_its_help_what_it_would_spare() -> None:
    """A number computed on the data."""
    plan = plans.with_values(RunPlan(), {"model_name": "m", "dataset": "d", "share_prefix": "off"})
    forecast = Forecast(padding=PaddingSavings(0.4, 0.1))
    words = " ".join(text for text, _ in setting_help("group_by_length", plan, forecast))
    assert "about 40% of a random batch is padding, by length 10%: it spares 33% of the tokens." in words
    assert "padding" not in " ".join(text for text, _ in setting_help("learning_rate", plan, forecast))
    sharing = plans.with_values(plan, {"share_prefix": "auto"})
    assert "share_prefix" in " ".join(text for text, _ in setting_help("group_by_length", sharing, forecast))
    nothing = " ".join(
        text for text, _ in setting_help("group_by_length", plan, Forecast(padding=PaddingSavings(0.2, 0.2)))
    )
    assert "next to nothing" in nothing
