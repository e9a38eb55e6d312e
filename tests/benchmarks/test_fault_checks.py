"""The checkers of the campaign of faults: each catches a planted violation, and says nothing where all is well."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_kinds import checks, plan, table
from benchmarks.fault_kinds.all_kinds import KINDS
from benchmarks.fault_kinds.processes import Process, end_all, processes_of
from benchmarks.fault_kinds.stage import digests, lock_owner
from dpo_tui.runs.folder import RunFolder
from tests.support.repository import ROOT
from tests.support.supervised_runs import supervised

ALIVE = {"supervisor": True, "worker": True, "last_step": 5, "steps": 12, "has_result": False}
GONE = {**ALIVE, "supervisor": False, "worker": False}
WHOLE = {**GONE, "last_step": 12, "has_result": True}


@pytest.mark.parametrize(
    ("status", "seen", "wrong"),
    [
        ("running", ALIVE, ""),
        ("starting", {**ALIVE, "worker": False}, ""),
        ("done", WHOLE, ""),
        ("lost", {**GONE, "worker": True}, ""),
        ("running", {**ALIVE, "worker": False}, "no worker lives"),
        ("stopping", GONE, "none of its processes lives"),
        ("queued", GONE, "none of its processes lives"),
        ("done", {**WHOLE, "last_step": 11}, "done at step 11 of 12"),
        ("done", {**WHOLE, "last_step": 13}, "done at step 13 of 12"),
        ("done", {**WHOLE, "has_result": False}, "without a whole result"),
        ("lost", {**GONE, "supervisor": True}, "its supervisor lives"),
        ("failed", {**GONE, "worker": True}, "its worker lives"),
        ("asleep", GONE, "is no status"),
    ],
)
def test_a_status_that_is_not_true_is_found(status: str, seen: dict[str, Any], wrong: str) -> None:
    found = checks.status_is_true({"status": status, "reason": ""}, **seen)
    assert [wrong in one for one in found] == [True] * bool(wrong)


def test_a_status_or_a_reason_other_than_the_faults_is_found() -> None:
    status = {"status": "failed", "reason": "its disk is full (ENOSPC)"}
    assert checks.status_is_one_of(status, ["failed", "lost"]) == []
    assert checks.status_is_one_of(status, ["done"])
    assert checks.reason_names_cause(status, ["enospc", "quota"]) == []
    assert checks.reason_names_cause(status, ["quota"])


def test_lost_and_missing_metrics_are_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n{"step": 3, "lo')
    lines = checks.whole_lines(path)
    assert checks.steps_in(lines) == [1, 2]
    assert checks.no_line_lost(lines, [*lines, b'{"step": 3, "loss": 0.5}']) == []
    assert checks.no_line_lost(lines, lines[1:])
    assert checks.no_line_lost(lines, lines[::-1]), "in another order"
    assert checks.every_step_has_a_line(lines, 2) == []
    assert checks.every_step_has_a_line(lines, 3) == ["metrics: no line of the steps [3]"]
    assert checks.every_step_has_a_line(lines, 1) == ["metrics: lines of the steps [2], beyond the last, 1"]


def test_a_resume_from_another_step_is_found(tmp_path: Path) -> None:
    for step, size in ((3, 5), (6, 5), (9, 4)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"12345")
        (folder / "complete.json").write_text(json.dumps({"files": {"optimizer.pt": size}}))
    (tmp_path / "checkpoint-12").mkdir()
    assert checks.whole_checkpoints(tmp_path) == [3, 6]
    said = "Run x goes on from checkpoint-6."
    assert checks.resumed_from(said, 6, [6]) == []
    assert checks.resumed_from("Run x never reached a checkpoint.", 0, [0]) == []
    assert checks.resumed_from(said, 3, [3]), "it named another one"
    assert checks.resumed_from(said, 6, [3]), "it went on from another one"


def test_losses_that_differ_from_an_undisturbed_runs_are_found() -> None:
    undisturbed = {1: 0.7, 2: 0.6}
    assert checks.same_losses(undisturbed, {1: [0.7], 2: [0.6, 0.6000001]}) == []
    assert checks.same_losses(undisturbed, {1: [0.7], 2: [0.6, 0.61]})
    assert checks.same_losses({}, {1: [0.7]}), "nothing to compare with must not pass"


def test_a_process_that_lives_on_is_found(tmp_path: Path) -> None:
    """Whatever its command is: by the home in its environment."""
    environment = {**os.environ, "DPO_TUI_HOME": str(tmp_path)}
    orphan = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (found := processes_of(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [one.pid for one in found] == [orphan.pid]
        assert checks.no_processes(found)
        assert checks.no_processes([]) == []
        end_all(tmp_path)
        assert orphan.wait(60) == -9
        assert processes_of(tmp_path) == []
    finally:
        orphan.kill()
        orphan.wait()


def test_a_supervisor_that_failed_by_an_exception_is_found() -> None:
    assert checks.supervisor_is_calm("2026-01-01 00:00:00 cannot write in x, will try again: [Errno 28]") == []
    assert checks.supervisor_is_calm("Traceback (most recent call last):\n  …\nKeyError: 'x'") == [
        "supervisor: KeyError: 'x'"
    ]


def test_a_supervisor_is_told_from_a_worker() -> None:
    worker = "python -P -m dpo_tui.train /home/runs/20260101-000000-0000"
    supervisor = Process(2, 1, f"python -P -m dpo_tui.runs.supervisor /home/runs/20260101-000000-0000 -- {worker}")
    assert supervisor.is_supervisor and not supervisor.is_worker
    assert Process(3, 1, worker).is_worker and not Process(3, 1, worker).is_supervisor
    assert supervisor.belongs_to(Path("/home/runs/20260101-000000-0000"))
    assert not supervisor.belongs_to(Path("/home/runs/20260101-000000-0001"))


@pytest.mark.parametrize(
    "left",
    [
        "runs/.creating-20260101-000000-0000/",
        "runs/.removing-20260101-000000-0000/",
        "runs/something",
        "runs/20260101-000000-0000/.state.json.5.6.tmp",
        "cache/.part.tmp",
    ],
)
def test_what_is_left_behind_is_found(tmp_path: Path, left: str) -> None:
    run = tmp_path / "runs" / "20260101-000000-0000"
    run.mkdir(parents=True)
    (run.parent / ".turn.lock").touch()
    assert checks.nothing_left_behind(tmp_path) == []
    path = tmp_path / left
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if left.endswith("/") else path.touch()
    assert len(checks.nothing_left_behind(tmp_path)) == 1


def test_requests_and_locks_that_are_left_are_found(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.control.mkdir()
    assert checks.requests_are_gone(tmp_path) == []
    (folder.control / "stop").touch()
    assert checks.requests_are_gone(tmp_path)
    assert checks.lock_is_free(lock_owner(folder.lock)) == []
    with supervised(folder):
        assert checks.lock_is_free(lock_owner(folder.lock))
    assert checks.lock_is_free(lock_owner(folder.lock)) == []


def test_harm_to_another_run_is_found(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    before = digests(tmp_path)
    assert checks.others_are_unharmed(before, digests(tmp_path)) == []
    (tmp_path / "state.json").write_text("{ }")
    (tmp_path / "stop").touch()
    assert len(checks.others_are_unharmed(before, digests(tmp_path))) == 2
    listing = json.dumps([{"id": "a", "status": "done"}])
    assert checks.is_listed(listing, "a", "done") == []
    wrong = (("a", "lost"), ("b", "done"))
    assert all(len(checks.is_listed(listing, *one)) == 1 for one in wrong)
    assert checks.is_listed("x", "a", "done")


@pytest.mark.parametrize(
    ("code", "text", "wrong"),
    [
        (0, "fine: β, ● and a line feed\n\tand a tab", ""),
        (1, "error: in words", ""),
        (None, "", "hung"),
        (4, "", "ended with 4"),
        (-11, "", "ended with -11"),
        (1, "Traceback (most recent call last):\n  …\nKeyError: 'x'", "traceback: \"KeyError: 'x'\""),
        (0, "name \x1b[31m", "raw"),
        (0, "name \x9b31m", "raw"),
        (0, "name \u202e", "raw"),
        (0, "name \u200b", "raw"),
        (0, "name \r", "raw"),
    ],
)
def test_a_command_that_ends_or_prints_as_none_may_is_found(code: int | None, text: str, wrong: str) -> None:
    found = checks.output_is_clean("status", code, text)
    assert [wrong in one for one in found] == [True] * bool(wrong)


def test_a_log_may_quote_the_traceback_of_a_worker_but_no_control_characters() -> None:
    text = "Traceback (most recent call last):\nKeyError"
    assert checks.output_is_clean("logs", 0, text, quotes=True) == []
    assert checks.output_is_clean("logs", 0, f"\x1b{text}", quotes=True)


def test_a_campaign_is_large_and_mixed_enough_and_each_fault_keeps_its_name() -> None:
    counts = {kind.name: kind.times for kind in KINDS.values()}
    total = sum(counts.values())
    assert total >= 1000 and len(counts) >= 25
    assert min(counts.values()) >= 20 and max(counts.values()) <= 0.15 * total
    assert sum(kind.times for kind in KINDS.values() if kind.real) >= 200
    keys = [key for session in plan.sessions(7) for key in session.keys]
    assert sorted(keys) == sorted(f"{name}/{index}" for name, times in counts.items() for index in range(times))
    assert plan.session_of("kill-worker/3", 7).keys == ("kill-worker/3",)
    real = plan.session_of("real-pause/2", 7).keys
    assert real[-1] == "real-pause/2"
    assert next(one for one in plan.sessions(7) if "real-pause/2" in one.keys).keys[: len(real)] == real
    with pytest.raises(ValueError, match="no fault"):
        plan.session_of("kill-moon/1", 7)


def test_the_table_counts_what_was_injected_and_what_was_violated(tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    lines = [
        {"fault": "kill-worker/0", "kind": "kill-worker", "violations": ["status: x"], "skipped": ""},
        {"fault": "kill-worker/0", "kind": "kill-worker", "violations": [], "skipped": ""},
        {"fault": "kill-worker/1", "kind": "kill-worker", "violations": ["status: y"], "skipped": ""},
        {"fault": "real-pause/0", "kind": "real-pause", "violations": [], "skipped": ""},
        {"fault": "clock-jump/0", "kind": "clock-jump", "violations": [], "skipped": "not installed"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"fault": "torn')
    text = table.table(table.read_results(path))
    assert "| stand-in | 2 | 1 |" in text
    assert "| real | 1 | 0 |" in text
    assert "| **sum** | 2 kinds | 1 real | **3** | **1** |" in text
    assert "- kill-worker/1: status: y" in text


def test_a_sample_of_the_cheap_kinds_holds() -> None:
    """The short form of the campaign: real processes, each fault checked by all rules."""
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--short", "--jobs", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" held") == sum(kind.short for kind in KINDS.values())


@pytest.mark.slow
def test_a_real_run_goes_through_several_faults() -> None:
    """The tiny model, trained by the real worker; every loss is compared with an undisturbed run's."""
    kinds = ("real-kill-worker", "real-damaged-checkpoint", "real-quota", "real-pause")
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--times", "1"]
    command += [f"--kind={kind}" for kind in kinds]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" held") == len(kinds)
