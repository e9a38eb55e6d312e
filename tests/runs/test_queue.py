"""Runs that want the same device take turns, in order, and a failed one blocks nobody. Real processes."""

import signal
import time

import pytest

from dpo_tui import paths
from dpo_tui.runs import control_requests, start_run, store
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    ended,
    events,
    fresh_home,
    go,
    has_status,
    holding,
    make,
    send,
    state_of,
    until,
    waits,
    worker,
)

pytestmark = pytest.mark.usefixtures("home")
GPU = ["gpu:0"]


def test_runs_wanting_one_device_go_in_the_order_they_were_made_and_a_failed_one_does_not_block() -> None:
    first = begin("--hold-at", 1, name="first", devices=GPU)
    holding(first, 1)
    second = begin("--exit", 1, name="second", devices=GPU)
    waits(second, "gpu:0", "in use by", first.id, "(first)")
    third = begin(name="third", devices=GPU)
    waits(third, "gpu:0")
    assert status_of(third).live and state_of(third).attempt == 0
    go(first)
    assert [ended(run).status for run in (first, second, third)] == ["done", "failed", "done"]
    times = [(state_of(run).started_at or 0, state_of(run).ended_at or 0) for run in (first, second, third)]
    assert times[0][1] <= times[1][0] and times[1][1] <= times[2][0], "one after the other"
    assert events(third, "waiting")[0]["run"] in (first.id, second.id)


def test_other_devices_and_no_devices_do_not_wait() -> None:
    first = begin("--hold-at", 1, devices=["gpu:0", "gpu:1"])
    holding(first, 1)
    assert ended(begin(devices=["gpu:2"])).status == "done"
    assert ended(begin(devices=[])).status == "done"
    overlapping = begin(devices=["gpu:1", "gpu:2"])
    waits(overlapping, "gpu:1")
    go(first)
    assert ended(overlapping).status == "done"


def test_many_waiting_runs_never_overlap() -> None:
    runs = [make(str(number), devices=GPU) for number in range(5)]
    for run in reversed(runs):  # started in the wrong order: the last one made gets the free device first
        start_run.start(run, worker(run, "--hold-at", 1))
    for run in [runs[-1], *runs[:-1]]:
        holding(run, 1)
        others = [other for other in runs if other != run]
        assert all(status_of(other).status in ("queued", "done") for other in others)
        go(run)
    assert [ended(run).status for run in runs] == ["done"] * 5


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_run_that_comes_after_another_waits_for_its_end_whatever_it_is(exit_code: int) -> None:
    """A chain of runs goes on after an error."""
    first = begin("--hold-at", 1, "--exit", exit_code, name="sft")
    second = begin(after=first.id)
    third = begin(after=second.id)
    waits(second, "waits for run", first.id, "(sft)", "to end")
    waits(third, second.id)
    go(first)
    assert [ended(run).status for run in (first, second, third)] == ["failed" if exit_code else "done", "done", "done"]
    assert (state_of(first).ended_at or 0) <= (state_of(second).started_at or 0)


def test_a_run_that_waits_for_another_lets_a_younger_one_have_the_free_device() -> None:
    first = begin("--hold-at", 1, devices=["gpu:1"])
    holding(first, 1)
    second = begin(devices=GPU, after=first.id)
    assert ended(begin(devices=GPU)).status == "done"
    go(first)
    assert ended(second).status == "done"


def test_a_removed_or_lost_predecessor_blocks_nobody() -> None:
    lost = make()
    edit_state(lost, status="running", attempt=1, supervisor_pid=1)
    assert ended(begin(after=lost.id)).status == "done"
    store.remove(lost)
    assert ended(begin(after=lost.id)).status == "done"


def test_a_queued_run_that_is_asked_to_stop_never_starts() -> None:
    first = begin("--hold-at", 1, devices=GPU)
    holding(first, 1)
    second = begin(devices=GPU)
    waits(second)
    control_requests.request_stop(second)
    state = ended(second)
    assert (state.status, state.attempt, state.worker_pid) == ("stopped", 0, None)
    assert not second.train_log.exists()
    start_run.resume(second, worker(second))
    waits(second)
    go(first)
    assert ended(second).status == "done", "the old request does not stop the resumed run"


def test_a_waiting_supervisor_that_is_asked_to_end_says_so() -> None:
    first = begin("--hold-at", 1, devices=GPU)
    holding(first, 1)
    second = begin(devices=GPU)
    waits(second, first.id)
    send(state_of(second).supervisor_pid, signal.SIGTERM)
    assert ended(second).status == "stopped"
    go(first)


def test_the_worker_of_a_killed_supervisor_still_has_the_device() -> None:
    first = begin("--hold-at", 1, "--stubborn", devices=GPU)
    holding(first, 1)
    state = state_of(first)
    send(state.supervisor_pid, signal.SIGKILL)
    has_status(first, "lost")
    second = begin(devices=GPU)
    waits(second, "in use by", first.id)
    assert is_same_process(state.worker_pid, state.worker_start)
    send(state.worker_pid, signal.SIGKILL)
    assert ended(second).status == "done"


def test_a_killed_waiting_run_is_lost_and_blocks_nobody() -> None:
    first = begin("--hold-at", 1, devices=GPU)
    holding(first, 1)
    second = begin(devices=GPU)
    third = begin(devices=GPU)
    waits(second)
    send(state_of(second).supervisor_pid, signal.SIGKILL)
    has_status(second, "lost")
    assert status_of(second).reason == "its supervisor was killed, or could write nothing, while it waited for its turn"
    go(first)
    assert ended(third).status == "done"
    start_run.resume(second, worker(second))
    assert ended(second).status == "done"


def test_other_machines_and_newer_folders_are_not_waited_for() -> None:
    other, newer = make(devices=GPU), make(devices=GPU)
    edit_state(other, status="running", attempt=1, boot_id="0" * 36, host="other-box", attempt_started_at=time.time())
    newer.state.write_text('{"version": 99}')
    assert ended(begin(devices=GPU)).status == "done"
    assert ended(begin(after=newer.id)).status == "done"


def test_a_queue_that_cannot_be_locked_is_tried_again_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's file is made once, which a disk may refuse."""
    lock = paths.runs() / ".turn.lock"
    lock.mkdir(parents=True)
    patient = begin()
    waits(patient, "cannot lock the queue", "turn.lock")
    lock.rmdir()
    assert ended(patient).status == "done"
    lock.unlink()
    lock.mkdir()
    monkeypatch.setenv("DPO_TUI_DISK_PATIENCE", "0.1")
    state = ended(begin())
    assert state.status == "failed" and state.reason.startswith("cannot lock the queue: ")
