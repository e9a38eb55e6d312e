"""The number of packed sequences is that of TRL's pack_dataset, and an estimate's steps are those of the run."""

import json
import random
from pathlib import Path

import pytest

from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.data.tokens.packed_sequences import packed_sequences
from dpo_tui.hardware.duration import steps_of
from dpo_tui.runs.atomic_files import read_json
from tests.support.tiny import WORDS
from tests.support.training import make_config, train


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("rows", [1, 7, 300, 2345])
def test_as_many_sequences_as_trl_makes(rows: int, processes: int, strategy: str) -> None:
    """Also of conversations that are longer than a sequence, and of more rows than are packed at once."""
    from datasets import Dataset, concatenate_datasets
    from trl import pack_dataset

    draw = random.Random(rows)
    lengths = [draw.choice((draw.randint(1, 40), draw.randint(1, 150), 64, 128)) for _ in range(rows)]
    data = Dataset.from_dict({"input_ids": [[1] * length for length in lengths]})
    if rows < processes:
        pytest.skip("datasets starts no more processes than there are rows")
    # What several processes do, one after the other.
    parts = [data.shard(processes, number, contiguous=True) for number in range(processes)]
    packed = concatenate_datasets([pack_dataset(part, 64, strategy) for part in parts])
    assert packed_sequences(lengths, 64, strategy, processes) == len(packed)


def conversations(path: Path, count: int = 30) -> Path:
    draw = random.Random(5)
    rows = []
    for number in range(count):
        words = [" ".join(draw.choices(WORDS, k=draw.randint(2, 14))) for _ in range(2)]
        roles = zip(("user", "assistant"), words, strict=True)
        rows.append({"messages": [{"role": role, "content": f"{text} {number}"} for role, text in roles]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "settings",
    [{}, {"packing": True}, {"packing": True, "trl": {"packing_strategy": "wrapped"}}],
    ids=["one by one", "packed", "wrapped"],
)
def test_the_steps_of_stage_one_are_those_of_the_run(tmp_path: Path, tiny_model: Path, settings: dict) -> None:
    data = conversations(tmp_path / "chats.jsonl")
    values = {"strategy": "sft", "max_seq_length": 96, "eval_split": 0.2, "sample_prompts": 0, "kl_prompts": 0}
    config = make_config(tiny_model, data, **values, num_train_epochs=2, max_steps=None, **settings)
    sizes = pair_sizes(config, tiny_model)
    steps = steps_of(config, sizes.trained, sizes.tokens_per_pair)
    receipt = read_json(train(config).receipt) or {}
    assert steps is not None
    assert (sizes.rows, sizes.trained) == (30, receipt["data"]["train"])
    assert steps.steps == receipt["results"]["steps"]
    assert steps.tokens == pytest.approx(receipt["results"]["metrics"]["num_tokens"], abs=2)


def test_without_the_tokenizer_packed_steps_are_not_guessed(tmp_path: Path) -> None:
    data = conversations(tmp_path / "chats.jsonl")
    config = make_config(tmp_path / "missing", data, strategy="sft", packing=True, max_steps=None)
    sizes = pair_sizes(config, None)
    assert steps_of(config, sizes.trained, sizes.tokens_per_pair) is None
    assert "30 demonstrations: steps are not counted" in sizes.basis
    unpacked = pair_sizes(config.model_copy(update={"packing": False}), None)
    assert unpacked.trained is not None and unpacked.trained < 30
    fixed = config.model_copy(update={"max_steps": 7})
    assert steps_of(fixed, sizes.trained, sizes.tokens_per_pair).steps == 7  # type: ignore[union-attr]


def test_a_large_file_is_sampled(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_tui.data.pair_sizes._READ_WHOLE_BYTES", 1000)
    data = conversations(tmp_path / "chats.jsonl", 2500)
    monkeypatch.setattr("dpo_tui.data.pair_sizes._SAMPLE_BYTES", data.stat().st_size)
    config = make_config(tiny_model, data, strategy="sft", packing=True, max_steps=None, eval_split=0.0)
    sampled = pair_sizes(config, tiny_model)
    assert "about 2,500 demonstrations" in sampled.basis and "about" in sampled.basis.partition("packed")[2]
    monkeypatch.undo()
    whole = pair_sizes(config, tiny_model)
    assert sampled.trained == pytest.approx(whole.trained, rel=0.05)
