"""KTO as described: what it refuses before a start and why, what it costs, and what a smaller micro-batch means."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli.train import narrate_checks
from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.errors import DataError
from dpo_tui.hardware.apply_profile import resolve_profile
from dpo_tui.hardware.duration import flops_per_token
from dpo_tui.hardware.memory.fit import smaller_batches
from dpo_tui.hardware.memory.memory_estimate import estimate, workload
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.nvml import Inventory
from dpo_tui.runs import store
from dpo_tui.runs.out_of_memory_retry import next_retry
from dpo_tui.runs.state import read_state
from dpo_tui.start.prepare import prepare
from dpo_tui.strategies.kto import KTO
from dpo_tui.strategies.metric_expectations import LN2
from tests.support.data_files import rows, write_lines
from tests.support.training import loaded

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def config(**values: Any) -> Config:
    return from_values({"model_name": MODEL, "dataset": "answers.jsonl", "strategy": "kto", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"per_device_train_batch_size": 1}, "per_device_train_batch_size = 1: must be at least 2 with strategy = kto"),
        ({"per_device_eval_batch_size": 1}, "per_device_eval_batch_size = 1: must be at least 2 with strategy = kto"),
        ({"loss_type": ["ipo"]}, "does nothing with strategy = kto"),
        ({"label_smoothing": 0.1, "loss_type": ["robust"]}, "does nothing with strategy = kto"),
        ({"truncation_mode": "keep_end"}, "does nothing with strategy = kto"),
        ({"share_prefix": "on"}, "does nothing with strategy = kto: an example has one answer"),
        ({"group_by_length": True}, "does not work with strategy = kto, whose batches stay as they are"),
        ({"strategy": "dpo", "undesirable_weight": 2.0}, "does nothing with strategy = dpo"),
        ({"strategy": "sft", "desirable_weight": 2.0}, "does nothing with strategy = sft"),
        ({"strategy": "dpo", "rating_threshold": 4}, "does nothing with strategy = dpo"),
        ({"desirable_weight": 0}, "greater than 0"),
        ({"sync_ref_model": True}, "needs full fine-tuning"),
    ],
)
def test_what_cannot_work_is_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfigError, match=message):
        config(**values)


def test_what_can_be_right_is_taken() -> None:
    made = config(per_device_train_batch_size=2, per_device_eval_batch_size=2, share_prefix="off", beta=0.2)
    assert made.strategy == "kto"
    assert config(precompute_ref_log_probs="on", desirable_weight=1.3, rating_threshold=3).rating_threshold == 3


def test_the_loss_starts_at_half_its_weight() -> None:
    assert KTO.start_loss({}) == 0.5
    assert KTO.start_loss({"desirable_weight": 2.0, "undesirable_weight": 2.0}) == 1.0
    assert KTO.start_loss({"desirable_weight": 2.0}) is None, "it depends on the labels of the micro-batch"
    scale = KTO.loss_scale({"desirable_weight": 2.0})
    assert scale is not None and scale.unit == pytest.approx(0.75 / LN2)


def test_an_example_is_one_sequence_with_gradients_and_one_more_without() -> None:
    arch = architecture_of(MODEL)
    ours, dpo = config(per_device_train_batch_size=4), config(strategy="dpo", per_device_train_batch_size=4)
    assert workload(ours, arch, device="cuda").rows == 4
    assert workload(dpo, arch, device="cuda").rows == 8
    assert estimate(ours, arch).total < estimate(dpo, arch).total
    # Policy and reference, each on the answer and on the KL term's; one more with checkpointing; one backward.
    assert flops_per_token(ours, arch) / flops_per_token(dpo, arch) == pytest.approx((4 + 1 + 1) / (2 + 1 + 1))
    scored = config(per_device_train_batch_size=4, precompute_ref_log_probs="on")
    assert flops_per_token(scored, arch) / flops_per_token(dpo, arch) == pytest.approx((2 + 1 + 1) / (2 + 1 + 1))


def test_answers_are_counted_for_the_estimate_of_steps(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", rows(40))
    made = config(dataset=str(path), eval_split=0.1)
    sizes, pairs = pair_sizes(made, None), pair_sizes(config(dataset=str(path), strategy="dpo"), None)
    assert (sizes.rows, sizes.trained) == (80, 72)
    assert sizes.tokens_per_pair == pytest.approx((pairs.tokens_per_pair or 0) / 2, rel=0.05)
    assert sizes.basis == "80 labelled answers, tokens from characters (no tokenizer here)"


def test_a_smaller_micro_batch_is_called_another_training_and_never_becomes_one(home: Path) -> None:
    said = [words for _, words in smaller_batches(config(per_device_train_batch_size=4, gradient_accumulation_steps=1))]
    assert len(said) == 1 and "the loss is taken over fewer at once" in said[0]
    folder = store.create(to_toml(config(per_device_train_batch_size=4)), name="kto", devices=[])
    state = read_state(folder)
    assert state is not None
    retry = next_retry(folder, state)
    assert retry is not None and retry.batch.micro == 2
    assert "this loss (β 0.1 · loss kto) is taken over the examples of a micro-batch together" in retry.message
    smallest = store.create(to_toml(config(per_device_train_batch_size=2)), name="kto", devices=[])
    state = read_state(smallest)
    assert state is not None and next_retry(smallest, state) is None


@pytest.mark.parametrize("profile", ["reduced", "cpu"])
def test_a_profile_with_a_micro_batch_of_one_gives_two_and_the_same_effective_batch(profile: str) -> None:
    asked = config(model_name="Qwen/Qwen3-0.6B", profile=profile)
    found = resolve_profile(asked, {"strategy", "profile"}, Inventory(())).config
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (2, 4)
    dpo = resolve_profile(asked.model_copy(update={"strategy": "dpo"}), {"profile"}, Inventory(())).config
    assert (dpo.per_device_train_batch_size, dpo.gradient_accumulation_steps) == (1, 8)


@pytest.mark.parametrize(
    ("changes", "record", "message"),
    [
        ({}, {"prompt": "how", "completion": "so", "label": True}, "answers are labelled desirable: there is nothing"),
        ({}, {"prompt": "how", "completion": "so", "label": [1]}, "`label` holds no verdict"),
        ({}, {"prompt": "how", "completion": "so"}, 'demonstrations, for strategy = "sft"'),
        ({"strategy": "dpo"}, {"prompt": "how", "completion": "so", "label": True}, 'strategy = "kto" takes these'),
        ({"max_seq_length": 16}, {"prompt": "how do i reset " * 9, "chosen": "a", "rejected": "b"}, "labelled answers"),
    ],
)
def test_data_that_cannot_serve_is_refused_before_a_run_is_made(
    home: Path, tiny_model: Path, changes: dict[str, Any], record: dict[str, Any], message: str
) -> None:
    tmp_path = home.parent
    path = write_lines(tmp_path / "rows.jsonl", [{**record, "prompt": f"{record['prompt']} {n}"} for n in range(12)])
    with pytest.raises(DataError, match=message) as refused:
        prepare(loaded(tmp_path, tiny_model, path, **{"strategy": "kto", **changes}))
    assert refused.value.exit_code == 2
    assert "keep_end" not in (refused.value.hint or ""), "which KTO does not have"
    assert not list((home / "runs").glob("*"))


def test_what_a_start_says_counts_answers_and_not_more_rows_than_there_are(
    home: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", rows(40))
    prepared = prepare(loaded(tmp_path, tiny_model, path, strategy="kto"))
    narrate_checks(prepared, "config.toml")
    said = capsys.readouterr().err
    assert "40 rows give 80 labelled answers, 8 of them held out" in said
    assert "labels: 36 desirable and 36 undesirable answers" in said
