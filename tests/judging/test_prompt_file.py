"""Files of prompts: a line each, or rows with a prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import DataError
from dpo_tui.judging.prompt_file import read_prompts


def contents(path: Path) -> list[Any]:
    return [prompt[-1]["content"] for prompt in read_prompts(path)]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, mark: str) -> None:
    rows, text = tmp_path / "rows.jsonl", tmp_path / "rows.txt"
    prompt = f"one{mark}two"
    rows.write_text("".join(json.dumps({"prompt": one}, ensure_ascii=False) + "\n" for one in (prompt, "three")))
    assert contents(rows) == [prompt, "three"]
    text.write_text(f"{prompt}\r\nthree\n", newline="")
    assert contents(text) == [prompt, "three"]


def test_a_json_file_may_hold_a_list_or_a_single_object(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"prompt": "Why?", "id": 3}')
    assert contents(path) == ["Why?"]
    path.write_text('["Why?", {"question": "How?"}, "Why?"]')
    assert contents(path) == ["Why?", "How?"]
    path.write_text('{"id": 3}')
    with pytest.raises(DataError, match="row 1 has no prompt"):
        read_prompts(path)


def test_every_prompt_is_read_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt {n % 700}\n" for n in range(2000)))
    assert contents(path) == [f"prompt {n}" for n in range(700)]


def test_messages_come_before_a_prompt_and_texts_before_each_other(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "m"}], "prompt": "p"},
        {"messages": [], "prompt": [{"role": "user", "content": "list"}]},
        {"messages": "no list", "question": "q", "text": "t"},
        {"prompt": " ", "instruction": "i", "text": "t"},
        {"messages": [{"from": "human", "value": "sharegpt"}, {"from": "gpt", "value": "answer"}]},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert contents(path) == ["m", "list", "q", "i", "sharegpt"]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b'{"prompt": "one"}\n\n{"prompt": \n', r"a\.jsonl:3: not valid JSON"),
        ("a.jsonl", b'{"prompt": "one"}\n\n{"prompt": 3}\n', "row 3 has no prompt"),
        ("a.json", b'["one", " "]', "row 2 has no prompt"),
        ("a.json", b'[{"prompt": "one"}, {"messages": [1]}]', "row 2 has no prompt"),
        ("a.txt", b"one\n\xff", "is not UTF-8 text, at byte 4"),
        ("a.txt", b" \n\t\n", "there is no prompt in it"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: JSON that is nested too deep"),
        ("a.json", b'["half \\ud800 of a pair"]', "prompt 1 is not Unicode text"),
        ("a.ndjson", b"no JSON", r"a\.ndjson:1: not valid JSON"),
        ("a.txt", b'{"prompt": "one"}\n{"prompt": "two"}\n', "has JSON rows, and its name does not say so"),
        ("a.csv", b"prompt,answer\none,1\n", "is a table"),
        ("a.json", b'[{"prompt": "one", "tools": [{"type": "function"}]}]', "row 1 has tools"),
        ("a.json", b'{"messages": [{"role": "user", "content": " "}]}', "row 1 ends with an empty message"),
        ("a.json", b'{"messages": [{"role": "user", "content": 5}]}', "row 1: .* content is a number, not text"),
        ("a.json", b'{"messages": [{"role": "poet", "content": "x"}]}', "row 1: .* role 'poet'"),
        ("a.json", b'{"messages": [{"role": "assistant", "content": "x"}]}', "row 1 ends with a turn of the assistant"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf  one \n")
    assert contents(tmp_path / "a.txt") == ["one"]
