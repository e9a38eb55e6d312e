"""What a supervisor takes, what it refuses, and what it records of a run before its worker starts."""

import os
import subprocess
import sys

import pytest

from dpo_tui.runs import control_requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import boot_id, process_start
from dpo_tui.runs.supervisor import REFUSED
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    edit_state,
    events,
    fresh_home,
    make,
    state_of,
    supervised,
    worker,
)

pytestmark = pytest.mark.usefixtures("home")


def command(folder: RunFolder, *options: str) -> list[str]:
    """The supervisor's command, with the stand-in worker."""
    module = [sys.executable, "-P", "-m", "dpo_tui.runs.supervisor", str(folder.path)]
    return [*module, *options, "--", *worker(folder)]


def supervise(folder: RunFolder, *options: str) -> subprocess.CompletedProcess[str]:
    """Supervise a run to its end."""
    return subprocess.run(command(folder, *options), capture_output=True, text=True, check=False)


def refused(folder: RunFolder, *options: str) -> str:
    """The words of a supervisor that refuses a run, and changes nothing of it."""
    before = state_of(folder)
    done = supervise(folder, *options)
    assert done.returncode == REFUSED
    assert state_of(folder) == before
    return done.stderr.strip()


def test_a_run_that_somebody_else_resumed_is_refused() -> None:
    folder = make()
    edit_state(folder, status="failed", attempt=2)
    assert refused(folder, "--attempt", "1") == f"run {folder.id}: someone else resumed it at the same time"
    assert supervise(folder, "--attempt", "2").returncode == 0
    assert (state_of(folder).status, state_of(folder).attempt) == ("done", 3)


def test_a_run_that_is_done_or_whose_worker_lives_is_refused() -> None:
    folder = make()
    edit_state(folder, status="done", attempt=1)
    assert refused(folder) == f"run {folder.id} is done already"
    alive = os.getpid()
    edit_state(folder, status="running", boot_id=boot_id(), worker_pid=alive, worker_start=process_start(alive))
    assert refused(folder) == f"run {folder.id}: its last worker (process {alive}) is still alive"
    edit_state(folder, boot_id="of another boot")
    assert supervise(folder).returncode == 0, "the same pid, but another process"


def test_a_run_that_another_process_looks_after_is_refused_by_name() -> None:
    folder = make()
    edit_state(folder, status="running", attempt=1)
    with supervised(folder) as other:
        assert refused(folder) == f"run {folder.id} is looked after already, by process {other}"


def test_the_supervisor_of_an_ended_attempt_is_waited_for() -> None:
    """It holds the lock while it ends what the worker left running."""
    folder = make()
    edit_state(folder, status="failed", attempt=1)
    with supervised(folder):
        later = subprocess.Popen(command(folder))
        with pytest.raises(subprocess.TimeoutExpired):
            later.wait(1)
    assert later.wait(60) == 0
    assert state_of(folder).status == "done"


def test_a_folder_without_a_state_is_refused_in_words() -> None:
    folder = make()
    folder.state.write_text("{")
    done = supervise(folder)
    assert (done.returncode, done.stderr) == (REFUSED, f"run {folder.id}: {folder.state} is missing or torn\n")


def test_a_first_attempt_keeps_its_place_in_the_queue_and_what_it_was_asked_meanwhile() -> None:
    """It may be asked to stop before its supervisor is up."""
    folder = make()
    edit_state(folder, queued_at=5.0)
    control_requests.request_stop(folder)
    assert supervise(folder).returncode == 0
    state = state_of(folder)
    assert (state.status, state.attempt, state.queued_at) == ("stopped", 0, 5.0)
    assert state.reason == "stopped before it started, as asked"
    assert not events(folder, "lost")
    assert supervise(folder).returncode == 0
    assert state_of(folder).status == "done", "the request was followed once"


def test_a_later_attempt_is_queued_anew_and_forgets_requests_to_the_one_before() -> None:
    folder = make()
    edit_state(folder, status="failed", reason="because", attempt=1, queued_at=5.0, ended_at=6.0, returncode=1)
    (folder.control / control_requests.STOP).touch()
    assert supervise(folder).returncode == 0
    state = state_of(folder)
    assert (state.status, state.attempt, state.reason, state.returncode) == ("done", 2, "", 0)
    assert state.queued_at > 6.0
    assert not events(folder, "lost"), "it had ended"


@pytest.mark.parametrize(("status", "lost"), [("running", True), ("stopping", True), ("queued", False)])
def test_an_attempt_whose_supervisor_vanished_is_recorded_as_lost(status: str, lost: bool) -> None:
    """Queued with an attempt behind it is a run whose job was queued again."""
    folder = make()
    edit_state(folder, status=status, attempt=1)
    assert supervise(folder).returncode == 0
    assert bool(events(folder, "lost")) is lost


def test_which_of_several_devices_a_run_took_is_recorded() -> None:
    folder = make()
    edit_state(folder, device_request={"candidates": ["gpu:6", "gpu:7"], "count": 1, "memory": None})
    assert supervise(folder).returncode == 0
    (event,) = events(folder, "devices")
    assert event["devices"] == state_of(folder).devices == ["gpu:6"]
    assert event["message"] == "takes gpu:6 of gpu:6, gpu:7"
