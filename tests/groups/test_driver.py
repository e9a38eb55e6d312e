"""Sweeps on stand-in GPUs with real drivers, supervisors and processes: who runs when, and what survives whom."""

import contextlib
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.groups.group_state import read_group_state
from dpo_tui.groups.group_status import group_status
from dpo_tui.runs import store
from dpo_tui.runs.process import is_same_process
from tests.support.nvml_standin import compiler
from tests.support.repository import ROOT
from tests.support.supervised_runs import ended, fresh_home, go, holding, state_of, until  # noqa: F401 - a fixture
from tests.support.sweep_worker import HELD
from tests.support.sweeps import Box, box, counted, kill_driver, kill_drivers, over
from tests.support.tiny import make_pairs

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library")
DEMO = ROOT / "dpo_tui" / "demo"
TWELVE = ("--sweep", "beta=0.05,0.1,0.2,0.3", "--sweep", "learning_rate=1e-6,5e-6,2e-6")


@pytest.fixture
def four(tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path) -> Iterator[Box]:
    yield box(tmp_path, home, "h100x4-idle", tiny_model, tiny_pairs)
    kill_drivers()


@pytest.fixture
def two(tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path) -> Iterator[Box]:
    yield box(tmp_path, home, "h100x2-idle", tiny_model, tiny_pairs)
    kill_drivers()


def test_twelve_runs_use_all_four_gpus_and_a_failed_one_makes_the_command_exit_with_1(four: Box) -> None:
    four.hold()
    values = ("--sweep", "learning_rate=1e-6,1.5e-6,2e-6,2.5e-6,3e-6,3.5e-6,4e-6,4.5e-6,5e-6,5.5e-6,6e-6,9e-6")
    command = four.start("train", str(four.folder / "c.toml"), *values, "--yes")
    group = until(lambda: next(iter(_groups()), None), "the group")
    status = counted(group, running=4, queued=1)
    running = [one.run for one in status.members if one.status == "running" and one.run]
    assert sorted(device for run in running for device in state_of(run).devices) == [f"gpu:{n}" for n in range(4)]
    (waiting,) = [one.run for one in status.members if one.status == "queued" and one.run]
    assert "waits for any free GPU of 4" in state_of(waiting).reason
    four.release()
    out, err = command.communicate(timeout=120)
    assert command.returncode == 1, err
    assert out.split() == [group.id]
    assert "the rate is cursed" in err and "11 done" in err and "1 failed" in err
    assert err.index("12 runs") < err.index("any free GPU of 4, 4 at a time") < err.index("is done")
    states = [state_of(run) for run in store.all_runs()]
    assert len(states) == 12 and {device for state in states for device in state.devices} == {
        f"gpu:{n}" for n in range(4)
    }
    assert sorted(state.name for state in states) == sorted(f"tiny-{number}" for number in range(1, 13))
    assert {(state.group or {})["id"] for state in states} == {group.id}
    assert (state_of(running[0]).group or {})["values"] == {"learning_rate": 1e-6}
    code, listed, _ = four.run("runs")
    assert code == 0 and listed.splitlines()[1].startswith("✗ failed") and group.id in listed.splitlines()[1]
    assert len(listed.splitlines()) == 14


def test_on_two_gpus_two_run_side_by_side_and_a_third_waits_for_the_first_free_one(two: Box) -> None:
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2")
    status = counted(group, running=2, queued=1)
    first, second, third = (one.run for one in status.members)
    assert first and second and third
    for run in (first, second):
        holding(run, HELD)
    assert {*state_of(first).devices, *state_of(second).devices} == {"gpu:0", "gpu:1"}
    go(second)
    ended(second)
    holding(third, HELD)
    assert state_of(third).devices == state_of(second).devices
    two.release()
    assert over(group).status == "done"


@pytest.mark.slow
def test_at_most_is_kept_and_what_waits_is_not_in_the_queue(four: Box) -> None:
    four.hold()
    group = four.sweep(*TWELVE, "--at-most", "2")
    status = counted(group, running=2)
    assert (status.counts["planned"], len(store.all_runs())) == (10, 2)
    four.release()
    assert over(group).counts == {"done": 12}


def test_without_a_gpu_one_runs_at_a_time(tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    here = box(tmp_path, home, "no-gpu", tiny_model, tiny_pairs)
    group = here.sweep("--sweep", "beta=0.05,0.1")
    assert over(group).status == "done"
    first, second = (state_of(run) for run in group_status(group).runs)
    assert (first.ended_at or 0) <= (second.started_at or 0)


def test_a_killed_driver_is_resumed_without_doing_anything_twice(two: Box) -> None:
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2,0.3,0.4")
    status = counted(group, running=2, queued=1)
    first = status.members[0].run
    assert first
    kill_driver(group)
    lost = group_status(group)
    assert lost.status == "lost" and "was killed; its runs go on" in lost.reason
    go(first)
    assert ended(first).status == "done", "a run does not need the driver"
    counted(group, running=2, planned=2)
    # A driver that is killed after it made a run and before it wrote that down: the run's own state says whose it is.
    state = json.loads(group.state.read_text())
    del state["runs"]["3"]
    group.state.write_text(json.dumps(state))
    code, _, err = two.run("resume", group.id, "--detach")
    assert code == 0, err
    two.release()
    assert over(group).counts == {"done": 5}
    assert len(store.all_runs()) == 5 and {state_of(run).attempt for run in store.all_runs()} == {1}
    code, _, err = two.run("resume", group.id)
    assert code == 1 and "nothing left to resume" in err


def test_a_driver_whose_lock_was_deleted_ends_and_another_does_nothing_twice(two: Box) -> None:
    """Another driver can start the same runs. `rm -rf` leaves a folder that is written meanwhile, without its lock."""
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2,0.3,0.4")
    counted(group, running=2, queued=1)
    first = read_group_state(group)
    group.lock.unlink()
    until(lambda: not is_same_process(first.driver_pid, first.driver_start), "the driver to end")
    assert group_status(group).status == "lost"
    assert "its lock was deleted" in group.driver_output.read_text()
    counted(group, running=2)
    code, _, err = two.run("resume", group.id, "--detach")
    assert code == 0, err
    two.release()
    assert over(group).counts == {"done": 5}
    assert len(store.all_runs()) == 5 and {state_of(run).attempt for run in store.all_runs()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("put_back", [False, True])
def test_a_driver_whose_folder_was_deleted_ends_and_leaves_nothing_there(two: Box, *, put_back: bool) -> None:
    """Or put back from a copy, as a backup is: what is in it now, the next driver goes on with."""
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2")
    counted(group, running=2, queued=1)
    first = read_group_state(group)
    copy = group.path.with_name("a copy of it")
    shutil.copytree(group.path, copy)
    shutil.rmtree(group.path)
    if put_back:
        copy.rename(group.path)
    until(lambda: not is_same_process(first.driver_pid, first.driver_start), "the driver to end")
    if put_back:
        assert group_status(group).status == "lost"
        assert read_group_state(group) == first
    else:
        assert not group.path.exists()
        copy.rename(group.path)
    assert two.run("resume", group.id, "--detach")[0] == 0
    two.release()
    assert over(group).counts == {"done": 3}
    assert len(store.all_runs()) == 3 and {state_of(run).attempt for run in store.all_runs()} == {1}


@pytest.mark.slow
def test_after_a_reboot_lost_runs_go_on_from_their_checkpoints(two: Box) -> None:
    """All supervisors and the driver are killed at once."""
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2")
    status = counted(group, running=2, queued=1)
    kill_driver(group)
    for run in status.runs:
        with contextlib.suppress(OSError):
            _kill(state_of(run).supervisor_pid)
    until(lambda: group_status(group).counts["lost"] == 3, "the runs to be lost")
    two.release()
    assert two.run("resume", group.id, "--detach")[0] == 0
    assert over(group).counts == {"done": 3}
    assert len(store.all_runs()) == 3


def test_a_stopped_group_starts_nothing_more_and_goes_on_when_it_is_resumed(two: Box) -> None:
    two.hold()
    command = two.start("train", str(two.folder / "c.toml"), "--sweep", "beta=0.05,0.1,0.2,0.3", "--yes")
    group = until(lambda: next(iter(_groups()), None), "the group")
    for one in counted(group, running=2, queued=1).members[:2]:
        assert one.run
        holding(one.run, HELD)
    assert two.run("stop", "tiny")[0] == 0
    command.communicate(timeout=60)
    assert command.returncode == 130
    stopped = over(group)
    assert (stopped.status, dict(stopped.counts)) == ("stopped", {"stopped": 3, "planned": 1})
    two.release()
    code, out, err = two.run("resume", group.id, "--detach")
    assert code == 0 and out.split() == [group.id], err
    assert over(group).counts == {"done": 4}
    assert [state_of(run).attempt for run in group_status(group).runs] == [2, 2, 1, 1]


@pytest.mark.slow
def test_interrupting_the_command_stops_the_group(two: Box) -> None:
    two.hold()
    command = two.start("train", str(two.folder / "c.toml"), "--sweep", "beta=0.05,0.1", "--yes")
    group = until(lambda: next(iter(_groups()), None), "the group")
    for one in counted(group, running=2).members:
        assert one.run
        holding(one.run, HELD)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130 and "its runs save a checkpoint" in err
    assert over(group).counts == {"stopped": 2}


def test_a_paused_group_starts_no_run_until_it_is_unpaused(two: Box) -> None:
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2,0.3")
    counted(group, running=2, queued=1)
    assert two.run("queue", "pause", "tiny")[0] == 0
    two.release()
    paused = counted(group, done=2)
    assert (paused.counts["queued"], paused.counts["planned"]) == (1, 1)
    until(lambda: "queue unpause" in group_status(group).reason, "the reason")
    assert two.run("queue", "unpause", "tiny")[0] == 0
    assert over(group).counts == {"done": 4}


@pytest.mark.slow
def test_a_group_that_is_dropped_from_the_queue_puts_nothing_in_its_place(two: Box) -> None:
    two.hold()
    group = two.sweep("--sweep", "beta=0.05,0.1,0.2,0.3")
    counted(group, running=2, queued=1)
    code, _, err = two.run("queue", "drop", "tiny")
    assert code == 0 and "starts no other run before" in err
    two.release()
    counted(group, done=2, stopped=1)
    assert "No run of group" in two.run("queue", "up", "tiny")[2]
    assert group_status(group).counts["planned"] == 1
    assert two.run("queue", "unpause", "tiny")[0] == 0
    assert over(group).counts == {"done": 3, "stopped": 1}
    assert f"dpo-tui resume {group.id}" in two.run("status", "tiny")[1], "what was dropped can still be trained"


def test_runs_that_are_clearly_behind_are_stopped_with_the_reason_in_their_state(four: Box) -> None:
    four.hold()
    group = four.sweep("--sweep", "beta=0.05,0.06,0.4,0.5", "--early-stop-worst")
    counted(group, running=2, behind=2)
    four.release()
    status = over(group)
    assert [("behind" if one.behind else one.status) for one in status.members] == ["done", "done", "behind", "behind"]
    assert (status.status, status.reason) == ("done", "2 stopped as clearly behind")
    last = status.members[3].run
    assert last and state_of(last).status == "stopped"
    reason = state_of(last).reason
    assert "clearly behind (--early-stop-worst): held-out accuracy 0.45 at step 2, where tiny-1 had 0.90" in reason
    assert "on 400 pairs" in reason
    assert four.run("resume", group.id)[0] == 1, "those behind are not resumed"


def test_a_group_is_ranked_listed_and_deleted_with_its_runs(two: Box) -> None:
    group = two.sweep("--sweep", "beta=0.05,0.06,0.4")
    over(group)
    code, out, _ = two.run("compare", "tiny", "--json")
    ranking = json.loads(out)
    assert [(one["name"], one["accuracy"], one["verdict"]) for one in ranking["runs"]] == [
        ("tiny-1", 0.9, "best"),
        ("tiny-2", 0.89, "within chance"),
        ("tiny-3", 0.55, "behind"),
    ]
    assert ranking["runs"][0]["low"] == pytest.approx(0.867, abs=0.001) and ranking["runs"][0]["kl"] == 1.5
    code, out, _ = two.run("compare", "tiny")
    assert code == 0 and "Within chance of tiny-1: tiny-2. Which of them is best is not known." in out
    assert all(len(line) <= 120 for line in out.splitlines()[:4])
    code, out, _ = two.run("status", "tiny", "--json")
    assert json.loads(out)["counts"] == {"done": 3} and json.loads(out)["members"][2]["values"] == {"beta": 0.4}
    code, _, err = two.run("logs", "tiny")
    assert code == 3 and "is a group of runs" in err and group_status(group).runs[-1].id in err
    assert two.run("rm", "tiny")[0] == 2, "there is no terminal to ask"
    assert two.run("rm", "-y", "tiny")[0] == 0
    assert (store.all_runs(), _groups()) == ([], [])


@pytest.mark.slow
def test_a_run_is_started_no_earlier_than_asked(two: Box) -> None:
    group = two.sweep("--sweep", "beta=0.05,0.1", "--after", "1h")
    until(lambda: "starts no run before" in group_status(group).reason, "the reason")
    assert group_status(group).counts == {"planned": 2}
    assert two.run("stop", group.id)[0] == 0
    assert over(group).status == "stopped"


def _groups() -> list[object]:
    from dpo_tui.groups.group_store import all_groups

    return list(all_groups())


def _kill(pid: int | None) -> None:
    import os

    assert pid
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_real_sweep_tokenises_and_scores_the_reference_once(
    tmp_path: Path, home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real training: the second and the third run find tokens and reference scores of the first."""
    pairs = make_pairs(tmp_path / "many.jsonl", 1000)
    here = box(tmp_path, home, "no-gpu", tiny_model, pairs, max_steps=2, eval_split=0.5, per_device_train_batch_size=4)
    here.environment["PYTHONPATH"] = str(ROOT)  # the real worker
    group = here.sweep("--sweep", "beta=0.05,0.1", "--sweep", "learning_rate=1e-6,5e-6", "--random", "3")
    monkeypatch.setattr("tests.support.supervised_runs.PATIENCE", 400.0)
    assert over(group).counts == {"done": 3}
    receipts = [json.loads(run.receipt.read_text()) for run in group_status(group).runs]
    kept = [one["shortcuts"]["reference_once"]["kept_from_before"] for one in receipts]
    assert kept == [{"train": False, "eval": False}, *[{"train": True, "eval": True}] * 2]
    assert len(list((home / "cache" / "tokens").glob("[!.]*"))) == 2, "rows to train on and held-out rows, once each"


@pytest.mark.slow
def test_a_real_run_that_learns_nothing_is_stopped_early_and_stays_so(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real training of the demo: at a rate of 1e-8 its accuracy stays where chance has it."""
    settings = {"max_steps": 32, "eval_steps": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    settings |= {"eval_split": 0, "eval_dataset": json.dumps(str(DEMO / "heldout.jsonl")), "beta": 0.5}
    settings |= {"bf16": "false", "gradient_checkpointing": "false"}
    here = box(tmp_path, home, "no-gpu", DEMO / "model", DEMO / "pairs.jsonl", **settings)
    here.environment["PYTHONPATH"] = str(ROOT)  # the real worker
    monkeypatch.setattr("tests.support.supervised_runs.PATIENCE", 600.0)
    group = here.sweep("--sweep", "learning_rate=1e-3,1e-8", "--early-stop-worst")
    status = over(group)
    assert (status.status, status.reason) == ("done", "1 stopped as clearly behind")
    first, second = status.members
    assert (first.status, second.status, second.behind) == ("done", "stopped", True) and second.run
    words = r"clearly behind \(--early-stop-worst\): held-out accuracy 0\.\d\d at step \d+, where tiny-1 had 0\.\d\d"
    assert re.search(rf"{words} at step \d+, on \d\d pairs; checkpoint-\d+ is saved", state_of(second.run).reason)
    _, out, _ = here.run("compare", "tiny")
    assert "Not trained to the end, with the figures of the last evaluation: tiny-2 (behind)." in out
    assert here.run("resume", "tiny")[0] == 1 and state_of(second.run).attempt == 1
