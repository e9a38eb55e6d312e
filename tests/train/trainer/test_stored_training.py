"""A run trains on the rows of the data cache as on rows in memory."""

from pathlib import Path

import pytest

from dpo_tui.data.stored import reading_cache
from dpo_tui.train.trainer import token_cache
from tests.support.tiny import make_pairs
from tests.support.training import losses, make_config, train


def test_a_run_on_stored_rows_has_the_losses_of_one_in_memory(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_pairs(tmp_path / "pairs.jsonl", 60)
    config = make_config(tiny_model, data, max_steps=3, sample_prompts=0, kl_prompts=0, eval_split=0.1)
    in_memory = train(config)
    monkeypatch.setattr(reading_cache, "LARGE_BYTES", 0)
    monkeypatch.setattr(token_cache, "FEWEST", 5)
    stored = train(config)
    assert losses(stored) == losses(in_memory)
    assert list((home / "cache" / "data").glob("rows-*/rows.arrow"))
