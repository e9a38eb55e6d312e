"""Repeated keys and numbers that are none: the rows are named and used, the same way wherever they are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.json_lines import parse_block_with_warnings
from dpo_tui.data.source.source import Source
from tests.support.data_files import row, rows

pytestmark = pytest.mark.usefixtures("home")


def read(path: Path) -> tuple[LoadedPairs, Report]:
    source = Source(str(path))
    return load_pairs(source), scan(ScanRequest(source, workers=1), lambda event: None)


def flagged(report: Report, check: str) -> list[int]:
    return next((problem.rows for problem in report.problems if problem.check == check), [])


def lines(count: int, odd: dict[int, str]) -> str:
    """JSON lines; ``odd`` replaces some, by row from 1."""
    return "".join(odd.get(number, json.dumps(row(number))) + "\n" for number in range(1, count + 1))


TWICE = '{"prompt": "Why?", "chosen": "the good one", "rejected": "no", "chosen": "the last one"}'


@pytest.mark.parametrize(
    "twice",
    [
        TWICE,
        TWICE.replace(": ", ":"),
        TWICE.replace(": ", " : "),
        TWICE.replace('"chosen": "the last', r'"\u0063hosen": "the last'),
        TWICE.replace("{", '{"extra": {"n": [1, null]}, ', 1),
        '{"prompt": [{"role": "user", "content": "Why?", "role": "user"}], "chosen": "the last one", "rejected": "no"}',
    ],
)
def test_a_key_that_occurs_twice_is_a_warning_with_the_row(tmp_path: Path, twice: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(lines(9, {4: twice}))
    loaded, report = read(path)
    assert flagged(report, "repeated-key") == [4]
    assert loaded.pairs[3].chosen[0]["content"] == "the last one"
    (note,) = about_rows(loaded)
    assert note.startswith("a key occurs twice in 1 row (4): row 4: `")


@pytest.mark.parametrize(
    "values",
    [
        {"chosen": ': "quoted": and \\": more\\'},
        {"chosen": 'a JSON text: {"a": 1, "a": 2, \\"a\\": 3}'},
        {"chosen": "ends in a backslash \\"},
        {":": "a key that is a colon", '"': "and one that is a quote"},
        {"meta": {"prompt": "the same name in another object", "list": [{"prompt": 1}, {"prompt": 2}]}},
    ],
)
def test_text_that_looks_like_keys_is_none(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(lines(9, {number: json.dumps(row(number) | values) for number in (2, 3, 9)}))
    loaded, report = read(path)
    assert (flagged(report, "repeated-key"), about_rows(loaded), len(loaded.pairs)) == ([], [], 9)


def about_rows(loaded: LoadedPairs) -> list[str]:
    """The notes but for that on columns that nobody reads."""
    return [note for note in loaded.notes if not note.startswith("not used: ")]


def test_a_missing_key_does_not_hide_a_repeated_one() -> None:
    data = b'{"a": 1, "b": 2, "c": 3}\n{"a": 1, "b": 2}\n{"a": 1, "b": 2, "c": 3, "a": 4}\n'
    assert [(found.row, found.check) for found in parse_block_with_warnings(data)[1]] == [(2, "repeated-key")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_not_are_named_and_the_row_is_used(tmp_path: Path, number: str) -> None:
    path = tmp_path / "data.jsonl"
    odd = json.dumps(row(4) | {"score_chosen": 0, "score_rejected": 1.5}).replace(
        '"score_chosen": 0', f'"score_chosen": {number}'
    )
    path.write_text(lines(9, {4: odd}))
    loaded, report = read(path)
    assert (len(loaded.pairs), loaded.dropped, report.usable) == (9, [], 9)
    assert flagged(report, "not-a-number") == [4]
    reason = f"row 4: `score_chosen` is {number}: read as missing"
    assert [problem.detail for problem in report.problems if problem.check == "not-a-number"] == [reason]
    assert loaded.notes == [f"a number is NaN or infinite in 1 row (4): {reason}"]


def test_an_answer_that_is_nan_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(lines(9, {4: '{"prompt": "p", "chosen": NaN, "rejected": "b"}'}))
    loaded, report = read(path)
    assert [problem.row for problem in loaded.dropped] == flagged(report, "missing-field") == [4]


def test_the_word_nan_in_a_text_is_a_word(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        lines(9, {4: json.dumps(row(4) | {"chosen": "the list [1, NaN, Infinity]: NaN, or so"}), 6: "not JSON: NaN"})
    )
    loaded, report = read(path)
    assert (flagged(report, "not-a-number"), loaded.notes) == ([], [])
    assert [problem.row for problem in loaded.dropped] == [6]


def test_scores_that_are_nan_in_parquet_are_named_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = [one | {"score_chosen": 2.0, "score_rejected": 1.0, "more": {"x": 1.0}} for one in rows(9)]
    found[3]["score_rejected"] = float("nan")
    found[5]["more"] = {"x": float("inf")}
    pq.write_table(pa.Table.from_pylist(found), tmp_path / "data.parquet")
    loaded, report = read(tmp_path / "data.parquet")
    assert flagged(report, "not-a-number") == [4, 6]
    assert "in 2 rows (4, 6): row 4: `score_rejected` is NaN" in loaded.notes[0]


def test_an_array_is_searched_as_lines_are(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("[" + ",\n".join([json.dumps(row(1)), TWICE, json.dumps(row(2))]) + "]")
    assert flagged(read(path)[1], "repeated-key") == [2]
