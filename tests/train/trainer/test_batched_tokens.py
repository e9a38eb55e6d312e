"""Pairs are tokenised in batches to the ids that TRL gives them one by one, into the cache, and a stop ends it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from datasets import Value

from dpo_tui.train.trainer import batched_tokens, token_cache, tokenised_rows
from dpo_tui.train.trainer.batched_tokens import can_tokenise, tokenised_batches
from dpo_tui.train.trainer.message_dataset import MessageDataset
from dpo_tui.train.trainer.pair_rows import PAIRS, PairRows
from dpo_tui.train.trainer.token_forms import ID_COLUMNS, PairForm
from dpo_tui.train.worker.stop_requests import StopRequested
from tests.support.chat_families import CHATML, LLAMA3
from tests.support.data_files import assistant, user
from tests.support.tiny import make_pairs
from tests.support.trained_both_ways import tokenised_for_dpo
from tests.support.training import lines, losses, make_config, train

TEMPLATES = {
    "chatml": CHATML,
    "llama 3": LLAMA3,
    "text without special tokens, whose tokens merge": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "the prompt alone is rendered otherwise": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n(thinking off){% endif %}",
    "the prompt changes with what follows": "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "tools": "{{ tools | tojson if tools else 'none' }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<|im_end|>{% endfor %}",
}
TEXTS = ["", " ", "How do I reset my password?", "<|im_end|> typed in", "naïve 日本 🙂", "two\n\nlines  ", "a" * 300]


def rows(count: int = 60) -> Any:
    """Pairs with one and several messages, with and without system message, tools and calls of other arguments."""
    columns: dict[str, list[Any]] = {name: [] for name in ("prompt", "chosen", "rejected", "tools")}
    for number in range(count):
        text, other = TEXTS[number % len(TEXTS)], TEXTS[(number + 3) % len(TEXTS)]
        start = [{"role": "system", "content": other}] if number % 2 else [user("a"), assistant(other)]
        columns["prompt"].append([*start, user(text)])
        call = {"type": "function", "function": {"name": f"f{number}", "arguments": {f"k{number % 3}": number}}}
        chosen = {"role": "assistant", "content": f"{text} yes"}
        columns["chosen"].append([chosen | ({"tool_calls": [call]} if number % 5 == 0 else {})])
        columns["rejected"].append(
            [assistant(other + "no"), user("b"), assistant("c")] if number % 3 else [assistant("d")]
        )
        tool = {"type": "function", "function": {"name": f"f{number % 4}", "parameters": {"é": number % 2}}}
        columns["tools"].append(json.dumps([tool]) if number % 4 == 0 else None)
    return MessageDataset.from_columns(columns, {"tools": Value("string")})


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def arguments(max_length: int | None = 1024, truncation_mode: str = "keep_start") -> Any:
    return SimpleNamespace(max_length=max_length, truncation_mode=truncation_mode, dataset_num_proc=None)


def ids(found: Any) -> dict[str, list[list[int]]]:
    return {name: [list(one) for one in found[name]] for name in ID_COLUMNS}


def in_batches(dataset: Any, tokenizer: Any, given: Any, processes: int = 1) -> dict[str, list[list[int]]]:
    table = pa.Table.from_batches(tokenised_batches(dataset, tokenizer, given, PairForm(), processes), PairForm.schema)
    return {name: table[name].to_pylist() for name in ID_COLUMNS}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    ("length", "truncation"), [(1024, "keep_start"), (40, "keep_start"), (40, "keep_end"), (None, "keep_start")]
)
def test_a_batch_has_the_ids_that_trl_gives_its_rows(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, name: str, length: int | None, truncation: str
) -> None:
    monkeypatch.setattr(batched_tokens, "BATCH_ROWS", 7)
    tokenizer.chat_template = TEMPLATES[name]
    given = arguments(length, truncation)
    expected = tokenised_for_dpo(rows(), tokenizer, given)
    assert in_batches(rows(), tokenizer, given) == ids(expected)
    if name == "chatml":
        assert (len(expected) < 60) == (length == 40 and truncation == "keep_start"), "some are left out, and not all"


def test_several_processes_give_the_same_in_the_same_order(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_tokens, "BATCH_ROWS", 7)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # with threads that a forked process does not have
    alone = in_batches(rows(), tokenizer, arguments())
    assert in_batches(rows(), tokenizer, arguments(), 2) == alone


def test_what_trl_would_tokenise_otherwise_is_left_to_it(tokenizer: Any) -> None:
    text = MessageDataset.from_columns(
        {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]},
        dict.fromkeys(("prompt", "chosen", "rejected"), Value("string")),
    )
    more = rows(4).add_column("chat_template_kwargs", [{"a": 1}] * 4)
    assert can_tokenise(rows(4), tokenizer, PairForm())
    assert not can_tokenise(text, tokenizer, PairForm())
    assert not can_tokenise(more, tokenizer, PairForm())
    tokenizer.split_special_tokens = True
    assert not can_tokenise(rows(4), tokenizer, PairForm())


class Bare(PairRows):
    """The tokenising of a trainer that has nothing else."""

    def __init__(self, stops: Callable[[], bool] = lambda: False) -> None:
        self.said: list[str] = []
        self.done: list[int] = []
        self.journal: Any = SimpleNamespace(
            event=lambda _, message: self.said.append(message),
            progress=lambda done, *_: self.done.append(done),
            rank=SimpleNamespace(is_first=True),
        )
        self.stop_requests: Any = SimpleNamespace(stop_wanted=stops)

    def tokenise(self, dataset: Any, tokenizer: Any, prepare: Any = None) -> Any:
        by_trl = prepare or (lambda *given: tokenised_for_dpo(*given[:3]))
        return self._cached_or_prepared(dataset, tokenizer, arguments(), "train", by_trl, kind=PAIRS)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    monkeypatch.setattr(token_cache, "FEWEST", 20)
    monkeypatch.setattr(batched_tokens, "BATCH_ROWS", 7)
    monkeypatch.setattr(tokenised_rows, "BATCH_ROWS", 7)
    yield


@pytest.mark.usefixtures("few")
def test_rows_are_mapped_from_the_cache_with_progress(tokenizer: Any) -> None:
    first, second = Bare(), Bare()
    expected = ids(tokenised_for_dpo(rows(), tokenizer, arguments()))
    found = first.tokenise(rows(), tokenizer)
    assert ids(found) == expected
    assert first.done[-1] == 60
    assert first.done == sorted(first.done)
    assert found.cache_files, "mapped from a file, not held in memory"
    assert ids(second.tokenise(rows(), tokenizer)) == expected
    assert not second.done
    assert second.said == ["60 pairs are tokenised already, by an earlier run (train)"]


@pytest.mark.usefixtures("few")
def test_rows_that_would_get_other_tokens_are_tokenised_by_trl(tokenizer: Any) -> None:
    one = Bare()

    def other(*given: Any) -> Any:
        made = tokenised_for_dpo(*given[:3])
        return made.map(lambda row: {"prompt_ids": [*row["prompt_ids"], 0]})

    found = one.tokenise(rows(), tokenizer, other)
    assert all(prompt[-1] == 0 for prompt in found["prompt_ids"])
    assert one.said == ["The rows are tokenised one by one: in batches they would have other tokens"]


@pytest.mark.usefixtures("few")
def test_a_stop_ends_the_tokenising_and_leaves_nothing(tokenizer: Any) -> None:
    asked = iter([False, False, True])
    with pytest.raises(StopRequested):
        Bare(lambda: next(asked)).tokenise(rows(), tokenizer)
    assert list(token_cache.folder().iterdir()) == []


@pytest.mark.usefixtures("few")
def test_without_room_on_the_disk_rows_are_held_in_memory_and_that_is_said(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ids(tokenised_for_dpo(rows(), tokenizer, arguments()))
    with monkeypatch.context() as patch:
        patch.setattr(token_cache, "free_bytes", lambda: 100)
        full = Bare()
        assert ids(full.tokenise(rows(), tokenizer)) == expected
    assert "0.0 GB can be used" in full.said[0]
    assert not token_cache.folder().exists()
    token_cache.folder().parent.mkdir(parents=True)
    token_cache.folder().write_text("in the way")
    blocked = Bare()
    assert ids(blocked.tokenise(rows(), tokenizer)) == expected
    assert "File exists" in blocked.said[0]


@pytest.mark.usefixtures("few")
def test_rows_larger_than_the_cache_are_used_and_not_kept(tokenizer: Any) -> None:
    batches = tokenised_batches(rows(), tokenizer, arguments(), PairForm())
    found = token_cache.store_batches("k", PairForm.schema, batches, limit=1000)
    assert ids(found) == ids(tokenised_for_dpo(rows(), tokenizer, arguments()))
    assert list(token_cache.folder().iterdir()) == []


@pytest.mark.usefixtures("few")
def test_cached_rows_that_are_cut_short_are_tokenised_again(tokenizer: Any) -> None:
    token_cache.store_batches("k", PairForm.schema, tokenised_batches(rows(), tokenizer, arguments(), PairForm()))
    file = token_cache.folder() / "k" / "rows.arrow"
    file.write_bytes(file.read_bytes()[:-1000])
    assert token_cache.load("k") is None
    assert not file.exists()


def test_a_run_trains_the_same_on_rows_tokenised_in_batches(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_pairs(tmp_path / "pairs.jsonl", 60)
    config = make_config(tiny_model, data, max_steps=3, sample_prompts=0, kl_prompts=0, eval_split=0.1)
    one_by_one = train(config)
    monkeypatch.setattr(token_cache, "FEWEST", 5)
    in_batches = train(config)
    assert losses(one_by_one) == losses(in_batches)
    assert len(list(token_cache.folder().glob("*/rows.arrow"))) == 2, "training and held-out rows"
    assert not any("one by one" in event["message"] for event in lines(in_batches.events))
    shutil.rmtree(token_cache.folder())
