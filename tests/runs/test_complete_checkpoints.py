"""Which checkpoint is resumed from: the newest with a marker whose files all have their sizes."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, is_complete, newest_complete


def checkpoint(folder: Path, step: int | str, *, marker: Any = None) -> Path:
    """A checkpoint with one file of five bytes; its marker lists that, unless it is given."""
    path = folder / f"checkpoint-{step}"
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "weights").write_bytes(b"12345")
    (path / MARKER).write_text(json.dumps({"files": {"sub/weights": 5}} if marker is None else marker))
    return path


def test_the_newest_is_that_of_the_highest_step_and_not_of_the_last_name(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "notes").mkdir()
    assert [path.name for path in all_checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-20", "checkpoint-9"]
    assert newest_complete(tmp_path) == (tmp_path / "checkpoint-100", [])
    assert newest_complete(tmp_path / "none") == (None, [])


def test_newer_ones_that_are_incomplete_are_passed_over_and_named(tmp_path: Path) -> None:
    whole, older = checkpoint(tmp_path, 5), checkpoint(tmp_path, 3)
    unmarked, cut, gone = (checkpoint(tmp_path, step) for step in (6, 7, 8))
    (unmarked / MARKER).unlink()
    (cut / "sub" / "weights").write_bytes(b"1234")
    (gone / "sub" / "weights").unlink()
    (older / MARKER).unlink()
    assert newest_complete(tmp_path) == (whole, [gone, cut, unmarked])
    (whole / MARKER).unlink()
    assert newest_complete(tmp_path) == (None, [gone, cut, unmarked, whole, older])


@pytest.mark.parametrize("marker", [[], {}, {"files": ["sub/weights"]}, {"files": {"sub/weights": -1}}])
def test_a_marker_that_lists_no_sizes_is_none(tmp_path: Path, marker: Any) -> None:
    assert not is_complete(checkpoint(tmp_path, 1, marker=marker))


def test_what_a_marker_does_not_list_is_of_no_account(tmp_path: Path) -> None:
    """Trackers and people put files there."""
    found = checkpoint(tmp_path, 1)
    (found / "notes.txt").write_text("good one")
    assert is_complete(found)
