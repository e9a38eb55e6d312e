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
