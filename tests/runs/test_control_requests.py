"""Stop, stop at once, checkpoint: requests are files, and the worker honours them. Real processes."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, run_lock, start_run, supervisor
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.status import status_of
from dpo_tui.train.worker.stop_requests import StopRequests
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
    supervised,
    until,
)

pytestmark = pytest.mark.usefixtures("home")


def test_stop_saves_a_checkpoint_and_resume_goes_on_from_it() -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    control_requests.request_stop(folder)
    state = ended(folder)
    assert (state.status, state.returncode, state.reason) == ("stopped", 130, "stopped as asked; checkpoint-3 is saved")
    assert (folder.checkpoints / "checkpoint-3").is_dir()
    assert list(folder.control.iterdir()) == []
    start_run.resume(folder)
    assert ended(folder).status == "done"
    assert "starting at step 3" in folder.train_log.read_text()


def test_checkpoint_saves_and_the_run_goes_on() -> None:
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    control_requests.request_checkpoint(folder)
    until((folder.checkpoints / "checkpoint-2").is_dir, "the checkpoint")
    until(lambda: not control_requests.is_requested(folder, control_requests.CHECKPOINT), "the request to be honoured")
    assert status_of(folder).status == "running"
    go(folder)
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 1)


def test_stop_now_lets_a_willing_worker_save() -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    control_requests.request_stop(folder, now=True)
    state = ended(folder)
    assert (state.status, state.returncode) == ("stopped", 130)
    assert state.reason == "stopped at once, as asked; checkpoint-3 is saved"


def test_stop_now_ends_a_worker_that_ignores_it() -> None:
    folder = begin("--hold-at", 3, "--stubborn", "--litter")
    holding(folder, 3)
    before = state_of(folder)
    control_requests.request_stop(folder, now=True)
    has_status(folder, "stopping", "stopped")
    state = ended(folder)
    assert (state.status, state.returncode) == ("stopped", -signal.SIGKILL)
    assert state.reason == "stopped at once, as asked; it had saved no checkpoint yet"
    assert len(events(folder, "killing")) == 1
    assert not is_same_process(before.worker_pid, before.worker_start)


def test_stop_now_after_stop_escalates() -> None:
    folder = begin("--hold-at", 3, "--stubborn")
    holding(folder, 3)
    send(state_of(folder).worker_pid, signal.SIGSTOP)  # a worker that hangs: it reads no requests
    control_requests.request_stop(folder)
    until(lambda: state_of(folder).status == "stopping", "the supervisor to note the request")
    control_requests.request_stop(folder, now=True)
    assert ended(folder).returncode == -signal.SIGKILL


def test_a_run_that_is_over_takes_no_requests() -> None:
    folder = begin()
    ended(folder)
    for request in (control_requests.request_stop, control_requests.request_checkpoint):
        with pytest.raises(RunError, match=f"run {folder.id} is done"):
            request(folder)
    assert list(folder.control.iterdir()) == []


def test_a_lost_run_takes_no_requests() -> None:
    folder = make()
    edit_state(folder, status="running", attempt=1, supervisor_pid=1)
    with pytest.raises(RunError, match="is not running"):
        control_requests.request_stop(folder)


def test_another_hosts_run_takes_requests() -> None:
    """The home is shared: the file is seen there, whatever this machine knows of the run's processes."""
    folder = make()
    now = time.time()
    edit_state(folder, status="running", attempt=1, boot_id="0" * 36, host="other-box", attempt_started_at=now)
    control_requests.request_checkpoint(folder)
    assert control_requests.is_requested(folder, control_requests.CHECKPOINT)


def test_an_orphan_that_hangs_is_ended_by_asking_twice() -> None:
    folder = begin("--hold-at", 3, "--stubborn")
    holding(folder, 3)
    state = state_of(folder)
    send(state.supervisor_pid, signal.SIGKILL)
    has_status(folder, "lost")
    control_requests.request_stop(folder, now=True)
    assert is_same_process(state.worker_pid, state.worker_start), "SIGTERM first, which it ignores"
    control_requests.request_stop(folder, now=True)
    until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the orphan to end")


def test_changed_data_is_accepted_by_a_request_of_its_own() -> None:
    folder = make()
    folder.control.rmdir()  # as after an incomplete copy of the run
    control_requests.accept_changed_data(folder)
    assert [path.name for path in folder.control.iterdir()] == ["accept-changed-data"]
    control_requests.clear(folder, control_requests.CHECKPOINT)
    assert control_requests.is_requested(folder, control_requests.ACCEPT_CHANGED_DATA), "only what is named is cleared"


def test_a_checkpoint_that_is_done_withdraws_no_stop() -> None:
    folder = make()
    control_requests.request_stop(folder)
    control_requests.request_checkpoint(folder)
    control_requests.clear(folder, control_requests.CHECKPOINT)
    assert [path.name for path in folder.control.iterdir()] == ["stop"]


def test_a_folder_without_a_state_takes_no_requests() -> None:
    folder = make()
    folder.state.unlink()
    with pytest.raises(RunError, match="is not running: it cannot be stopped"):
        control_requests.request_stop(folder)
    assert list(folder.control.iterdir()) == []


def test_a_request_to_a_folder_that_cannot_be_written_is_an_error() -> None:
    folder = make()
    folder.control.rmdir()
    folder.control.write_text("a file in the way")
    with supervised(folder), pytest.raises(RunError, match="cannot write the request"):
        control_requests.request_stop(folder)


def test_a_folder_in_the_place_of_a_request_is_none_and_no_request_can_be_made_there() -> None:
    """It could never be withdrawn: the run would be stopped by it at each resume."""
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    for request in (control_requests.STOP, control_requests.STOP_NOW, control_requests.CHECKPOINT):
        (folder.control / request / "inside").mkdir(parents=True)
    for ask in (control_requests.request_stop, control_requests.request_checkpoint):
        with pytest.raises(RunError, match=r"cannot write the request in .*(stop|checkpoint) is there"):
            ask(folder)
    go(folder)
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 1)


def test_a_request_that_cannot_be_removed_refuses_a_resume_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    edit_state(folder, status="stopped", attempt=1)
    (folder.control / control_requests.STOP).touch()

    def refuse(path: Path) -> None:
        raise PermissionError(f"of another user: {path}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(RunError, match=f"an earlier request cannot be removed.*{folder.control / 'stop'}"):
            supervisor._take_run(folder, None)
    run_lock.release(folder.lock)
    supervisor._take_run(folder, None)
    run_lock.release(folder.lock)
    assert list(folder.control.iterdir()) == []


def test_a_request_to_save_that_cannot_be_removed_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    requests = StopRequests(folder)
    (folder.control / "checkpoint").touch()
    monkeypatch.setattr(control_requests, "clear", lambda *_: None)
    assert [requests.take_requests().checkpoint for _ in range(3)] == [True, False, False]
    os.utime(folder.control / "checkpoint", ns=(1, 1))
    assert requests.take_requests().checkpoint, "asked anew"


def test_a_request_that_is_followed_before_anybody_looks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that waits for its turn takes it within a moment; `stop` said that something is in the way."""
    folder = make()
    touch = Path.touch

    def touched_and_followed(path: Path, *arguments: Any, **options: Any) -> None:
        touch(path, *arguments, **options)
        path.unlink()

    monkeypatch.setattr(Path, "touch", touched_and_followed)
    control_requests.request_stop(folder)
    assert not (folder.control / "stop").exists()
