"""Which split and subset separate evaluation data are read with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.data.changed_data import file_change
from dpo_tui.data.load_split import split_of, training_count
from dpo_tui.data.source import evaluation_source as module
from dpo_tui.data.source.evaluation_source import evaluation_source
from dpo_tui.errors import DataError
from tests.support.data_files import row, write_lines

HUB_SPLITS: dict[str, list[str]] = {
    "org/pairs": ["test", "train"],
    "org/prefs": ["test_prefs", "test_sft", "train_prefs", "train_sft"],
    "org/alone": ["train"],
    "org/nameless": [],
    "org/validated": ["train", "validation"],
    "org/parts": ["part_a", "train"],
}


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that knows the splits above; folders are looked at as they are."""
    of_folders = module.splits_of
    monkeypatch.setattr(
        module, "splits_of", lambda source: HUB_SPLITS.get(source.location) or of_folders_only(of_folders, source)
    )
    yield


def of_folders_only(of_folders: Any, source: Any) -> list[str]:
    return of_folders(source) if Path(source.location).exists() else []


def config(dataset: str | list[str] = "org/pairs", **values: Any) -> Config:
    return from_values({"model_name": "m", "dataset": dataset, **values})


def taken(settings: Config) -> tuple[str, str | None, str | None]:
    found = evaluation_source(settings)
    assert found is not None
    return found.source.location, found.source.subset, found.source.split


def test_without_settings_a_part_of_the_training_data_is_held_out():
    assert evaluation_source(config()) is None


@pytest.mark.parametrize(
    ("dataset", "split", "expected"),
    [
        ("org/pairs", None, "test"),
        ("org/pairs", "test", None),
        ("org/prefs", None, "test_prefs"),
        ("org/prefs", "train_sft", "test_sft"),
        ("org/validated", None, "validation"),
        ("org/validated", "train", "validation"),
        ("org/alone", None, None),
        ("org/nameless", None, None),
    ],
)
def test_the_dataset_itself_is_never_evaluated_on_the_split_that_is_trained_on(dataset, split, expected):
    settings = config(dataset, eval_dataset=dataset, dataset_split=split)
    if expected is None:
        with pytest.raises(DataError, match="no split") as caught:
            evaluation_source(settings)
        assert "eval_split holds" in str(caught.value.hint)
        return
    found = evaluation_source(settings)
    assert found is not None
    assert found.source.split == expected
    assert found.note == f"evaluation: on the split {expected} of {dataset}"


def test_the_subset_of_the_training_data_is_that_of_its_own_location_only():
    training = {"dataset_config": "en", "dataset_split": "train"}
    assert taken(config(eval_dataset="org/pairs", **training)) == ("org/pairs", "en", "test")
    assert taken(config(eval_dataset="org/validated", **training)) == ("org/validated", None, "validation")


def test_the_settings_name_split_and_subset():
    named = {"eval_dataset_config": "de", "eval_dataset_split": "dev"}
    assert taken(config(eval_dataset="org/other", dataset_config="en", **named)) == ("org/other", "de", "dev")
    assert taken(config(eval_dataset_split="test")) == ("org/pairs", None, "test")
    assert taken(config(eval_dataset_config="de", dataset_config="en")) == ("org/pairs", "de", "test")
    several = evaluation_source(
        config(["org/pairs", "org/prefs"], dataset_weights=[0.5, 0.5], eval_dataset_split="test")
    )
    assert several is not None
    assert (several.source.locations, several.source.weights) == (("org/pairs", "org/prefs"), ())


def test_rows_of_other_data_that_has_no_test_split_are_named():
    found = evaluation_source(config(eval_dataset="org/parts"))
    assert found is not None
    assert found.source.split == "train"
    assert "org/parts has no split such as test, so its split train is used" in found.note


def test_asking_for_the_trained_split_is_done_and_said():
    found = evaluation_source(config(eval_dataset="org/pairs", eval_dataset_split="train"))
    assert found is not None
    assert found.source.split == "train"
    assert "rows that are trained on" in found.note


def folder_of_splits(folder: Path) -> Path:
    folder.mkdir()
    write_lines(folder / "train.jsonl", [row(n) for n in range(8)])
    write_lines(folder / "test.jsonl", [row(n) for n in range(20, 23)])
    return folder


@pytest.mark.usefixtures("home")
def test_a_folder_with_splits_is_evaluated_on_its_test_split_and_says_so(tmp_path):
    folder = folder_of_splits(tmp_path / "data")
    for settings in ({"eval_dataset": str(folder)}, {"eval_dataset_split": "test"}):
        split = split_of(config(str(folder), **settings), download=False)
        assert (len(split.train), len(split.held_out), split.leaked) == (8, 3, 0)
    split = split_of(config(str(folder), eval_dataset=str(folder)), download=False)
    assert f"evaluation: on the split test of {folder}" in split.notes
    assert training_count(config(str(folder), eval_dataset_split="test"), 8) == 8


@pytest.mark.usefixtures("home")
def test_another_file_is_read_whatever_split_is_trained_on(tmp_path):
    (tmp_path / "data").mkdir()
    folder_of_splits(tmp_path / "data" / "none")
    folder = tmp_path / "data"
    other = write_lines(tmp_path / "other.jsonl", [row(n) for n in range(40, 44)])
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({"train": [row(1)], "dev": [row(51), row(52)]}))
    settings = {"dataset_split": "test", "dataset_config": "none"}
    assert len(split_of(config(str(folder), eval_dataset=str(other), **settings), download=False).held_out) == 4
    by_name = config(str(folder), eval_dataset=str(lists), eval_dataset_split="dev", **settings)
    assert len(split_of(by_name, download=False).held_out) == 2


@pytest.mark.usefixtures("home")
def test_the_same_file_for_both_is_said(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", [row(n) for n in range(8)])
    split = split_of(config(str(path), eval_dataset=str(path)), download=False)
    assert any("rows that are trained on" in note for note in split.notes)


def test_data_that_stayed_as_it_was_has_not_changed_where_the_split_was_chosen(tmp_path):
    folder = folder_of_splits(tmp_path / "data")
    settings = config(str(folder), eval_dataset=str(folder))
    split = split_of(settings, download=False)
    receipt = {"data": {"sha256": split.sha256, "held_out_sha256": split.held_out_sha256}}
    assert file_change(receipt, settings) is None
    write_lines(folder / "test.jsonl", [row(99)])
    change = file_change(receipt, settings)
    assert change is not None
    assert change.location == str(folder)
