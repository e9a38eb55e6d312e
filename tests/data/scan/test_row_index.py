"""Any row at once, search, the next row that a check names, and what differs word by word."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.data.checks.registry import checks
from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.pairs.word_diff import word_difference
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.row_index import open_index, preview_rows
from dpo_tui.data.scan.row_search import next_flagged, search, turns_of
from dpo_tui.data.scan.scan_cache import cached_flags
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source import chunks
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import TOO_SIMILAR, row, rows, write_lines

pytestmark = pytest.mark.usefixtures("home")


def scanned(path: Path) -> Source:
    source = Source(str(path))
    scan(ScanRequest(source, workers=1), lambda _event: None)
    return source


def container(folder: Path, kind: str, count: int) -> Path:
    records = rows(count)
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        return write_lines(path, records)
    if kind == "jsonl.gz":
        path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))
    elif kind == "json":
        path.write_text(json.dumps(records, indent=1))
    elif kind == "csv":
        lines = [
            "prompt,chosen,rejected",
            *(f'"{one["prompt"]}","{one["chosen"]}","{one["rejected"]}"' for one in records),
        ]
        path.write_text("\n".join(lines))
    else:
        import pyarrow as pa
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path, row_group_size=700)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
@pytest.mark.parametrize("after_scan", [True, False])
def test_any_row_is_read_where_it_is(tmp_path: Path, kind: str, after_scan: bool) -> None:
    path = container(tmp_path, kind, 12_000)
    source = scanned(path) if after_scan else Source(str(path))
    index = open_index(source)
    assert index.count == 12_000
    for number in (1, 2, 699, 701, 5_555, 12_000):
        assert index.row(number) == row(number - 1)
    assert index.rows(11_999, 10) == [(11_999, row(11_998)), (12_000, row(11_999))]
    with pytest.raises(IndexError):
        index.row(12_001)


def test_an_index_is_kept_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(str(container(tmp_path, "jsonl.gz", 100)))
    open_index(source)
    monkeypatch.setattr("dpo_tui.data.scan.row_index.build_index", lambda *_: pytest.fail("the index was built again"))
    assert open_index(source).row(100) == row(99)


def test_a_changed_file_gets_an_index_of_its_own(tmp_path: Path) -> None:
    path = container(tmp_path, "jsonl", 100)
    open_index(Source(str(path)))
    write_lines(path, rows(200))
    assert open_index(Source(str(path))).count == 200


def test_a_file_that_shrank_is_said(tmp_path: Path) -> None:
    path = container(tmp_path, "jsonl", 100)
    index = open_index(Source(str(path)))
    write_lines(path, rows(5))
    with pytest.raises(DataError, match="was changed while it was open"):
        index.row(80)
    path.unlink()
    with pytest.raises(DataError):
        open_index(Source(str(path)))


def test_blank_and_broken_lines_have_their_place(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(row(0))}\n\nbroken\n{json.dumps(row(1))}")
    index = open_index(Source(str(path)))
    shown = [turns_of(found, Recogniser()) for _, found in index.rows(1, 4)]
    assert shown[1] is None
    assert isinstance(shown[2], Unreadable)
    assert isinstance(shown[3], list)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_the_first_rows_come_without_reading_the_rest(tmp_path: Path, kind: str) -> None:
    found = preview_rows(Source(str(container(tmp_path, kind, 5_000))), 100)
    assert found == [(number, row(number - 1)) for number in range(1, 101)]


def test_the_first_rows_of_a_damaged_file_are_still_shown(tmp_path: Path) -> None:
    path = container(tmp_path, "jsonl.gz", 60_000)
    path.write_bytes(path.read_bytes()[:-1000])
    assert len(preview_rows(Source(str(path)), 100)) == 100


def test_search_finds_rows_in_both_directions(tmp_path: Path) -> None:
    path = container(tmp_path, "jsonl", 3_000)
    index = open_index(Source(str(path)))
    needle = "NUMBER 2345"
    assert list(search(index, Recogniser(), needle)) == [2346]
    assert next(search(index, Recogniser(), "chess in the", start=1000, backwards=True)) < 1000
    assert list(search(index, Recogniser(), "nowhere to be found")) == []


def test_the_next_row_that_a_check_names(tmp_path: Path) -> None:
    records = [TOO_SIMILAR if number in {5, 700, 2999} else row(number) for number in range(3000)]
    source = scanned(write_lines(tmp_path / "data.jsonl", records))
    flags = cached_flags(source)
    assert flags is not None
    bit = checks()["too-similar"].bit
    assert [next_flagged(flags, bit, after) for after in (0, 6, 701, 3000)] == [6, 701, 3000, None]
    assert [next_flagged(flags, bit, after, backwards=True) for after in (3000, 701, 6)] == [701, 6, None]


def test_portions_meet_at_line_breaks_whatever_their_size(tmp_path: Path) -> None:
    """Every row is in exactly one portion."""
    path = write_lines(tmp_path / "data.jsonl", [{"n": number, "text": "x" * (number % 97)} for number in range(500)])
    from dpo_tui.data.source.source import data_file

    for size in (1, 7, 64, 1000, 1 << 20):
        found = [
            one for part in chunks.chunks_of(data_file(path), size) for batch in chunks.rows(part) for one in batch
        ]
        assert [one["n"] for one in found if isinstance(one, dict)] == list(range(500))


def test_words_that_differ_are_told_apart() -> None:
    chosen, rejected = word_difference("The sunset was beautiful.", "The sunset was pretty.")
    assert [(piece.text, piece.kind) for piece in chosen] == [
        ("The sunset was ", "same"),
        ("beautiful", "only"),
        (".", "same"),
    ]
    assert [piece.text for piece in rejected if piece.kind == "only"] == ["pretty"]


@given(st.text(), st.text())
def test_the_pieces_of_a_difference_give_the_texts_again(chosen: str, rejected: str) -> None:
    left, right = word_difference(chosen, rejected)
    assert "".join(piece.text for piece in left) == chosen
    assert "".join(piece.text for piece in right) == rejected
    assert [piece.text for piece in left if piece.kind == "same"] == [
        piece.text for piece in right if piece.kind == "same"
    ] or "".join(piece.text for piece in left if piece.kind == "same") == "".join(
        piece.text for piece in right if piece.kind == "same"
    )
