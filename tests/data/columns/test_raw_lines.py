"""Lines of three texts that are taken as they stand in the file are what parsing makes of them; others are parsed."""

import json
from pathlib import Path

import orjson
import pytest

from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from dpo_tui.data.stored import reading_cache, row_writer
from dpo_tui.data.stored.row_writer import RowWriter
from dpo_tui.data.stored.stored_rows import StoredRows
from tests.support.data_files import row

pytestmark = pytest.mark.usefixtures("home")
NAMES = ("prompt", "chosen", "rejected")
TRANSCRIPT = "Human: hi\n\nAssistant: yes?\n\nHuman: go on"
MESSAGES = json.dumps([{"role": "user", "content": "hey"}])


def line(number: int = 0, **texts: object) -> bytes:
    return orjson.dumps(row(number) | texts)


TAKEN = {
    "escapes": line(prompt='"\\\n\t\b\f\r\\"', chosen="\\", rejected="\\\\"),
    "other languages": line(prompt="日本", chosen="“q” 😀", rejected="é\u2028\x7f"),
    "odd first characters": line(prompt="\xa0p", chosen=" a", rejected="\n{"),
    "like a speaker": line(prompt="Human: alone", chosen="[1]", rejected="Q: x"),
    "as long as each other": line(chosen="ab", rejected="ba"),
    "an escape that JSON does not need": line(chosen="answer").replace(b"answer", b"\\u0061nswer"),
    "an escaped slash": line(chosen="answer").replace(b"answer", b"an\\/swer"),
    "spaces around it": b"  " + line() + b" ",
    "another order": orjson.dumps({name: row(0)[name] for name in reversed(NAMES)}),
    "another column": line(score=1.5),
    "another text": line(id="x"),
    "messages": line(chosen=[{"role": "assistant", "content": "a"}]),
}
PARSED = {
    "no such escape": line(chosen="answer").replace(b"answer", b"an\\xswer"),
    "half of a surrogate pair": line(chosen="answer").replace(b"answer", b"an\\ud83dswer"),
    "a control character": line(chosen="answer").replace(b"answer", b"an\x02swer"),
    "in an escape": line(chosen="an\x02swer"),
    "a tab for a separator and one in a text": line(chosen="ans\twer").replace(b"\\t", b"\t"),
    "not UTF-8": line(chosen="answer").replace(b"answer", b"an\xffswer"),
    "a surrogate in UTF-8": line(chosen="answer").replace(b"answer", b"an\xed\xa0\x80swer"),
    "a backslash at the end": line(rejected="end").replace(b'end"}', b"end\\"),
    "blank": b"",
    "null": b"null",
    "cut off": line()[:-4],
    "a comma behind it": line() + b",",
    "two objects": line() + line(),
    "one less": orjson.dumps({"prompt": "p", "chosen": "c"}),
    "another name": line().replace(b"chosen", b"chosem"),
    "a key twice": b'{"prompt":"older",' + line()[1:],
    "not a number": json.dumps(row(0) | {"score": float("nan")}).encode(),
    "a null": line(rejected=None),
    "no prompt": line(prompt=""),
    "a blank answer": line(rejected="\u3000\n\xa0"),
    "equal answers": line(chosen="same", rejected="same"),
    "a transcript": line(prompt=TRANSCRIPT),
    "a transcript after white space": line(prompt=f"\n\n {TRANSCRIPT}"),
    "messages in a text": line(prompt=f" {MESSAGES}"),
    "turns in a text": line(prompt='["one","two"]'),
}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the rows that were written as texts."""
    found: list[int] = []
    add_pairs = RowWriter.add_pairs

    def noted(writer: RowWriter, first: int, texts: row_writer.PairRun) -> None:
        found.extend(range(first, first + len(texts)))
        add_pairs(writer, first, texts)

    monkeypatch.setattr(RowWriter, "add_pairs", noted)
    monkeypatch.setattr(row_writer, "_FEW_PAIRS", 5)
    return found


def read_both_ways(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Compare the rows of a file that are stored with those that are parsed one by one into memory."""
    found = []
    for limit in (10**12, 0):
        patch.setattr(reading_cache, "LARGE_BYTES", limit)
        found.append(load_pairs(Source(str(path))))
    in_memory, stored = found
    assert isinstance(stored.pairs, StoredRows)
    assert list(stored.pairs) == in_memory.pairs
    for name in ("total", "dropped", "format", "columns", "notes", "sha256"):
        assert getattr(stored, name) == getattr(in_memory, name), name


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", [*TAKEN, *PARSED])
def test_a_line_is_read_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], name: str, end: bytes
) -> None:
    odd = (TAKEN | PARSED)[name]
    # With enough letters that are UTF-8 beyond doubt, for the lines that are not.
    first, later = ([line(number, rejected=f"日本 {number}") for number in some] for some in (range(9), range(10, 14)))
    lines = [*first, odd, *later, odd]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(end.join(lines) + end)
    read_both_ways(path, monkeypatch)
    plain = {number for number in range(1, 15) if number != 10}
    assert set(taken) == (plain | {10, 15} if name in TAKEN else plain)


def test_the_last_line_needs_no_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(map(line, range(9))))
    read_both_ways(path, monkeypatch)
    assert taken == list(range(1, 10))


@pytest.mark.parametrize("other", [{"ensure_ascii": True}, {"separators": (",", ":"), "ensure_ascii": False}])
def test_lines_that_python_writes_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], other: dict[str, object]
) -> None:
    order = ("rejected", "prompt", "chosen")
    path = tmp_path / "rows.jsonl"
    rows = [{name: row(number)[name] for name in order} for number in range(9)]
    path.write_text("".join(f"{json.dumps(one, **other)}\n" for one in rows), encoding="utf-8")  # type: ignore[arg-type]
    read_both_ways(path, monkeypatch)
    assert taken == list(range(1, 10))


@pytest.mark.parametrize("most", [1, 4, 9, 12, 30])
def test_rows_are_read_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], most: int
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*map(line, range(8)), b"", *map(line, range(8, 16))]) + b"\n")
    monkeypatch.setattr(reading_cache, "_FEW_ROWS", 0)
    found = []
    for limit in (10**12, 0):
        monkeypatch.setattr(reading_cache, "LARGE_BYTES", limit)
        found.append(load_pairs(Source(str(path), max_rows=most)))
    assert list(found[1].pairs) == found[0].pairs
    assert found[1].total == found[0].total == min(most, 16)
    assert len(taken) == min(most, 16)
