"""What is known of stored demonstrations without making objects of them is what the objects say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_demonstrations import Demonstration, LoadedDemonstrations, load_demonstrations
from dpo_tui.data.load_split import hold_out_demonstrations
from dpo_tui.data.pairs.hold_out_by_prompt import prompt_key
from dpo_tui.data.source.source import Source
from dpo_tui.data.stored import reading_cache, row_writer, views
from dpo_tui.data.stored.stored_rows import StoredRows
from dpo_tui.data.stored.views import is_without_text, places_where
from dpo_tui.data.tokens.trained_answers import require_trained_answers
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, user, write_lines
from tests.support.training import make_config

pytestmark = pytest.mark.usefixtures("home")
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
WRITE = {"type": "function", "function": {"name": "f", "arguments": {"parts": [{"content": "x"}, {"content": "y"}]}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "two messages": {"messages": [user("q"), assistant("a")]},
    "the same prompt": {"messages": [user("q"), assistant("b")]},
    "four": {"messages": [user("q"), assistant("a"), user("r"), assistant("c")]},
    "like the next message": {"messages": [user('q,{"content":"x","role":"user"}'), assistant(',{"content":"')]},
    "only its beginning": {"messages": [user("q"), assistant(',{"content":')]},
    "a backslash before it": {"messages": [user("q\\"), assistant('\\",{"content":"')]},
    "one message": {"messages": [assistant("a text of its own")]},
    "no answer at the end": {"messages": [user("q"), assistant("a"), user("and?")]},
    "a call": {"messages": [user("what time?"), CALL], "tools": TOOLS},
    "a name": {"messages": [{**user("q"), "name": "Ann"}, assistant("a")]},
    "content in a call": {"messages": [user("write"), {**CALL, "tool_calls": [WRITE]}, user("thanks"), assistant("a")]},
    "content first": {"messages": [{"content": "q", "role": "user"}, assistant("a")]},
    "another script": {"messages": [user("日本“q”\u2028"), assistant("é😀")]},
    "an empty turn": {"messages": [user(""), assistant("a")]},
    "prompt and completion": {"prompt": "q", "completion": "c"},
    "a preference pair": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "text": {"text": "once upon a time"},
    "the same text": {"text": "once upon a time"},
}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_writer, "_BATCH_ROWS", 4)
    monkeypatch.setattr(views, "_BLOCK", 5)


def read_both_ways(
    folder: Path, patch: pytest.MonkeyPatch, rows: list[dict[str, Any]]
) -> tuple[list[Demonstration], StoredRows[Demonstration]]:
    found: list[LoadedDemonstrations] = []
    path = write_lines(folder / "rows.jsonl", rows)
    for limit in (10**12, 0):
        patch.setattr(reading_cache, "LARGE_BYTES", limit)
        found.append(load_demonstrations(Source(str(path))))
    in_memory, stored = (one.rows for one in found)
    assert isinstance(in_memory, list) and isinstance(stored, StoredRows)
    assert list(stored) == in_memory
    return in_memory, stored


def of_kinds(*leave_out: str) -> list[dict[str, Any]]:
    return [row for name, row in CONVERSATIONS.items() if name not in leave_out] * 3


@pytest.mark.parametrize("seed", [0, 42])
def test_stored_demonstrations_are_held_out_by_the_keys_of_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    in_memory, stored = read_both_ways(tmp_path, monkeypatch, of_kinds())
    config = make_config(tmp_path, tmp_path / "rows.jsonl", strategy="sft", eval_split=0.4, seed=seed)
    expected = [list(part) for part in hold_out_demonstrations(in_memory, config)]
    assert all(expected)
    for _ in range(2):  # the keys are made, and taken from where they were kept
        assert [list(part) for part in hold_out_demonstrations(stored, config)] == expected

    def prompt_of(row: Demonstration) -> list[Any]:
        return row.messages[:-1] or row.messages or [{"role": "", "content": row.text}]

    keys = stored.prompt_keys(partial(prompt_key, seed=seed), seed, prompt_of)
    assert [key.tobytes() for key in keys] == [prompt_key(prompt_of(row), seed) for row in in_memory]


def test_only_what_no_cell_shows_is_made_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, stored = read_both_ways(tmp_path, monkeypatch, [CONVERSATIONS["two messages"]] * 9)
    monkeypatch.setattr(StoredRows, "_items", lambda *_: pytest.fail("an object was made"))
    keys = stored.prompt_keys(partial(prompt_key, seed=1), 1, lambda _: pytest.fail("it was asked for"))
    assert {key.tobytes() for key in keys} == {prompt_key([user("q")], 1)}


@pytest.mark.parametrize(
    "is_so", [lambda row: len(row.messages) < 3, lambda row: row.messages[-1:] == [], lambda _: True]
)
def test_places_by_shape_are_those_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_so: Callable[[Demonstration], bool]
) -> None:
    in_memory, stored = read_both_ways(tmp_path, monkeypatch, of_kinds())
    assert list(places_where(stored, is_so)) == places_where(in_memory, is_so)
    assert list(places_where(stored[3:20], is_so)) == places_where(in_memory[3:20], is_so)
    assert not len(places_where(stored[:0], is_so))


def test_stored_conversations_without_an_answer_are_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = of_kinds("text", "the same text")
    config = make_config(tmp_path, tmp_path / "rows.jsonl", strategy="sft", completion_only_loss=True)
    for found in read_both_ways(tmp_path, monkeypatch, rows):
        with pytest.raises(DataError, match=r"6 of 48 conversations do not end with .*, such as row 7, and"):
            require_trained_answers(config, found)
    rows = of_kinds("text", "the same text", "one message", "no answer at the end")
    _, stored = read_both_ways(tmp_path, monkeypatch, rows)
    require_trained_answers(config, stored)


def test_plain_text_among_stored_conversations_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(tmp_path, tmp_path / "rows.jsonl", strategy="sft", completion_only_loss=True)
    for found in read_both_ways(tmp_path, monkeypatch, of_kinds()):
        assert not is_without_text(found)
        with pytest.raises(DataError, match="row 17 is plain text"):
            require_trained_answers(config, found)
    _, stored = read_both_ways(tmp_path, monkeypatch, of_kinds("text", "the same text"))
    assert is_without_text(stored)
