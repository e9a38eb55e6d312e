"""A run outlives its terminal, its launcher and its supervisor, and goes on where it was. Real processes."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import run_lock, start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.detached_supervisor import start_detached_supervisor
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    WORKER,
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
    worker,
)

pytestmark = pytest.mark.usefixtures("home")

# A launcher as `dpo-tui train` is one: it has the terminal, starts the run, and stays to follow it.
_LAUNCHER = textwrap.dedent("""
    import fcntl, signal, sys, termios, time
    from dpo_tui.runs import start_run, store
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
    if sys.stdin.isatty():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    folder = store.create("", name="detached", devices=[])
    start_run.start(folder, [sys.executable, sys.argv[1], str(folder.path), "--hold-at", "2"])
    time.sleep(600)
""")


def _launch_and_lose(end: str) -> RunFolder:
    """Start a run from a launcher in a session of its own, on a terminal, and take the one or the other away."""
    master, slave = pty.openpty()
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, str(WORKER)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    folder = until(store.all_runs, "a run")[0]
    holding(folder, 2)
    if end == "kill":
        launcher.kill()
    os.close(master)
    assert launcher.wait(60) == (-signal.SIGKILL if end == "kill" else -signal.SIGHUP)
    return folder


@pytest.mark.parametrize("end", ["hang-up", "kill"])
def test_a_run_outlives_its_terminal_and_its_launcher(end: str) -> None:
    """Started over SSH, the connection lost."""
    folder = _launch_and_lose(end)
    before = state_of(folder)
    assert is_same_process(before.worker_pid, before.worker_start)
    go(folder)
    after = ended(folder)
    assert (after.status, after.attempt, after.worker_pid) == ("done", 1, before.worker_pid)


def test_a_hang_up_sent_to_every_process_of_the_run_is_ignored() -> None:
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    state = state_of(folder)
    for pid in (state.supervisor_pid, state.worker_pid):
        send(pid, signal.SIGHUP)
    go(folder)
    assert ended(folder).status == "done"


def test_when_the_supervisor_is_killed_the_worker_saves_and_ends_and_resume_goes_on() -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    state = state_of(folder)
    send(state.supervisor_pid, signal.SIGKILL)
    assert has_status(folder, "lost") == "lost"
    until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the worker to end")
    assert (folder.checkpoints / "checkpoint-3").is_dir(), "it saved on its way out"
    found = status_of(folder)
    ended_with = "was killed, or could write nothing, and its worker ended with it"
    assert found.reason == f"its supervisor (process {state.supervisor_pid}) {ended_with}"
    start_run.resume(folder)
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 2)
    assert "starting at step 3" in folder.train_log.read_text()
    assert len(events(folder, "lost")) == 1


def test_a_resume_deletes_what_killed_writers_have_left_half_written() -> None:
    """A kill between the beginning of a file and its rename leaves one that nothing else would ever remove."""
    folder = begin("--exit", 1)
    ended(folder)
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    # Not waited for: as in a container whose first process collects nobody's exit status.
    zombie = subprocess.Popen([sys.executable, "-S", "-c", ""])
    until(lambda: process_start(zombie.pid) is None, "its end")
    checkpoint = folder.checkpoints / "checkpoint-4"
    abandoned = [
        folder.path / f".disk.{zombie.pid}.tmp",
        folder.path / f".state.json.{gone.pid}.140134722780032.tmp",
        folder.path / f".disk.{gone.pid}.tmp",
        folder.control / f".stop-reason.{gone.pid}.1.tmp",
        checkpoint / f".complete.json.{gone.pid}.1.tmp",
    ]
    others = [folder.path / f".name.{os.getpid()}.1.tmp", folder.path / ".notes.tmp", folder.path / "x.1.2.tmp"]
    for path in (*abandoned, *others):
        path.touch()
    start_run.resume(folder)
    ended(folder)
    assert zombie.poll() is not None
    assert [path.name for path in abandoned if path.exists()] == []
    assert all(path.exists() for path in others), "a living process writes it, or it is somebody's own"


def test_what_a_worker_left_running_ends_at_the_resume_if_its_supervisor_was_killed_with_it() -> None:
    """They ignore SIGTERM, have init as parent, and hold GPU memory."""
    folder = begin("--hold-at", 2, "--litter")
    holding(folder, 2)
    state = state_of(folder)
    litter = json.loads((folder.path / "litter.json").read_text())
    starts = [process_start(pid) for pid in litter]
    for pid in (state.supervisor_pid, state.worker_pid):
        send(pid, signal.SIGKILL)
    until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the worker to end")
    until(lambda: run_lock.owner(folder.lock) is None, "the supervisor to end")
    assert all(map(is_same_process, litter, starts)) and starts.count(None) == 0
    start_run.resume(folder, worker(folder))
    assert ended(folder).status == "done"
    assert not any(map(is_same_process, litter, starts))
    assert sorted(litter) == events(folder, "leftovers")[0]["pids"]


def test_a_resume_waits_for_the_worker_that_still_saves() -> None:
    """Two workers would write the same folder."""
    folder = begin("--hold-at", 3, "--stubborn")
    holding(folder, 3)
    state = state_of(folder)
    send(state.supervisor_pid, signal.SIGKILL)
    has_status(folder, "lost")
    assert "is still saving, or hangs" in status_of(folder).reason
    resuming = threading.Thread(target=start_run.resume, args=(folder,))
    resuming.start()
    resuming.join(0.3)
    assert resuming.is_alive() and state_of(folder).attempt == 1
    send(state.worker_pid, signal.SIGKILL)
    resuming.join()
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 2)


def test_after_a_reboot_a_run_is_lost_and_resumes() -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    state = state_of(folder)
    send(state.supervisor_pid, signal.SIGKILL)
    until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the worker to end")
    edit_state(folder, boot_id="00000000-0000-0000-0000-000000000000")
    assert (status_of(folder).status, status_of(folder).reason) == ("lost", "the box restarted while it ran")
    start_run.resume(folder)
    assert ended(folder).status == "done"


def test_of_two_resumes_at_once_the_second_is_refused() -> None:
    folder = begin("--exit", 1)
    ended(folder)
    refusals: list[RunError] = []
    resumed: list[start_run.Resumed] = []
    together = threading.Barrier(2)

    def resume() -> None:
        together.wait()
        try:
            resumed.append(start_run.resume(folder, worker(folder, "--steps", 9, "--hold-at", 6, "--hold-attempts", 9)))
        except RunError as error:
            refusals.append(error)

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(resumed), len(refusals)) == (1, 1)
    holding(folder, 6)
    with pytest.raises(RunError, match="cannot be resumed meanwhile"):
        start_run.resume(folder)
    go(folder)
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 2)


def test_a_done_run_is_not_resumed_and_the_hint_says_what_to_do() -> None:
    folder = begin()
    ended(folder)
    with pytest.raises(RunError, match="is done: there is nothing left to resume") as refused:
        start_run.resume(folder)
    assert "num_train_epochs" in (refused.value.hint or "")
    with pytest.raises(RunError, match="was started before"):
        start_run.start(folder)


def test_a_run_that_never_reached_a_checkpoint_starts_from_the_beginning() -> None:
    folder = begin("--no-checkpoints", "--exit", 1)
    ended(folder)
    assert start_run.resume(folder).checkpoint is None
    ended(folder)
    assert folder.train_log.read_text().count("starting at step 0") == 2


def test_a_run_whose_supervisor_never_came_can_be_started_by_resume() -> None:
    folder = make()
    edit_state(folder, created_at=1.0, queued_at=1.0)
    assert status_of(folder).status == "lost"
    start_run.resume(folder, worker(folder))
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 1)


def test_a_supervisor_that_does_not_come_up_is_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    broken = folder.path / "broken"
    (broken / "dpo_tui" / "runs").mkdir(parents=True)
    (broken / "sitecustomize.py").write_text("raise SystemExit('the interpreter is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    with pytest.raises(RunError, match="the interpreter is broken"):
        start_run.start(folder, worker(folder))


def test_a_run_that_is_removed_while_it_is_resumed_is_said_to_be_gone() -> None:
    folder = make()
    removes = "import shutil, sys; shutil.rmtree(sys.argv[1]); sys.exit(4)"
    argv = [sys.executable, "-c", removes, str(folder.path)]
    with pytest.raises(RunError, match=f"run {folder.id} was removed meanwhile"):
        start_detached_supervisor(folder, argv)
    with pytest.raises(RunError, match=f"run {folder.id} was removed meanwhile"):
        start_detached_supervisor(folder, argv)


def test_a_folder_deleted_under_a_run_does_not_keep_its_supervisor_alive() -> None:
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    state = state_of(folder)
    shutil.rmtree(folder.path)
    send(state.worker_pid, signal.SIGKILL)
    until(lambda: not is_same_process(state.supervisor_pid, state.supervisor_start), "the supervisor to end")


@pytest.mark.parametrize("left", ["nothing", "made-again-by-a-checkpoint", "all-but-its-lock"])
def test_a_run_whose_folder_is_deleted_gives_its_gpu_back(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees it any more, and the next run would be started on the same GPU."""
    monkeypatch.setattr("tests.support.supervised_runs.PATIENCE", 120.0)
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    state = state_of(folder)
    if left == "all-but-its-lock":
        folder.lock.unlink()  # as `rm -rf` leaves a folder in which a file is written meanwhile
    else:
        shutil.rmtree(folder.path)
    if left == "made-again-by-a-checkpoint":
        (folder.checkpoints / "checkpoint-2").mkdir(parents=True)
    until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the worker to end")
    until(lambda: not is_same_process(state.supervisor_pid, state.supervisor_start), "the supervisor to end")
    # The checkpoint that the worker saved has made the folder again in either case, and it says what it is.
    assert state_of(folder).reason == "stopped because its folder was deleted while it ran"


def test_a_module_in_the_current_folder_does_not_shadow_pythons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = make()
    python, *options = start_run.default_worker_argv(folder)
    assert options == ["-P", "-m", "dpo_tui.train", str(folder.path)]
    start_run.start(folder, [python, "-P", "-c", "import json; print('as usual')"])
    assert ended(folder).status == "done"
    assert folder.train_log.read_text() == "as usual\n"
