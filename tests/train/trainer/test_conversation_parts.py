"""Prompts and last answers of stored conversations share one column, and stay what they are through a `map`."""

from pathlib import Path

import pytest

from dpo_tui.data.load_split import split_demonstrations
from dpo_tui.data.stored import reading_cache
from dpo_tui.data.stored.stored_rows import StoredRows
from dpo_tui.train.trainer.run_datasets import _answered_dataset
from tests.support.data_files import assistant, user, write_lines
from tests.support.training import make_config

pytestmark = pytest.mark.usefixtures("home")


def test_a_prompt_is_cut_once(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [[user(f"q {n}"), assistant("é"), user("more"), assistant(f"a {n}")] for n in range(9)]
    data = write_lines(tmp_path / "rows.jsonl", [{"messages": one} for one in talks])
    monkeypatch.setattr(reading_cache, "LARGE_BYTES", 0)
    config = make_config(tiny_model, data, strategy="sft", completion_only_loss=True, eval_split=0.0)
    stored = split_demonstrations(config).train
    assert isinstance(stored, StoredRows)
    dataset = _answered_dataset(stored)
    assert (
        dataset.data.column("prompt").chunk(0).buffers()[2] == dataset.data.column("completion").chunk(0).buffers()[2]
    )
    mapped = dataset.map(lambda row: {"number": len(row["prompt"])})
    again = mapped.map(lambda rows: {"prompt": rows["prompt"]}, batched=True)
    for one in (dataset, mapped, again):
        assert [*one["prompt"]] == [talk[:-1] for talk in talks]
        assert [*one["completion"]] == [talk[-1:] for talk in talks]
    assert [*mapped["number"]] == [3] * 9
