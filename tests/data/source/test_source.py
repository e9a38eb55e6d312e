"""Which files of a folder or repository hold rows."""

from pathlib import PurePosixPath

import pytest

from dpo_tui.data.source.source import is_data_file


@pytest.mark.parametrize(
    "name", ["train.jsonl", "data/test-00000-of-00001.parquet", "a.b.csv", "Train.JSON", "x.tsv.zst"]
)
def test_data_files_are_known_by_their_suffix(name: str) -> None:
    assert is_data_file(PurePosixPath(name))


@pytest.mark.parametrize(
    "name", ["README.md", "rows.gz", "jsonl", ".hidden.jsonl", ".cache/x.json", "train/state.json", "dataset_info.json"]
)
def test_other_files_hidden_files_and_metadata_are_not_read(name: str) -> None:
    assert not is_data_file(PurePosixPath(name))
