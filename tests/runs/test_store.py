"""All runs: make, list, find, remove, sum up."""

import errno
import json
import os
import re
import stat
import threading
import time
from pathlib import Path
from time import gmtime, strftime
from types import SimpleNamespace

import pytest

from dpo_tui.errors import HomeError, RunError, RunNotFoundError
from dpo_tui.runs import run_lock, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import process_start
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import edit_state, fresh_home, make, state_of, supervised  # noqa: F401 - a fixture


@pytest.mark.usefixtures("home")
def test_a_new_run_is_queued_private_and_complete() -> None:
    folder = make("helpful", devices=["gpu:0"], after="20260101-000000-0000")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", folder.id)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    state = state_of(folder)
    assert (state.id, state.name, state.status, state.attempt) == (folder.id, "helpful", "queued", 0)
    assert (state.devices, state.after) == (["gpu:0"], "20260101-000000-0000")
    assert abs(state.created_at - time.time()) < 3600
    assert folder.control.is_dir()
    assert "per_device_train_batch_size" in folder.config.read_text()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are named in /proc")
def test_a_run_has_its_config_and_state_on_the_disk_before_its_name_and_then_the_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be staged: what is asked of the disk, in which order, is what can be looked at."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            name = "draft" if path.name.startswith(".creating-") else path.name
            done.append(f"{name}: {' '.join(sorted(os.listdir(path)))}")
        else:
            assert path.stat().st_size > 0
            done.append(re.sub(r"^\.(.*?)\.\d+\.\d+\.tmp$", r"\1", path.name))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    folder = make("helpful")
    assert done == [
        f"{home.name}: runs",
        f"{home.parent.name}: {home.name}",
        "config.toml",
        "draft: config.toml control",
        "state.json",
        "draft: config.toml control state.json",
        "rename",
        f"runs: {folder.id}",
    ]


@pytest.mark.usefixtures("home")
def test_ids_are_never_taken_twice_and_sort_as_the_runs_were_made() -> None:
    made: list[RunFolder] = []
    threads = [threading.Thread(target=lambda: made.extend(make() for _ in range(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({folder.id for folder in made}) == 40
    listed = store.all_runs()
    assert {folder.id for folder in listed} == {folder.id for folder in made}
    times = [state_of(folder).created_at for folder in listed]
    assert times == sorted(times, reverse=True), "newest first, within the same second too"


def test_a_home_that_cannot_be_written_says_so_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(HomeError, match="cannot make a run under") as refused:
        make()
    assert "DPO_TUI_HOME" in (refused.value.hint or "")
    assert refused.value.exit_code == 2
    with pytest.raises(HomeError, match="cannot read the runs"):
        store.all_runs()


def test_a_home_that_is_not_there_has_no_runs(home: Path) -> None:
    assert store.all_runs() == []
    with pytest.raises(RunNotFoundError, match="no such run: last") as refused:
        store.find("last")
    assert refused.value.exit_code == 3
    assert not home.exists(), "looking makes nothing"


@pytest.mark.usefixtures("home")
def test_a_run_is_found_by_id_prefix_name_and_last() -> None:
    first, second = make("tone"), make("helpful-8b")
    assert store.find(first.id) == first
    assert store.find("tone") == first
    assert store.find("last") == second
    prefix = next(second.id[:n] for n in range(1, 21) if not first.id.startswith(second.id[:n]))
    assert store.find(prefix) == second


@pytest.mark.usefixtures("home")
def test_what_several_runs_share_is_no_name_for_one() -> None:
    first, second = make("same"), make("same")
    for key in ("same", first.id[:4]):
        with pytest.raises(RunNotFoundError, match="2 runs go by") as refused:
            store.find(key)
        assert first.id in refused.value.message and second.id in refused.value.message


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("key", ["helpfull-8b", "../../etc", "", "/", "."])
def test_an_unknown_run_is_told_with_the_nearest_names(key: str) -> None:
    make("helpful-8b")
    with pytest.raises(RunNotFoundError, match="no such run") as refused:
        store.find(key)
    assert refused.value.exit_code == 3
    assert ("Did you mean helpful-8b?" in (refused.value.hint or "")) == (key == "helpfull-8b")


def test_a_removed_run_is_gone_and_others_stay(home: Path) -> None:
    first, second = make(), make()
    (first.path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    edit_state(first, status="failed")
    store.remove(first)
    assert store.all_runs() == [second]
    assert [path.name for path in (home / "runs").iterdir()] == [second.id]
    assert run_lock.owner(first.lock) is None, "its lock goes with it"


def test_removing_a_run_that_is_a_link_to_another_disk_removes_its_files_there(home: Path, tmp_path: Path) -> None:
    moved, kept = make(), make()
    edit_state(moved, status="failed")
    elsewhere = tmp_path / "other-disk" / "moved-run"
    elsewhere.parent.mkdir()
    moved.path.rename(elsewhere)
    moved.path.symlink_to(elsewhere)
    (elsewhere / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    store.remove(moved)
    assert not elsewhere.exists() and elsewhere.parent.is_dir()
    assert [path.name for path in (home / "runs").iterdir()] == [kept.id]


def test_a_leftover_link_to_what_is_no_run_is_removed_and_what_it_leads_to_stays(home: Path, tmp_path: Path) -> None:
    first = make()
    precious = tmp_path / "documents"
    precious.mkdir()
    (precious / "thesis.tex").write_text("…")
    link = first.path.with_name(".removing-20260101-000000-0001")
    link.symlink_to(precious)
    second = make()
    assert not link.is_symlink() and (precious / "thesis.tex").is_file()
    assert {path.name for path in (home / "runs").iterdir()} == {first.id, second.id}


def test_what_a_killed_removal_or_creation_left_is_deleted_when_the_next_run_is_made(home: Path) -> None:
    first = make()
    doomed, abandoned, fresh, foreign = (
        first.path.with_name(name)
        for name in (
            ".removing-20260101-000000-0001",
            ".creating-20260101-000000-0002",
            ".creating-20260101-000000-0003",
            ".removing-notes",
        )
    )
    for folder in (doomed, abandoned, fresh, foreign):
        (folder / "checkpoints").mkdir(parents=True)
    os.utime(abandoned, (time.time() - 7200,) * 2)
    second = make()
    left = {path.name for path in (home / "runs").iterdir()}
    assert left == {first.id, second.id, fresh.name, foreign.name}, "what is being filled, and what is not ours, stays"


@pytest.mark.usefixtures("home")
def test_a_running_run_is_not_removed() -> None:
    folder = make()
    edit_state(folder, status="running", attempt=1)
    with supervised(folder), pytest.raises(RunError, match="is still running") as refused:
        store.remove(folder)
    assert folder.config.exists()
    assert f"dpo-tui stop {folder.id}" in (refused.value.hint or "")


@pytest.mark.usefixtures("home")
def test_a_run_whose_lock_is_held_is_not_removed_though_it_has_ended() -> None:
    """Its supervisor is ending leftover processes, or someone resumes it at this moment."""
    folder = make()
    edit_state(folder, status="done", attempt=1)
    with supervised(folder), pytest.raises(RunError, match="is just being started or ended"):
        store.remove(folder)
    assert folder.config.exists()


@pytest.mark.usefixtures("home")
def test_a_run_that_cannot_be_locked_is_not_removed() -> None:
    folder = make()
    edit_state(folder, status="failed")
    folder.lock.mkdir()
    with pytest.raises(RunError, match=f"cannot remove run {folder.id}: Is a directory"):
        store.remove(folder)
    assert folder.config.exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "Operation not permitted"), FileNotFoundError()])
def test_a_file_that_cannot_be_deleted_is_an_error_and_one_that_is_gone_is_none(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    folder = make()
    edit_state(folder, status="failed")
    (folder.path / "immutable").touch()
    unlink = os.unlink

    def refusing(path: str | Path, **how: int) -> None:
        if isinstance(error, FileNotFoundError) or path != "immutable":
            unlink(path, **how)
        if path == "immutable":
            raise error

    monkeypatch.setattr(os, "unlink", refusing)
    if isinstance(error, FileNotFoundError):
        store.remove(folder)  # another process has deleted the file in between
    else:
        with pytest.raises(RunError, match=f"cannot remove run {folder.id}: Operation not permitted"):
            store.remove(folder)
        assert make("next").config.exists(), "what is left of it is in nobody's way"


def test_an_id_that_is_taken_goes_to_no_second_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of the same 65536th of a second."""
    first = make("first")
    now = state_of(first).created_at
    clock = iter([now, now, now + 0.5])
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: next(clock), strftime=strftime, gmtime=gmtime))
    second = make("second")
    assert second.id != first.id
    assert (state_of(first).name, state_of(second).name) == ("first", "second")
    assert {path.name for path in (home / "runs").iterdir()} == {first.id, second.id}, "no draft stays"


def test_an_id_that_another_process_is_making_a_run_of_is_left_to_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make("first")
    theirs = home / "runs" / f".creating-{first.id}"
    first.path.rename(theirs)
    now = json.loads((theirs / "state.json").read_text())["created_at"]
    clock = iter([now, now, now + 0.5])
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: next(clock), strftime=strftime, gmtime=gmtime))
    assert make("second").config.exists()
    assert json.loads((theirs / "state.json").read_text())["name"] == "first", "their draft is as it was"


@pytest.mark.usefixtures("home")
def test_a_run_whose_worker_outlives_its_supervisor_is_not_removed() -> None:
    folder = make()
    here = os.getpid()
    edit_state(folder, status="running", attempt=1, supervisor_pid=1, worker_pid=here, worker_start=process_start(here))
    assert status_of(folder).status == "lost"
    with pytest.raises(RunError, match="is still running"):
        store.remove(folder)
    assert folder.config.exists()


def test_the_folder_of_runs_is_private(home: Path) -> None:
    """Data, prompts and answers of a person are in it."""
    make()
    assert stat.S_IMODE((home / "runs").stat().st_mode) == 0o700


@pytest.mark.usefixtures("home")
def test_a_run_without_a_result_is_named_with_what_shows_how_it_goes() -> None:
    folder = make()
    with pytest.raises(RunError, match=f"run {folder.id} has no result yet") as refused:
        store.require_result(folder)
    assert f"dpo-tui status {folder.id}" in (refused.value.hint or "")
    folder.adapter.mkdir()
    store.require_result(folder)


@pytest.mark.usefixtures("home")
def test_the_summary_is_flat_and_has_what_scripts_need() -> None:
    folder = make("helpful")
    now = time.time()
    edit_state(folder, status="running", attempt=1, started_at=now - 60, attempt_started_at=now - 60)
    folder.progress.write_text(
        json.dumps({"phase": "train", "done": 5, "total": 20, "unit": "step", "step": 5, "max_steps": 20, "t": now})
    )
    folder.metrics.write_text(
        json.dumps({"t": now - 3, "step": 4, "eval_loss": 0.5})
        + "\n"
        + json.dumps({"t": now, "step": 5, "loss": 0.6, "step_seconds": 2.0})
        + "\n"
    )
    advice = [
        {"t": 1, "kind": "advice", "severity": "warning", "message": "older warning"},
        {"t": 2, "kind": "advice", "severity": "warning", "message": "newer warning"},
        {"t": 3, "kind": "advice", "severity": "info", "message": "newest of all"},
        {"t": 4, "kind": "phase", "severity": "error", "message": "not advice"},
    ]
    folder.events.write_text("".join(json.dumps(event) + "\n" for event in advice))
    with supervised(folder):
        found = store.summary(folder, now=now)
    assert (found["status"], found["name"], found["phase"], found["step"]) == ("running", "helpful", "train", 5)
    assert found["dir"] == str(folder.path)
    assert found["eta_seconds"] == pytest.approx(30.0)
    assert (found["metrics"]["loss"], found["metrics"]["eval_loss"]) == (0.6, 0.5)
    assert found["advice"]["message"] == "newer warning"
    json.dumps(found)


@pytest.mark.usefixtures("home")
def test_the_summary_of_a_run_that_never_spoke_has_the_same_keys() -> None:
    found = store.summary(make())
    assert (found["status"], found["eta_seconds"], found["metrics"], found["advice"]) == ("queued", None, {}, None)
