"""An improvement is deleted with the groups and runs of its rounds, and not in part while something of it runs."""

import json
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_store import all_improvements
from dpo_tui.improve.remove_improvement import remove_improvement_with_runs
from dpo_tui.runs import run_lock, store
from tests.support.command_line import command_line
from tests.support.improvements import round_group, staged


def test_nothing_is_deleted_while_a_training_runs_and_all_of_it_afterwards(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=2)
    stage.drive()
    groups = [
        round_group(stage.folder, number, json.loads(stage.folder.round(number).result.read_text())["run"])
        for number in (1, 2)
    ]
    assert run_lock.acquire(groups[1].lock)  # as by the driver of its training, which outlives its own
    with pytest.raises(RunError, match=f"its training is still running: group {groups[1].id}"):
        remove_improvement_with_runs(stage.folder)
    assert len(store.all_runs()) == 2 and all(group.path.is_dir() for group in groups) and all_improvements()
    run_lock.release(groups[1].lock)
    assert remove_improvement_with_runs(stage.folder) == 2
    assert not store.all_runs() and not any(group.path.exists() for group in groups) and not all_improvements()


def test_rm_deletes_it_with_its_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.drive()
    round_group(stage.folder, 1, json.loads(stage.folder.round(1).result.read_text())["run"])
    code, _, err = command_line(monkeypatch, capsys)("rm", "--yes", stage.folder.id)
    assert code == 0 and f"Deleted improvement {stage.folder.id} and its 1 runs." in err
    assert not store.all_runs() and not all_improvements()
