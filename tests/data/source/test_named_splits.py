"""A split or subset that was named is the one that is read, or the data are refused with those that there are."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.load_split import split_of
from dpo_tui.data.scan.row_index import preview_rows
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.locate import locate, locate_evaluation
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import row, rows, write_lines

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files, folders and JSON documents with and without splits."""
    for name, numbers in {
        "one.jsonl": range(6),
        "test.jsonl": range(6),
        "splits/train.jsonl": range(6),
        "splits/test.jsonl": range(10, 13),
        "splits/extra.jsonl": range(20, 21),
        "alone/pairs.jsonl": range(6),
        "parts/a.jsonl": range(2),
        "parts/b.jsonl": range(2, 3),
        "subsets/en/train.jsonl": range(6),
        "folders/train/a.jsonl": range(6),
        "folders/validation/b.jsonl": range(10, 12),
        "capitals/TRAIN.jsonl": range(6),
        "capitals/Test.jsonl": range(10, 12),
        "words/training.jsonl": range(6),
        "words/testing.jsonl": range(10, 12),
        "subsets/de/train.jsonl": range(30, 34),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        write_lines(tmp_path / name, [row(number) for number in numbers])
    documents: dict[str, Any] = {
        "lists.json": {"train": rows(4), "test": [row(9)]},
        "only_test.json": {"test": rows(4)},
        "data.json": {"data": rows(4)},
        "array.json": rows(4),
        "tables.json": {
            name: {column: [one[column] for one in rows(count)] for column in ("prompt", "chosen", "rejected")}
            for name, count in (("train", 5), ("test", 2))
        },
        "no_train.json": {"train": [], "test": rows(4)},
        "columns.json": {name: [one[name] for one in rows(4)] for name in ("prompt", "chosen", "rejected")},
    }
    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "split", "hint"),
    [
        ("one.jsonl", "test", "Leave the split out"),
        ("test.jsonl", "validation", "Leave the split out"),
        ("splits", "dev", "It has: test, train."),
        ("splits/*.jsonl", "dev", "It has: test, train."),
        ("alone", "test", "It has: none."),
        ("parts", "test", "It has: none."),
        ("lists.json", "dev", "It has: train, test."),
        ("only_test.json", "train", "It has: test."),
        ("data.json", "dev", "It has: data."),
        ("tables.json", "dev", "It has: train, test."),
        ("array.json", "dev", "Leave the split out"),
        ("columns.json", "dev", "Leave the split out"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(data: Path, name: str, split: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"no split '{split}'") as refused:
        load_pairs(Source(str(data / name), split=split))
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize("name", ["one.jsonl", "subsets", "splits", "subsets/*/train.jsonl"])
def test_a_subset_that_is_not_there_is_refused(data: Path, name: str) -> None:
    with pytest.raises(DataError, match="no subset 'fr'") as refused:
        locate(Source(str(data / name), subset="fr"))
    assert name != "subsets" or refused.value.hint == "Its folders are: de, en."


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [
        ("one.jsonl", "train", 6),
        ("test.jsonl", "test", 6),
        ("test.jsonl", "train", 6),  # the `datasets` library calls any one file train
        ("splits", "test", 3),
        ("splits", None, 6),
        ("splits/*.jsonl", "test", 3),
        ("alone", "train", 6),
        ("folders", "validation", 2),
        ("folders", None, 6),
        ("capitals", "test", 2),
        ("capitals", None, 6),
        ("words", "test", 2),
        ("words", None, 6),
        ("parts", "train", 3),
        ("lists.json", "test", 1),
        ("tables.json", None, 5),
        ("tables.json", "test", 2),
        ("no_train.json", "test", 4),
        ("data.json", "train", 4),
        ("data.json", "data", 4),
        ("array.json", "train", 4),
        ("columns.json", "train", 4),
    ],
)
def test_a_split_that_is_there_is_read(data: Path, name: str, split: str | None, count: int) -> None:
    assert len(load_pairs(Source(str(data / name), split=split)).pairs) == count


def test_an_empty_split_is_not_replaced_by_another(data: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_pairs(Source(str(data / "no_train.json")))


def test_a_subset_is_a_folder_and_default_is_that_of_data_without_any(data: Path) -> None:
    assert len(load_pairs(Source(str(data / "subsets"), subset="de")).pairs) == 4
    assert len(load_pairs(Source(str(data / "one.jsonl"), subset="default")).pairs) == 6
    assert len(load_pairs(Source(str(data / "splits"), subset="default")).pairs) == 6


def test_of_several_the_files_without_splits_are_whole_and_said_to_be(data: Path) -> None:
    both = Source.of([str(data / "splits"), str(data / "one.jsonl")], split="test")
    loaded = load_pairs(both)
    assert len(loaded.pairs) == 9
    assert "one.jsonl has no splits or subsets and is read as a whole" in loaded.notes
    with pytest.raises(DataError, match="no split 'test'"):
        load_pairs(Source.of([str(data / "one.jsonl"), str(data / "alone" / "pairs.jsonl")], split="test"))


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("splits", "splits: train.jsonl (split train) is read; not read: extra.jsonl, test.jsonl (split test)"),
        ("lists.json", "lists.json: train is read; not read: test"),
        ("subsets", "2 files are read as one dataset: de/train.jsonl, en/train.jsonl"),
    ],
)
def test_what_is_read_of_several_is_said_everywhere(data: Path, name: str, note: str) -> None:
    """In New → Data, by inspect, and by train, whose notes go into the receipt."""
    source = Source(str(data / name))
    shown: list[str] = []
    preview_rows(source, 5, shown)
    assert note in shown
    assert note in scan(ScanRequest(source, workers=1), lambda _event: None).notes
    settings = from_values({"model_name": "none", "dataset": source.location})
    assert note in split_of(settings, download=False).notes


def test_evaluation_data_have_the_split_that_was_named_or_are_refused(data: Path) -> None:
    def held_out(**settings: Any) -> int:
        return len(split_of(from_values({"model_name": "none", **settings}), download=False).held_out)

    splits, one = str(data / "splits"), str(data / "one.jsonl")
    assert held_out(dataset=splits, eval_dataset_split="test") == 3
    assert held_out(dataset=one, eval_dataset=splits, eval_dataset_split="test") == 3
    for refused in (
        {"dataset": one, "eval_dataset_split": "test"},
        {"dataset": splits, "eval_dataset": one, "eval_dataset_split": "test"},
        {"dataset": splits, "eval_dataset": splits, "eval_dataset_config": "fr"},
    ):
        with pytest.raises(DataError, match=r"no (split 'test'|subset 'fr')"):
            held_out(**refused)


def test_the_only_file_of_a_folder_is_not_its_evaluation_data_too(data: Path) -> None:
    assert locate_evaluation(Source(str(data / "alone")), None) == []
    assert [file.path.name for file in locate_evaluation(Source(str(data / "splits")), None)] == ["test.jsonl"]


def viewer_document(*, with_numbers: bool, cut: int | None = None) -> dict[str, Any]:
    found = []
    for number in range(5):
        numbers = {"row_idx": number, "truncated_cells": ["chosen"] if number == cut else []} if with_numbers else {}
        found.append({**numbers, "row": row(number)})
    features = [{"feature_idx": 0, "name": "prompt", "type": {"dtype": "string", "_type": "Value"}}]
    return {"dataset": "org/pairs", "config": "default", "split": "train", "features": features, "rows": found}


def test_rows_of_the_hubs_viewer_are_read_as_a_document_and_as_a_list(tmp_path: Path) -> None:
    numbered = viewer_document(with_numbers=True)
    for document in (numbered, {"rows": viewer_document(with_numbers=False)["rows"]}, numbered["rows"]):
        path = tmp_path / "viewer.json"
        path.write_text(json.dumps(document))
        loaded = load_pairs(Source(str(path)))
        assert [pair.chosen[0]["content"] for pair in loaded.pairs] == [row(number)["chosen"] for number in range(5)]
        assert any("the hub's dataset viewer" in note for note in loaded.notes)


def test_a_row_that_the_viewer_has_cut_is_left_out_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "viewer.json"
    path.write_text(json.dumps(viewer_document(with_numbers=True, cut=2)))
    loaded = load_pairs(Source(str(path)))
    assert len(loaded.pairs) == 4
    assert [(problem.row, "cut chosen short" in problem.message) for problem in loaded.dropped] == [(3, True)]


def test_a_link_to_a_folder_elsewhere_is_read_once_and_a_circle_of_links_ends(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    write_lines(elsewhere / "part-0.jsonl", rows(4))
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "2026").symlink_to(elsewhere)
    (linked / "latest").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(linked)
    assert len(load_pairs(Source(str(linked))).pairs) == 4
