"""Labelled answers and demonstrations are tokenised in batches to the rows that TRL makes of them, into the cache."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, Value
from trl import KTOTrainer, SFTTrainer

from dpo_tui.train.trainer import batched_tokens, token_cache, token_rearrangement, tokenised_rows
from dpo_tui.train.trainer.labelled_trainer import LabelledTrainer
from dpo_tui.train.trainer.message_dataset import MessageDataset
from dpo_tui.train.trainer.trainers import DemonstrationTrainer
from dpo_tui.train.worker.stop_requests import StopRequested
from tests.support.data_files import assistant, user
from tests.train.trainer.test_batched_tokens import TEMPLATES, TEXTS

MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
    "{% endfor %}"
)


def _tools(number: int) -> str | None:
    tool = {"type": "function", "function": {"name": f"f{number % 4}", "parameters": {"é": number % 2}}}
    return json.dumps([tool]) if number % 4 == 0 else None


def _conversation(number: int) -> list[dict[str, Any]]:
    text, other = TEXTS[number % len(TEXTS)], TEXTS[(number + 3) % len(TEXTS)]
    start = [{"role": "system", "content": other}] if number % 2 else [user("a"), assistant(other)]
    return [*start, user(text), assistant(f"{text} yes {number}")]


def rows(kind: str, count: int = 60) -> Any:
    """Rows of a kind: labelled answers, conversations, prompts with their completion, or plain text."""
    talks = [_conversation(number) for number in range(count)]
    if kind == "text":
        return Dataset.from_dict({"text": [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(count)]})
    columns: dict[str, list[Any]] = {"messages": talks}
    if kind != "messages":
        columns = {"prompt": [one[:-1] for one in talks], "completion": [one[-1:] for one in talks]}
    if kind == "answers":
        columns["label"] = [number % 3 == 0 for number in range(count)]
    columns["tools"] = [_tools(number) for number in range(count)]
    return MessageDataset.from_columns(columns, {"tools": Value("string"), "label": Value("bool")})


class _Bare:
    """The tokenising of a trainer that has nothing else."""

    def __init__(self, stops: Any = lambda: False, **attributes: Any) -> None:
        self.said: list[str] = []
        self.done: list[int] = []
        self.journal: Any = SimpleNamespace(
            event=lambda _, message: self.said.append(message),
            progress=lambda done, *_: self.done.append(done),
            phase=lambda _: None,
            rank=SimpleNamespace(is_first=True),
        )
        self.stop_requests: Any = SimpleNamespace(stop_wanted=stops)
        self._reference = self._policy = None
        self.__dict__.update(attributes)

    def check_rope(self, *_: Any) -> None:
        """Pass."""


class Answers(_Bare, LabelledTrainer):
    """KTO's."""


class Demonstrations(_Bare, DemonstrationTrainer):
    """SFT's."""


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    monkeypatch.setattr(token_cache, "FEWEST", 20)
    for module in (batched_tokens, tokenised_rows):
        monkeypatch.setattr(module, "BATCH_ROWS", 7)
    yield


def arguments(length: int | None, mode: str = "keep_start", **more: Any) -> Any:
    values = {
        "max_length": length, "truncation_mode": mode, "dataset_num_proc": None, "dataset_text_field": "text",
        "assistant_only_loss": False, "shuffle_dataset": False, "packing_strategy": "bfd", "seed": 1,
        "per_device_train_batch_size": 4,
    }  # fmt: skip
    return SimpleNamespace(**(values | more))


def same(found: Any, expected: Any, columns: set[str]) -> bool:
    made = {name: [*expected[name]] for name in expected.column_names if name in columns}
    return {name: [*found[name]] for name in found.column_names} == made and len(found) == len(expected)


ANSWER_COLUMNS = {"label", "prompt_ids", "completion_ids", "KL_completion_ids"}


def answers_both_ways(tokenizer: Any, given: Any, kl: bool, count: int = 60) -> tuple[Any, Any, Answers]:
    values = {"calculate_KL": kl, "_tokenizer": tokenizer, "desirable_weight": 1.0, "undesirable_weight": 1.0}
    expected = KTOTrainer._prepare_dataset(SimpleNamespace(**values), rows("answers", count), tokenizer, given, "train")
    ours = Answers(**values)
    return ours._prepare_dataset(rows("answers", count), tokenizer, given, "train"), expected, ours


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(("length", "kl"), [(1024, True), (150, True), (150, False)])
def test_answers_have_the_ids_that_trl_gives_them(tokenizer: Any, name: str, length: int, kl: bool) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    given = arguments(2 * length if name == "llama 3" else length)
    found, expected, ours = answers_both_ways(tokenizer, given, kl)
    assert same(found, expected, ANSWER_COLUMNS)
    assert found.cache_files, "mapped from a file, not held in memory"
    assert ours.done[-1] == 60


def test_answers_are_moved_on_in_micro_batches_across_batches(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_rearrangement, "_PACKED_AT_ONCE", 12)
    for size in (2, 5, 61):
        found, expected, _ = answers_both_ways(tokenizer, arguments(1024, per_device_train_batch_size=size), True)
        assert same(found, expected, ANSWER_COLUMNS)


def test_answers_that_several_processes_of_trl_move_on_are_left_to_it(tokenizer: Any) -> None:
    found, expected, _ = answers_both_ways(tokenizer, arguments(1024, dataset_num_proc=2), True)
    assert same(found.select_columns([*ANSWER_COLUMNS]), expected, ANSWER_COLUMNS)
    assert "prompt" in found.column_names


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": ("messages", {}),
    "last answers": ("prompts", {"completion_only": True}),
    "marked answers": ("messages", {"assistant_only": True}),
    "text": ("text", {}),
}


def demonstrations_both_ways(
    tokenizer: Any, given: Any, name: str, packing: bool = False, **more: Any
) -> tuple[Any, Any, Demonstrations]:
    kind, options = FORMS[name]
    given.assistant_only_loss = options.get("assistant_only", False)
    if given.assistant_only_loss:
        tokenizer.chat_template = MARKED
    values = {"_tokenizer": tokenizer, "chat_template": None}
    values["completion_only_loss"] = options.get("completion_only", False)
    expected = SFTTrainer._prepare_dataset(
        SimpleNamespace(**values), rows(kind), tokenizer, given, packing, None, "train"
    )
    ours = Demonstrations(**values, **more)
    return ours._prepare_dataset(rows(kind), tokenizer, given, packing, None, "train"), expected, ours


DEMONSTRATION_COLUMNS = {"input_ids", "labels", "seq_lengths"}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("length", "mode"), [(1024, "keep_start"), (130, "keep_start"), (130, "keep_end"), (None, "keep_start")]
)
def test_demonstrations_have_the_ids_and_labels_that_trl_gives_them(
    tokenizer: Any, name: str, length: int | None, mode: str
) -> None:
    found, expected, ours = demonstrations_both_ways(tokenizer, arguments(length, mode), name)
    assert same(found, expected, DEMONSTRATION_COLUMNS)
    assert found.cache_files and ours.done[-1] == 60
    if name == "last answers" and length == 130 and mode == "keep_start":
        assert 0 < len(expected) < 60, "some are left out, and not all"


@pytest.mark.parametrize("name", ["chatml", "tools", "the prompt changes with what follows"])
def test_demonstrations_of_other_templates(tokenizer: Any, name: str) -> None:
    for form in ("messages", "last answers"):
        tokenizer.chat_template = TEMPLATES[name]
        found, expected, _ = demonstrations_both_ways(tokenizer, arguments(1024), form)
        assert same(found, expected, DEMONSTRATION_COLUMNS)


@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
@pytest.mark.parametrize("name", ["messages", "marked answers"])
def test_packed_demonstrations_are_packed_as_by_trl(tokenizer: Any, name: str, strategy: str) -> None:
    given = arguments(600, packing_strategy=strategy)
    found, expected, _ = demonstrations_both_ways(tokenizer, given, name, packing=True)
    assert same(found, expected, DEMONSTRATION_COLUMNS)
    assert len(found) < 60
    assert found.cache_files


@pytest.mark.parametrize("strategy", ["bfd", "wrapped"])
def test_rows_are_packed_in_the_thousands_that_trl_packs(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(token_rearrangement, "_PACKED_AT_ONCE", 1000)
    given = arguments(64, packing_strategy=strategy)
    many = Dataset.from_dict({"text": [f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(2100)]})
    values = {"_tokenizer": tokenizer, "chat_template": None, "completion_only_loss": False}
    expected = SFTTrainer._prepare_dataset(SimpleNamespace(**values), many, tokenizer, given, True, None, "train")
    found = Demonstrations(**values)._prepare_dataset(many, tokenizer, given, True, None, "train")
    assert same(found, expected, DEMONSTRATION_COLUMNS)


def test_the_next_run_finds_them_and_another_loss_does_not(tokenizer: Any) -> None:
    first = demonstrations_both_ways(tokenizer, arguments(1024), "last answers")
    again = demonstrations_both_ways(tokenizer, arguments(1024), "last answers")
    other = demonstrations_both_ways(tokenizer, arguments(1024), "messages")
    assert again[2].said == ["60 demonstrations are tokenised already, by an earlier run (train)"]
    assert [*again[0]["labels"]] == [*first[0]["labels"]] != [*other[0]["labels"]]
    assert not other[2].said


def test_a_stop_ends_the_tokenising(tokenizer: Any) -> None:
    asked = iter([False, False, True])
    with pytest.raises(StopRequested):
        demonstrations_both_ways(tokenizer, arguments(1024), "messages", stops=lambda: next(asked))
    assert list(token_cache.folder().iterdir()) == []
