"""Rows are tokenised once for a tokenizer, and never taken for other rows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from dpo_tui.train.trainer import token_cache
from tests.support.tiny import make_pairs
from tests.support.training import lines, losses, make_config, train

ROWS = Dataset.from_list(
    [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, number]} for number in range(5)]
)


def test_the_next_run_finds_its_rows_tokenised(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "FEWEST", 20)
    data = make_pairs(tmp_path / "pairs.jsonl", 60)
    config = make_config(tiny_model, data, max_steps=3, sample_prompts=0, kl_prompts=0, eval_split=0.0)
    first, second = train(config), train(config)
    said = ["60 pairs are tokenised already, by an earlier run (train)" in _notes(run) for run in (first, second)]
    assert said == [False, True]
    assert losses(first) == losses(second)
    shorter = train(make_config(tiny_model, data, max_steps=1, sample_prompts=0, eval_split=0.0, max_seq_length=64))
    assert "tokenised already" not in _notes(shorter), "another length drops other pairs"


def _notes(folder: Any) -> str:
    return "\n".join(event["message"] for event in lines(folder.events))


def test_kept_rows_come_back(home: Path) -> None:
    assert token_cache.load("k") is None
    token_cache.store("k", ROWS)
    found = token_cache.load("k")
    assert found is not None
    assert found[:] == ROWS[:]
    token_cache.store("k", ROWS)
    assert [path.name for path in token_cache.folder().iterdir()] == ["k"]


def _torn(place: Path) -> None:
    arrow = next(place.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-20])


def _another_token(place: Path) -> None:
    arrow = next(place.glob("*.arrow"))
    content = bytearray(arrow.read_bytes())
    content[len(content) // 2] ^= 1
    arrow.write_bytes(content)


def _fewer(place: Path) -> None:
    (place / "rows.json").write_text('{"rows": 6}')


def _no_json(place: Path) -> None:
    (place / "rows.json").write_text("[")


@pytest.mark.parametrize("harm", [_torn, _another_token, _fewer, _no_json])
def test_doubtful_rows_are_deleted_not_used(home: Path, harm: Any) -> None:
    token_cache.store("k", ROWS)
    harm(token_cache.folder() / "k")
    assert token_cache.load("k") is None
    assert not (token_cache.folder() / "k").exists()


def test_a_folder_without_its_last_file_is_not_used(home: Path) -> None:
    token_cache.store("k", ROWS)
    (token_cache.folder() / "k" / "rows.json").unlink()
    assert token_cache.load("k") is None


def test_the_rows_used_longest_ago_make_room(home: Path) -> None:
    import os

    for age, key in enumerate("abc"):
        token_cache.store(key, ROWS)
        os.utime(token_cache.folder() / key, (1000 + age, 1000 + age))
    assert token_cache.load("a") is not None
    size = sum(path.stat().st_size for path in (token_cache.folder() / "a").iterdir())
    token_cache.store("d", ROWS, limit=2 * size + size // 2)
    assert {path.name for path in token_cache.folder().iterdir()} == {"a", "d"}


def test_a_full_disk_costs_the_rows_not_the_run(home: Path) -> None:
    token_cache.folder().parent.mkdir(parents=True)
    token_cache.folder().write_text("in the way")
    token_cache.store("k", ROWS)


def name_of_rows(
    model: Path,
    *,
    text: str = "hello",
    template: str | None = None,
    length: int | None = 64,
    truncation: str = "keep_start",
    special: dict[str, str] | None = None,
    word: str | None = None,
    package: str | None = None,
) -> str | None:
    """The name under which these rows would be kept, with a tokenizer that differs in what is given."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = template or tokenizer.chat_template
    for name, token in (special or {}).items():
        setattr(tokenizer, name, token)
    if word:
        tokenizer.add_tokens([word])
    arguments = SimpleNamespace(max_length=length, truncation_mode=truncation)
    rows = Dataset.from_list([{"prompt": text, "chosen": "a", "rejected": "b"}])
    versions = token_cache.version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_cache, "version", lambda name: "99.0" if name == package else versions(name))
        return token_cache.key_of(rows, tokenizer, arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "hullo"},
        {"template": "{{ messages }}"},
        {"length": 32},
        {"length": None},
        {"truncation": "keep_end"},
        # A token of the vocabulary, so that the tokenizer's own file stays the same.
        {"special": {"eos_token": "a"}},
        {"word": "dpotui"},
        *({"package": name} for name in ("trl", "transformers", "datasets", "tokenizers")),
    ],
    ids=lambda changes: " ".join(str(part) for item in changes.items() for part in item),
)
def test_the_key_tells_everything_apart(tiny_model: Path, changes: dict[str, Any]) -> None:
    assert name_of_rows(tiny_model) == name_of_rows(tiny_model)
    assert name_of_rows(tiny_model, **changes) != name_of_rows(tiny_model)


def test_a_tokenizer_that_cannot_be_read_keeps_nothing() -> None:
    arguments = SimpleNamespace(max_length=64, truncation_mode="keep_start")
    assert token_cache.key_of(ROWS, SimpleNamespace(), arguments) is None


def test_many_rows_get_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert token_cache.processes(600) is None
    assert token_cache.processes(5_000) == 2
    assert token_cache.processes(1_000_000) == 8


def test_several_processes_tokenise_the_same(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "FEWEST", 20)
    data = make_pairs(tmp_path / "pairs.jsonl", 40)
    config = make_config(tiny_model, data, max_steps=2, sample_prompts=0, kl_prompts=0, eval_split=0.0)
    monkeypatch.setattr(token_cache, "key_of", lambda *_: None)
    alone = train(config)
    monkeypatch.setattr(token_cache, "processes", lambda rows: 2)
    together = train(config)
    assert losses(alone) == losses(together)
    assert json.loads(together.receipt.read_text())["data"]["train"] == 40
