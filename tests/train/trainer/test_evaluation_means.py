"""Held-out metrics are means over rows, whatever the evaluation's batch size: a batch of all rows has TRL's own."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.train.trainer.evaluation_means import BatchCounts, BatchMetrics, means_over_rows
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import ours
from tests.support.training import make_config

HELD_OUT = 7
METHODS: list[dict[str, Any]] = [
    {"strategy": "dpo"},
    {"strategy": "dpo", "precompute_ref_log_probs": "off", "share_prefix": "off", "loss_type": ["ipo"]},
    {"strategy": "orpo"},
    {"strategy": "cpo"},
    {"strategy": "simpo"},
    {"strategy": "kto", "per_device_train_batch_size": 4},
    {"strategy": "sft"},
]
# The KL term of KTO, and with it the loss, is computed over the batch: it is another number in another batch.
OF_THE_BATCH = {"kto": {"eval_loss", "eval_kl_term", "eval_kl"}, "sft": {"eval_loss"}, "dpo": set()}


def rows_of(strategy: str, number: int, shuffle: random.Random) -> dict[str, Any]:
    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    prompt = f"{number} {text(9)}"
    match strategy:
        case "kto":
            return {"prompt": prompt, "completion": text(20), "label": number % 3 == 0}
        case "sft":
            return {"prompt": prompt, "completion": text(20)}
        case _:
            return {"prompt": prompt, "chosen": text(20), "rejected": text(12)}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(str(value) for value in method.values()))
def test_metrics_do_not_depend_on_the_evaluation_batch(
    tiny_model: Path, home: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    shuffle = random.Random(3)
    strategy = method["strategy"]
    for name, count in (("train", 12), ("eval", HELD_OUT)):
        rows = [rows_of(strategy, number, shuffle) for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"eval_dataset": str(tmp_path / "eval.jsonl"), "max_steps": 3, "learning_rate": 5e-3, "kl_prompts": 0}
    config = make_config(tiny_model, tmp_path / "train.jsonl", **(changes | method))
    trainer = ours(config).trainer
    assert len(trainer.eval_dataset) == HELD_OUT
    evaluations = []
    for size in (HELD_OUT, 4, 2):
        trainer.args.per_device_eval_batch_size = size
        evaluations.append(trainer.evaluate())
    of_all, *others = evaluations
    timed = ("_runtime", "_per_second", "epoch")
    compared = {name for name in of_all if not name.endswith(timed)} - OF_THE_BATCH.get(strategy, set())
    assert compared >= ({"eval_entropy"} if strategy == "sft" else {"eval_rewards/margins", "eval_logps/chosen"})
    if "eval_rewards/accuracies" in compared:
        assert of_all["eval_rewards/accuracies"] * HELD_OUT == pytest.approx(
            round(of_all["eval_rewards/accuracies"] * HELD_OUT), abs=1e-4
        )
    for other in others:
        assert {name: other[name] for name in compared} == pytest.approx(
            {name: of_all[name] for name in compared}, rel=2e-4, abs=2e-5
        )


def batch(pairs: int, **means: float) -> BatchMetrics:
    """A batch of pairs with answers of ten tokens."""
    return BatchMetrics(BatchCounts(pairs, pairs, pairs, 20 * pairs, 10 * pairs, 10 * pairs), means)


def test_a_small_last_batch_counts_for_the_pairs_that_it_has() -> None:
    name = "rewards/accuracies"
    assert means_over_rows([batch(4, **{name: 0.5}), batch(2, **{name: 1.0})]) == {name: pytest.approx(4 / 6)}


def test_labelled_answers_have_a_margin_though_no_batch_has_both_kinds() -> None:
    desirable = BatchMetrics(BatchCounts(3, 3, 0, 30, 30, 0), {"eval_rewards/chosen": 0.2})
    undesirable = BatchMetrics(BatchCounts(1, 0, 1, 10, 0, 10), {"eval_rewards/rejected": -0.1})
    assert means_over_rows([desirable, undesirable])["eval_rewards/margins"] == pytest.approx(0.3)
