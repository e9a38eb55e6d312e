"""Records of Parquet and Arrow, and of CSV, that are taken as runs of pairs are what the recogniser makes of them."""

import csv
import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from tests.data.columns.test_layouts import (
    ODD_TRANSCRIPTS,
    Record,
    assert_read_alike,
    messages,
    taken,
    texts,
    transcripts,
    turns,
    ultrafeedback,
    verdict,
    with_system,
)

__all__ = ["taken"]  # a fixture
pytestmark = pytest.mark.usefixtures("home")
COUNT = 30


def with_source(number: int) -> Record:
    return {**texts(number), "source": f"s {number}", "tags": [{"a": None, "b": "x"}], "number": 1e-3 * number}


def of_columns(**columns: Any) -> pa.Table:
    """Rows of three texts with more columns, or others in their place."""
    plain = {name: [row[name] for row in map(texts, range(COUNT))] for name in ("prompt", "chosen", "rejected")}
    return pa.table(plain | columns)


def days() -> list[datetime.datetime]:
    return [datetime.datetime(2026, 1, 1 + number % 28, tzinfo=datetime.UTC) for number in range(COUNT)]


def uuids() -> pa.Array:
    values = pa.array([bytes([number]) * 16 for number in range(COUNT)], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), values)


def weighted(*weights: float) -> list[list[Record]]:
    weight = [weights[number % len(weights)] for number in range(COUNT)]
    return [[one | {"weight": weight[number]} for one in turns("q", f"a {number}")] for number in range(COUNT)]


TABLES: dict[str, tuple[Callable[[], pa.Table], int]] = {
    "dates that nobody reads": (lambda: of_columns(when=days()), COUNT),
    "dates as answers": (lambda: of_columns(chosen=days()), 0),
    "bytes as answers": (lambda: of_columns(chosen=[b"a"] * COUNT), 0),
    "decimals": (lambda: of_columns(cost=[decimal.Decimal("1.5")] * COUNT), COUNT),
    "the largest number": (lambda: of_columns(id=pa.array([2**64 - 1] * COUNT, pa.uint64())), 0),
    "texts by their numbers": (lambda: of_columns(prompt=pa.array(["p", "q"] * 15).dictionary_encode()), COUNT),
    "large texts": (lambda: of_columns(prompt=pa.array(["p"] * COUNT, pa.large_string())), COUNT),
    "prompts that are null": (lambda: of_columns(prompt=[None, "p"] * 15), COUNT // 2),
    "scores that are no numbers": (lambda: of_columns(score=[float("nan"), 1.0, float("inf")] * 10), COUNT),
    "a map": (lambda: of_columns(more=pa.array([[("a", 1)]] * COUNT, pa.map_(pa.string(), pa.int64()))), COUNT),
    "weights of messages": (lambda: pa.table({"chosen": weighted(1.0), "rejected": weighted(2.0)}), 0),
    "that are no numbers": (lambda: pa.table({"chosen": weighted(float("nan")), "rejected": weighted(2.0)}), 0),
    "decimals that are called a score": (lambda: of_columns(score=[decimal.Decimal("1.5")] * COUNT), COUNT),
    "UUIDs as prompts": (lambda: of_columns(prompt=uuids()), COUNT),
    "no rows": (lambda: of_columns().slice(0, 0), 0),
}


@pytest.mark.parametrize("form", [messages, ultrafeedback, transcripts, texts, with_source, with_system, verdict])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_every_form_of_records_is_read_as_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], form: Callable[[int], Record], kind: str
) -> None:
    table = pa.Table.from_pylist([form(number) for number in range(COUNT)])
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert_read_alike(path, monkeypatch)
    assert len(taken) == {verdict: 16, with_system: 22}.get(form, COUNT)


@pytest.mark.parametrize("name", TABLES)
def test_other_types_are_read_as_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], name: str
) -> None:
    make, count = TABLES[name]
    table = make()
    # Rows that can be used, so that the others are left out and do not end the reading.
    usable = pa.table({"prompt": ["q"] * 99, "chosen": ["good"] * 99, "rejected": ["bad"] * 99})
    folder = tmp_path / "rows"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(usable, folder / "b.parquet")
    assert_read_alike(folder, monkeypatch)
    assert len(taken) == count + 99


CELLS: dict[str, tuple[Record, bool]] = {
    "plain": ({}, True),
    "a bracket": ({"chosen": "[sic] so"}, False),
    "messages": ({"chosen": json.dumps(turns("q", "a")), "rejected": json.dumps(turns("q", "b"))}, False),
    "messages of Python": ({"chosen": repr(turns("q", "a")), "rejected": repr(turns("q", "b"))}, False),
    "behind a space": ({"chosen": " " + json.dumps(turns("q", "a")), "rejected": "b"}, False),
    "behind a line break": ({"prompt": "\n" + json.dumps(turns("q"))}, False),
    "behind wide white space": ({"prompt": "\u3000" + json.dumps(turns("q"))}, False),
    "an object": ({"prompt": json.dumps({"messages": turns("q")})}, False),
    "a list of texts": ({"rejected": '["one", "two"]'}, False),
    "an empty cell": ({"rejected": ""}, False),
    "a tie": ({"winner": "tie"}, False),
    "an object in a column that nobody reads": ({"source": '{"role": "user"}'}, True),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_read_as_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], name: str
) -> None:
    """Text of a table may be JSON; with the same columns it is not decoded in JSON lines."""
    cells, is_taken = CELLS[name]
    rows = [texts(number) | {"source": "s", "winner": "model_a"} for number in range(20)]
    rows[7] |= cells
    with (path := tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        file.write('"too","few"\r\n')
    assert_read_alike(path, monkeypatch)
    assert set(range(1, 21)) - set(taken) == (set() if is_taken else {8})


@pytest.mark.parametrize("name", ODD_TRANSCRIPTS)
def test_a_transcript_in_cells_is_read_as_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    chosen, rejected = ODD_TRANSCRIPTS[name]
    with (path := tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["chosen", "rejected"])
        table.writerows(transcripts(number).values() for number in range(9))
        table.writerow([chosen, rejected])
    assert_read_alike(path, monkeypatch)


@pytest.mark.parametrize("cell", ['["1", "2"]', "\u3000['a']", json.dumps(turns("q", "a")), "2"])
@pytest.mark.parametrize("column", ["scores", "label", "input", "is_tie"])
def test_a_report_tells_columns_by_the_first_cell_as_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], column: str, cell: str
) -> None:
    """What a column that nobody reads might be depends on whether its text is a list."""
    with (path := tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*texts(0), column])
        table.writeheader()
        table.writerows(texts(number) | {column: cell if number == 0 else "x"} for number in range(20))
    assert_read_alike(path, monkeypatch)
    assert taken == list(range(1, 21))


def test_a_uuid_is_the_text_that_other_kinds_of_files_have(tmp_path: Path) -> None:
    pq.write_table(of_columns(prompt=uuids()), path := tmp_path / "rows.parquet")
    first, second, *_ = load_pairs(Source(str(path))).pairs
    assert first.prompt == [{"role": "user", "content": "00000000-0000-0000-0000-000000000000"}]
    assert second.prompt == [{"role": "user", "content": "01010101-0101-0101-0101-010101010101"}]
