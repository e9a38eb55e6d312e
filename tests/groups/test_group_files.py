"""What an edited file of a group can do: nothing to runs and folders that are not the group's."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import HomeError
from dpo_tui.groups.driven_store import create_folder
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupMember, GroupPlan
from dpo_tui.groups.group_status import group_status
from dpo_tui.groups.group_store import create_group
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support.command_line import CommandLine, command_line
from tests.support.supervised_runs import edit_state

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def dpo_tui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


def ended_group(**runs: str) -> tuple[GroupFolder, RunFolder]:
    """A group with two members, of which the first one's run is done."""
    folder = create_group(GroupPlan("", "g", members=(GroupMember(1, "g-1", {}), GroupMember(2, "g-2", {}))), ["", ""])
    own = store.create("", name="g-1", devices=[], group={"id": folder.id, "kind": "sweep", "member": 1, "values": {}})
    edit_state(own, status="done")
    _record(folder, {"1": own.id} | runs)
    return folder, own


def _record(folder: GroupFolder, runs: dict[str, Any]) -> None:
    folder.state.write_text(json.dumps({"status": "done", "driver_pid": 1, "runs": runs}))


def test_a_group_is_deleted_with_its_own_runs_and_no_run_that_its_file_names_besides(dpo_tui: CommandLine) -> None:
    folder, own = ended_group()
    other = store.create("", name="precious", devices=[])
    edit_state(other, status="done")
    of_another_place = store.create("", name="x", devices=[], group={"id": folder.id, "member": 3})
    edit_state(of_another_place, status="done")
    for wrong in (other, of_another_place):
        _record(folder, {"1": own.id, "2": wrong.id})
        second = group_status(folder).members[1]
        assert (second.status, second.run) == ("planned", None)
        assert wrong.id in second.reason and "not of this group" in second.reason
    assert dpo_tui("rm", "-y", folder.id)[0] == 0
    assert not folder.path.exists() and not own.path.exists()
    assert other.path.is_dir() and of_another_place.path.is_dir()


@pytest.mark.parametrize("named", ["absolute", "../elsewhere", "."])
def test_a_folder_elsewhere_is_never_taken_for_a_run(tmp_path: Path, dpo_tui: CommandLine, named: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").touch()
    folder, own = ended_group()
    _record(folder, {"1": own.id, "2": str(elsewhere) if named == "absolute" else named})
    dpo_tui("rm", "-y", folder.id)
    assert (elsewhere / "thesis.tex").exists() and store.all_runs() == [own]


def test_what_a_killed_command_left_of_a_group_is_deleted_with_the_next_one(dpo_tui: CommandLine) -> None:
    folder, _ = ended_group()
    home = folder.path.parent
    names = (".removing-20260101-000000-0001", ".creating-20260101-000000-0002", ".creating-20260101-000000-0003")
    doomed, abandoned, fresh = (home / name for name in names)
    for left in (doomed, abandoned, fresh):
        (left / "control").mkdir(parents=True)
    os.utime(abandoned, (time.time() - 7200,) * 2)
    other, _ = ended_group()
    assert {path.name for path in home.iterdir()} == {folder.id, other.id, fresh.name}
    doomed.mkdir()
    assert dpo_tui("rm", "-y", other.id)[0] == 0
    assert {path.name for path in home.iterdir()} == {folder.id, fresh.name}


def test_a_group_that_cannot_be_filled_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path, name: str, now: float) -> None:
        (folder / "config.toml").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(HomeError, match="No space left"):
        create_folder(tmp_path / "groups", "a group", fill, ())
    assert list((tmp_path / "groups").iterdir()) == []


def test_a_group_that_is_a_link_to_another_disk_is_removed_with_its_files_there(
    tmp_path: Path, dpo_tui: CommandLine
) -> None:
    folder, _ = ended_group()
    elsewhere = tmp_path / "other-disk" / "moved"
    elsewhere.parent.mkdir()
    folder.path.rename(elsewhere)
    folder.path.symlink_to(elsewhere)
    assert dpo_tui("rm", "-y", folder.id)[0] == 0
    assert not elsewhere.exists() and list(folder.path.parent.iterdir()) == []


def test_a_named_pipe_in_place_of_any_file_holds_up_no_list() -> None:
    folder, own = ended_group()
    for path in (
        folder.plan,
        folder.state,
        folder.lock,
        own.state,
        own.metrics,
        own.progress,
        own.given_name,
        own.lock,
    ):
        kept = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        listed = subprocess.run(
            [sys.executable, "-c", "from dpo_tui.cli import main; main()", "runs"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (listed.returncode, listed.stderr) == (0, ""), path.name
        assert folder.id in listed.stdout and own.id in listed.stdout
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
