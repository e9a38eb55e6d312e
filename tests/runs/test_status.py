"""The status is a pure function of the files and of who is alive."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests
from dpo_tui.runs.exit_codes import describe_exit
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import LAUNCH_DEADLINE
from dpo_tui.runs.process import boot_id, is_same_process, process_start
from dpo_tui.runs.status import STALLED_AFTER, STALLED_WITHOUT_STEP_TIME, status_of
from dpo_tui.runs.summary import eta_of
from tests.support.supervised_runs import edit_state, fresh_home, make, state_of, supervised, until  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def somebody() -> Iterator[int]:
    """The pid of a living process."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def _running(**changes: object) -> RunFolder:
    """A folder as a running run's supervisor leaves it on disk."""
    folder = make()
    now = time.time()
    edit_state(
        folder, status="running", attempt=1, supervisor_pid=1, started_at=now - 5, attempt_started_at=now - 5, **changes
    )
    return folder


def _progress(folder: RunFolder, t: float, **more: object) -> None:
    folder.progress.write_text(json.dumps({"phase": "train", "step": 3, "max_steps": 9, "t": t, **more}))


@pytest.mark.parametrize("ended", ["done", "failed", "stopped"])
def test_an_ended_run_is_what_its_supervisor_said(ended: str) -> None:
    folder = _running()
    edit_state(folder, status=ended, reason="because", boot_id="another", host="elsewhere")
    found = status_of(folder)
    assert (found.status, found.reason, found.live, found.over) == (ended, "because", False, True)


def test_a_supervised_run_is_starting_until_its_worker_speaks_and_then_running() -> None:
    folder = _running()
    _progress(folder, t=time.time() - 60)  # an earlier attempt's
    with supervised(folder):
        assert status_of(folder).status == "starting"
        _progress(folder, t=time.time())
        found = status_of(folder)
        assert (found.status, found.live, found.progress["step"]) == ("running", True, 3)


def test_a_clock_that_was_set_back_makes_nothing_an_earlier_attempts() -> None:
    """As on a box that asks for the time after its start: the run would be starting for an hour, with no end known."""
    folder = _running()
    began = time.time()
    edit_state(folder, attempt_started_at=began)
    now = began - 3600
    _progress(folder, t=now)
    lines = [{"t": now - 9 + step, "step": step, "step_seconds": 2.0} for step in range(1, 4)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with supervised(folder):
        found = status_of(folder, now + 1)
        assert (found.status, found.progress["step"]) == ("running", 3)
        assert eta_of(folder, found, now + 1) == pytest.approx(11.0)
    assert state_of(folder).attempt_since(began + 1) == began


def test_a_request_to_stop_shows_at_once() -> None:
    folder = _running()
    _progress(folder, t=time.time())
    with supervised(folder):
        control_requests.request_stop(folder)
        assert status_of(folder).status == "stopping"


def test_silence_makes_a_run_stalled_and_the_reason_says_since_when() -> None:
    folder = _running()
    _progress(folder, t=time.time())
    with supervised(folder):
        unpaced = status_of(folder, now=time.time() + STALLED_WITHOUT_STEP_TIME + 60)
        assert (unpaced.status, unpaced.live) == ("stalled", True)
        assert "no sign of life for 6 min" in unpaced.reason
        assert status_of(folder, now=time.time() + STALLED_WITHOUT_STEP_TIME - 10).status == "running"
        folder.metrics.write_text(json.dumps({"t": time.time(), "step": 3, "step_seconds": 0.5}) + "\n")
        assert status_of(folder, now=time.time() + STALLED_AFTER + 10).status == "stalled"
        assert status_of(folder, now=time.time() + STALLED_AFTER - 10).status == "running"


def test_slow_steps_are_not_silence() -> None:
    folder = _running()
    _progress(folder, t=time.time())
    lines = [{"t": time.time(), "step": n, "step_seconds": 60.0} for n in range(3)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with supervised(folder):
        assert status_of(folder, now=time.time() + 500).status == "running"
        found = status_of(folder, now=time.time() + 700)
        assert found.status == "stalled"
        assert "a step takes 60.0 s" in found.reason


def test_without_its_supervisor_a_run_is_lost_in_words() -> None:
    """Dead runs are not shown as running (wandb#12500)."""
    folder = _running()
    found = status_of(folder)
    assert (found.status, found.live, found.over) == ("lost", False, True)
    assert "its supervisor (process 1) was killed" in found.reason


def test_a_lost_run_whose_worker_still_saves_says_so(somebody: int) -> None:
    folder = _running(worker_pid=somebody, worker_start=process_start(somebody))
    assert f"its worker (process {somebody}) is still saving" in status_of(folder).reason


def test_another_boot_makes_a_run_lost_not_running(somebody: int) -> None:
    folder = _running(boot_id="0" * 36, worker_pid=somebody, worker_start=process_start(somebody))
    found = status_of(folder)
    assert (found.status, found.reason, found.live) == ("lost", "the box restarted while it ran", False)
    edit_state(folder, status="queued", attempt=0)
    assert status_of(folder).reason == "the box restarted while it waited for its turn"


def test_another_hosts_run_is_judged_by_its_files_not_by_our_pids() -> None:
    folder = _running(boot_id="0" * 36, host="other-box", worker_pid=1)
    _progress(folder, t=time.time())
    found = status_of(folder)
    assert (found.status, found.reason, found.live) == ("running", "on host other-box", True)
    late = status_of(folder, now=time.time() + 3700)
    assert late.status == "lost"
    assert late.reason == "on host other-box: no sign of life for 1 h 1 min"


def test_another_host_name_on_the_same_boot_is_this_machine() -> None:
    """A container that restarts gets a new host name, and the kernel still knows that the lock is free."""
    assert status_of(_running(host="old-container")).status == "lost"


def test_a_run_that_nobody_started_is_queued_for_a_moment_and_then_lost() -> None:
    folder = make()
    assert status_of(folder).status == "queued"
    late = status_of(folder, now=time.time() + 60)
    assert (late.status, late.reason) == ("lost", "it was never started")


def test_a_run_is_not_lost_while_its_launcher_still_waits_for_a_supervisor() -> None:
    folder = make()
    status = status_of(folder, now=state_of(folder).queued_at + LAUNCH_DEADLINE - 1)
    assert (status.status, status.reason) == ("queued", "being launched")


@pytest.mark.parametrize("text", [None, "", '{"version": 1, "stat'], ids=["missing", "empty", "torn"])
def test_a_folder_without_a_readable_state_is_lost_and_says_why(text: str | None) -> None:
    folder = make()
    folder.state.unlink()
    if text is not None:
        folder.state.write_text(text)
    found = status_of(folder)
    assert (found.status, found.reason) == ("lost", "state.json is missing or torn")


def test_a_torn_progress_or_metrics_file_is_no_obstacle() -> None:
    folder = _running()
    folder.progress.write_text('{"phase": "tr')
    folder.metrics.write_text('{"loss": ')
    with supervised(folder):
        assert status_of(folder).status == "starting"


def test_a_newer_folder_is_refused() -> None:
    folder = make()
    folder.state.write_text(json.dumps({"version": 2, "id": folder.id, "status": "dreaming"}))
    with pytest.raises(RunError, match="version 2, written by a newer dpo-tui"):
        status_of(folder)


def test_a_pid_is_the_same_process_only_with_the_same_start() -> None:
    start = process_start(os.getpid())
    assert is_same_process(os.getpid(), start)
    assert not is_same_process(os.getpid(), (start or 0) + 1), "a later process that got the pid"
    assert not is_same_process(None, None)
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(child.pid)
    assert is_same_process(child.pid, start)
    child.kill()
    until(lambda: not is_same_process(child.pid, start), "the zombie to count as dead")
    assert child.poll() == -signal.SIGKILL
    child.communicate()


@pytest.mark.parametrize(
    ("returncode", "out_of_memory", "text"),
    [
        (0, None, "ended normally"),
        (3, None, "ended with exit code 3"),
        (-9, None, "killed by signal 9 (SIGKILL): someone killed it, or the kernel ran out of memory"),
        (-9, True, "because the box, or what this container or session may use of it, ran out of RAM"),
        (-9, False, "someone killed it (the kernel's out-of-memory killer did not run)"),
        (-11, None, "killed by signal 11 (SIGSEGV): a crash in native code"),
        (137, None, "ended with exit code 137, which launchers use for: killed by signal 9 (SIGKILL)"),
        (-64, None, "killed by signal 64"),
        (255, None, "ended with exit code 255"),
    ],
)
def test_an_exit_is_told_in_words(returncode: int, out_of_memory: bool | None, text: str) -> None:
    assert text in describe_exit(returncode, out_of_memory=out_of_memory)


@pytest.mark.parametrize("ended", ["done", "failed", "stopped", "lost"])
def test_a_run_that_is_over_still_says_how_far_it_came(ended: str) -> None:
    folder = _running()
    if ended != "lost":
        edit_state(folder, status=ended)
    assert status_of(folder).progress == {}
    _progress(folder, t=time.time())
    found = status_of(folder)
    assert (found.status, found.progress["step"], found.progress["max_steps"]) == (ended, 3, 9)


def test_a_run_that_waits_or_starts_under_its_supervisor_can_be_stopped() -> None:
    """It is live: requests are taken, and a second supervisor is refused."""
    waiting = make()
    edit_state(waiting, status="queued", reason="waits for gpu:0")
    with supervised(waiting):
        found = status_of(waiting)
        assert (found.status, found.reason, found.live, found.over) == ("queued", "waits for gpu:0", True, False)
    starting = _running()
    with supervised(starting):
        found = status_of(starting)
        assert (found.status, found.live, found.over) == ("starting", True, False)


def test_a_run_that_waits_on_another_host_is_live_and_says_where() -> None:
    folder = make()
    edit_state(folder, status="queued", reason="waits for gpu:0", host="node-7", boot_id="another")
    found = status_of(folder)
    assert (found.status, found.live) == ("queued", True)
    assert found.reason.startswith("on host node-7") and found.reason.endswith("waits for gpu:0")


def test_a_stop_that_is_asked_for_and_one_that_is_under_way_give_their_own_reasons() -> None:
    folder = _running()
    _progress(folder, t=time.time())
    with supervised(folder):
        control_requests.request_stop(folder)
        assert status_of(folder).reason == "asked to stop at the next step"
        edit_state(folder, status="stopping", reason="saving a checkpoint")
        assert status_of(folder).reason == "saving a checkpoint"
