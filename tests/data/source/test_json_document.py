"""Files that are one JSON object: each way of writing a table gives its rows, and one row stays one row."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_demonstrations import load_demonstrations
from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.scan.row_index import open_index
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source import chunks, json_outline
from dpo_tui.data.source.chunks import chunks_of, rows_with_warnings
from dpo_tui.data.source.source import Source, data_file
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, row, rows, user

pytestmark = pytest.mark.usefixtures("home")

ROWS = [*rows(7), row(8) | {"chosen": 'with "quotes", [brackets], {braces}\\ and: colons'}]
COLUMNS = {name: [one[name] for one in ROWS] for name in ROWS[0]}
CONVERSATIONS = [
    {"prompt": [user(one["prompt"])], "chosen": [assistant(one["chosen"])], "rejected": [assistant(one["rejected"])]}
    for one in ROWS
]


def write(path: Path, value: Any, **options: Any) -> Path:
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


def load(path: Path, **options: Any) -> LoadedPairs:
    return load_pairs(Source(str(path), **options))


def texts(loaded: LoadedPairs) -> list[str]:
    return [pair.chosen[0]["content"] for pair in loaded.pairs]


def by_pandas(orient: str, **options: Any) -> str:
    import pandas as pd

    return str(pd.DataFrame(ROWS).to_json(orient=orient, **options))


LISTS = {
    "data": {"version": "1.0", "data": ROWS},
    "data before metadata": {"data": ROWS, "info": {"by": ["a", "b"]}, "count": 8},
    "another name": {"meta": {}, "preference_pairs": ROWS, "licence": "MIT"},
    "two lists": {"features": [{"name": "prompt"}, {"name": "chosen"}], "rows": ROWS},
    "train and test": {"test": rows(2), "train": ROWS},
    "conversations": {"data": CONVERSATIONS},
    "wrapped": {"status": "ok", "result": {"page": 1, "data": ROWS}},
    "columns": COLUMNS,
    "columns and metadata": {"version": 1, **COLUMNS},
    "columns of conversations": {name: [one[name] for one in CONVERSATIONS] for name in CONVERSATIONS[0]},
    "columns with objects": {**COLUMNS, "meta": [{"source": "x"} for _ in ROWS]},
    "columns by row": {name: dict(enumerate(values)) for name, values in COLUMNS.items()},
    "columns by name": {name: {f"r{n}": one for n, one in enumerate(values)} for name, values in COLUMNS.items()},
    "rows by number": dict(enumerate(ROWS)),
    "rows by name": {f"id-{number}": one for number, one in enumerate(ROWS)},
    "split": {"columns": list(COLUMNS), "index": list(range(8)), "data": [list(one.values()) for one in ROWS]},
    "split, columns last": {"data": [list(one.values()) for one in ROWS], "columns": list(COLUMNS)},
    "table": {"schema": {"fields": [{"name": "prompt"}], "primaryKey": ["index"]}, "data": ROWS},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", LISTS)
def test_a_document_holds_the_rows_of_its_table(tmp_path: Path, name: str, indent: int | None) -> None:
    path = write(tmp_path / "data.json", LISTS[name], indent=indent)
    loaded = load(path)
    assert texts(loaded) == [one["chosen"] for one in ROWS]
    assert [pair.row for pair in loaded.pairs] == list(range(1, 9))
    report = scan(ScanRequest(Source(str(path)), workers=1), lambda event: None)
    assert (report.rows, report.usable, report.notes) == (8, 8, loaded.notes)
    assert len(about_the_file(loaded)) == 1
    assert open_index(Source(str(path))).row(8)["prompt"] in (ROWS[7]["prompt"], CONVERSATIONS[7]["prompt"])


@pytest.mark.parametrize("orient", ["columns", "index", "records", "split", "table"])
@pytest.mark.parametrize("options", [{}, {"indent": 1}])
def test_every_orient_of_pandas_is_read(tmp_path: Path, orient: str, options: dict[str, Any]) -> None:
    path = tmp_path / "data.json"
    path.write_text(by_pandas(orient, **options))
    assert texts(load(path)) == [one["chosen"] for one in ROWS]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("name", LISTS)
def test_blocks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    whole = json.dumps(LISTS[name]).encode()

    def read(file: Any, offset: int) -> Any:
        return (whole[at : at + size] for at in range(offset, len(whole), size))

    monkeypatch.setattr(chunks, "_text_from", read)
    assert texts(load(write(tmp_path / "data.json", LISTS[name]))) == [one["chosen"] for one in ROWS]


@pytest.mark.parametrize("encode", [lambda text: gzip.compress(text.encode()), lambda text: text.encode("utf-16")])
def test_a_packed_or_transcoded_table_is_read_from_each_column(tmp_path: Path, encode: Any) -> None:
    path = tmp_path / "data.json.gz"
    path.write_bytes(encode(json.dumps(COLUMNS)))
    assert texts(load(path)) == COLUMNS["chosen"]


@pytest.mark.parametrize(
    "one",
    [
        row(1),
        {"prompt": [user("p")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"prompt": user("p"), "chosen": assistant("a"), "rejected": assistant("b")},
        {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
        {"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]},
        {"instruction": "p", "input": "", "output": ["a", "b"]},
        row(1) | {"meta": {"0": {"x": 1}}, "tags": ["a"]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_row_stays_one_row(tmp_path: Path, one: dict[str, Any], indent: int | None) -> None:
    loaded = load(write(tmp_path / "data.json", one, indent=indent))
    assert (len(loaded.pairs), loaded.total, about_the_file(loaded)) == (1, 1, [])


def test_one_line_of_json_lines_is_a_row_and_not_a_list_of_rows(tmp_path: Path) -> None:
    """Its answers are a list of objects, as those of TL;DR comparisons are."""
    answers = [{"text": "a", "policy": "one"}, {"text": "b", "policy": "two"}]
    loaded = load(write(tmp_path / "data.jsonl", {"info": {"post": "p"}, "summaries": answers, "choice": 1}))
    assert texts(loaded) == ["b"]
    wrapped = write(tmp_path / "wrapped.jsonl", {"data": [row(1), row(2)]})
    assert len(load(wrapped).pairs) == 2


def about_the_file(loaded: LoadedPairs) -> list[str]:
    """The notes but for those about columns."""
    return [note for note in loaded.notes if not note.startswith("not used: ") and " is read as " not in note]


def test_lines_that_hold_lists_stay_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in CONVERSATIONS))
    assert texts(load(path)) == [one["chosen"] for one in ROWS]
    path.write_text("".join(json.dumps(one | {"prompt": [user("long " * 30_000)]}) + "\n" for one in CONVERSATIONS))
    assert texts(load(path)) == [one["chosen"] for one in ROWS]  # the first line is longer than what is looked at


def test_a_broken_first_line_does_not_make_a_document_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(ROWS[0])[:-1] + "\n" + "".join(json.dumps(one) + "\n" for one in ROWS))
    loaded = load(path)
    assert (len(loaded.pairs), [problem.row for problem in loaded.dropped]) == (8, [1])


def test_demonstrations_come_as_columns_too(tmp_path: Path) -> None:
    path = write(tmp_path / "data.json", {"text": ["one", "two"], "id": [1, 2]})
    assert [one.text for one in load_demonstrations(Source(str(path))).rows] == ["one", "two"]


def test_the_split_names_the_list(tmp_path: Path) -> None:
    path = write(tmp_path / "data.json", {"train": ROWS, "test": rows(3)})
    assert len(load(path, split="test").pairs) == 3
    path = write(tmp_path / "more.json", {"helpful": ROWS, "harmless": rows(3)})
    assert len(load(path, split="harmless").pairs) == 3
    with pytest.raises(DataError, match="several lists of rows: helpful, harmless"):
        load(path)


def test_columns_of_different_length_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "data.json", COLUMNS | {"rejected": COLUMNS["rejected"][:-1]})
    with pytest.raises(DataError, match="the columns differ in length: rejected ends before row 8"):
        load(path)


def test_a_document_that_breaks_off_keeps_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": ROWS})[:-60])
    loaded = load(path)
    assert len(loaded.pairs) == 7
    assert "the file ends inside the array" in loaded.notes


def test_nan_and_repeated_keys_are_found_in_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "data.json", COLUMNS | {"score_chosen": [float("nan")] * 8, "score_rejected": [1.0] * 8})
    loaded = load(path)
    assert (len(loaded.pairs), loaded.dropped) == (8, [])
    assert loaded.notes[-1].startswith("a number is NaN or infinite in 8 rows")


@pytest.mark.parametrize("name", ["data", "columns", "rows by number", "split"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(json_outline, "MOST_MEMBERS", 100)
    long = [row(number) | {"rejected": f"{number} " * 2000} for number in range(4000)]
    by_name: dict[str, Any] = {
        "data": {"data": long},
        "columns": {key: [one[key] for one in long] for key in long[0]},
        "rows by number": dict(enumerate(long)),
        "split": {"columns": list(long[0]), "data": [list(one.values()) for one in long]},
    }
    path = write(tmp_path / "data.json", by_name[name])
    size = path.stat().st_size
    assert size > 36 << 20
    tracemalloc.start()
    found = sum(len(batch.rows) for chunk in chunks_of(data_file(path), 1 << 20) for batch in rows_with_warnings(chunk))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 4000
    assert peak < size / 2
