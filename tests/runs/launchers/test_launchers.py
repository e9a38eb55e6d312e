"""Launchers: `local`, how another one is added, and how processes between supervisor and worker live and die."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import registry
from dpo_tui.runs.launchers.local import LocalLauncher
from dpo_tui.runs.launchers.worker_environment import worker_environment
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.runs.ranks import RankReport, read_reports
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    edit_state,
    ended,
    events,
    fresh_home,
    has_status,
    make,
    send,
    state_of,
    until,
)

pytestmark = pytest.mark.usefixtures("home")

TESTS = Path(__file__).parents[3] / "tests" / "support"
ROOT = TESTS.parent.parent


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Supervisors that a test has started; they find this checkout, and are killed afterwards."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setitem(registry.LAUNCHERS, "ranks", "tests.support.ranks_launcher:RanksLauncher")
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for supervisor in started:
        supervisor.kill()
        supervisor.wait()


def begin_ranks(supervisors: list[subprocess.Popen[bytes]], *options: str | int) -> RunFolder:
    """Start a run of two ranks under a supervisor that knows the launcher of the tests."""
    folder = make()
    edit_state(folder, launcher="ranks", ranks=2)
    rank = [sys.executable, str(TESTS / "standin_ranks.py"), "rank", str(folder.path), *map(str, options)]
    command = [sys.executable, str(TESTS / "ranks_launcher.py"), str(folder.path), "--", *rank]
    supervisors.append(subprocess.Popen(command, start_new_session=True))
    return folder


def over(supervisors: list[subprocess.Popen[bytes]], folder: RunFolder) -> State:
    """Wait until the supervisor has gone; return the state that it left."""
    assert supervisors[-1].wait(60) == 0
    return state_of(folder)


def both_train(folder: RunFolder) -> list[RankReport]:
    """Wait until both ranks train; return what they say of themselves."""

    def training() -> list[RankReport]:
        # The heartbeat in the background may come before the first that names a phase.
        return [report for report in read_reports(folder) if report.phase == "train"]

    return list(until(lambda: len(found := training()) == 2 and found, "both ranks"))


def alive(report: RankReport, start: int | None) -> bool:
    return is_same_process(report.pid, start)


def test_an_old_state_has_the_local_launcher_and_an_unknown_one_is_refused_by_name() -> None:
    folder = make()
    document = json.loads(folder.state.read_text())
    assert document.pop("launcher") == "local"
    folder.state.write_text(json.dumps(document))
    state = read_state(folder)
    assert state is not None and isinstance(registry.launcher_of(state), LocalLauncher)
    edit_state(folder, launcher="starship", supervisor_pid=1)
    with pytest.raises(
        RunError, match=f"run {folder.id}: there is no launcher 'starship'; this dpo-tui has local, torchrun"
    ):
        status_of(folder)
    with pytest.raises(RunError, match="starship"):
        start_run.start(folder)


def test_a_single_worker_does_not_take_itself_for_a_rank_of_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Kubernetes job, or when a run is started from a shell inside torchrun."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "DPO_TUI_PARENT_PID"):
        monkeypatch.setenv(name, "3")
    environment = worker_environment(State(id="r", name="r"))
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "DPO_TUI_PARENT_PID"} & set(environment)
    assert environment["DPO_TUI_SUPERVISOR_PID"] == str(os.getpid())


def test_trl_tells_nobody_about_a_run_unless_the_user_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's trainers tell the Hub the GPU, the number of processes and the kind of model and data of every run."""
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    asked = [sys.executable, "-c", "from huggingface_hub import constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"]
    worker = subprocess.run(
        asked, env=worker_environment(State(id="r", name="r")), capture_output=True, text=True, check=True
    )
    assert worker.stdout.split() == ["True"]
    assert child_environment()["HF_HUB_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    assert worker_environment(State(id="r", name="r"))["HF_HUB_DISABLE_TELEMETRY"] == "0"


def test_ranks_below_another_process_live_and_are_done(supervisors: list[subprocess.Popen[bytes]]) -> None:
    folder = begin_ranks(supervisors)
    state = over(supervisors, folder)
    assert (state.status, state.returncode, state.reason) == ("done", 0, "")
    assert [(report.rank, report.world_size, report.code) for report in read_reports(folder)] == [(0, 2, 0), (1, 2, 0)]


def test_ranks_are_stopped_together_though_their_agent_answers_1(supervisors: list[subprocess.Popen[bytes]]) -> None:
    folder = begin_ranks(supervisors, "--hold")
    both_train(folder)
    control_requests.request_stop(folder)
    state = over(supervisors, folder)
    assert (state.status, state.returncode) == ("stopped", 1)
    assert state.reason.startswith("stopped as asked")
    assert [report.code for report in read_reports(folder)] == [130, 130]


def test_the_rank_that_failed_is_named_with_its_own_words(supervisors: list[subprocess.Popen[bytes]]) -> None:
    folder = begin_ranks(supervisors, "--failing", 1)
    state = over(supervisors, folder)
    assert (state.status, state.reason) == ("failed", "rank 1: the loss is no number\nLower the learning rate.")


def test_a_rank_that_was_killed_is_named_and_not_those_that_were_ended_for_it(
    supervisors: list[subprocess.Popen[bytes]],
) -> None:
    folder = begin_ranks(supervisors, "--failing", 1, "--code", -9)
    state = over(supervisors, folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on ") and "was killed or crashed (phase train, step 1)" in state.reason
    assert "ranks/1.log" in state.reason


def test_a_rank_out_of_memory_is_tried_again_with_a_smaller_batch(supervisors: list[subprocess.Popen[bytes]]) -> None:
    folder = begin_ranks(supervisors, "--failing", 0, "--code", 75)
    state = over(supervisors, folder)
    assert (state.status, state.attempt, state.per_device_train_batch_size) == ("done", 2, 2)
    assert len(events(folder, "out-of-memory")) == 1
    assert [report.code for report in read_reports(folder)] == [0, 0], "what the first attempt's ranks said is gone"


@pytest.mark.parametrize("kind", ["", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_a_rank_that_hangs_is_named_and_ends_the_run(
    supervisors: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A stopped process neither ends nor fails: torchrun would wait for it, and the other rank for its gradients."""
    monkeypatch.setenv("TESTS_AGENT", kind)
    monkeypatch.setenv("DPO_TUI_RANK_SILENCE", "8")
    folder = begin_ranks(supervisors, "--hold")
    frozen = both_train(folder)[1]
    send(frozen.pid, signal.SIGSTOP)
    state = over(supervisors, folder)
    assert state.status == "failed"
    assert state.reason == f"rank 1 on {frozen.host} (phase train, step 1) hung: no sign of life for 8 s\n" + (
        "ranks/1.log may say why"
    )
    assert not is_same_process(frozen.pid, process_start(frozen.pid))


def test_an_agent_that_hangs_after_its_ranks_have_ended_does_not_keep_the_run(
    supervisors: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_TUI_RANK_SILENCE", "2")
    folder = begin_ranks(supervisors, "--hold")
    both_train(folder)
    send(state_of(folder).worker_pid, signal.SIGSTOP)
    control_requests.request_stop(folder)
    state = over(supervisors, folder)
    assert state.status == "stopped" and state.reason.startswith("stopped as asked")


@pytest.mark.parametrize("victim", ["supervisor", "agent"])
@pytest.mark.parametrize("kind", ["", "torchrun"])
def test_ranks_end_with_their_supervisor_and_with_what_started_them(
    supervisors: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, victim: str, kind: str
) -> None:
    monkeypatch.setenv("TESTS_AGENT", kind)
    folder = begin_ranks(supervisors, "--hold")
    reports = both_train(folder)
    ranks = [(report, process_start(report.pid)) for report in reports]
    state = state_of(folder)
    pid = state.supervisor_pid if victim == "supervisor" else state.worker_pid
    send(pid, signal.SIGKILL)
    until(lambda: not any(alive(report, start) for report, start in ranks), "the ranks to end")
    assert [report.code for report in read_reports(folder)] == [130, 130], "they saved on their way out"
    if victim == "supervisor":
        until(lambda: not is_same_process(state.worker_pid, state.worker_start), "the agent to end")
        assert has_status(folder, "lost") == "lost"
    else:
        state = over(supervisors, folder)
        assert state.status == "failed" and "killed by signal 9 (SIGKILL)" in state.reason


_INTERMEDIARY = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
if sys.argv[2] == "stay":
    sys.exit(child.wait())
"""
_WORKER = """
import os, sys, time
if {orphan}:
    while os.getppid() == int(os.environ["DPO_TUI_PARENT_PID"]): time.sleep(0.01)
from dpo_tui.runs.process import set_pdeathsig
set_pdeathsig()
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("stays", "names_itself", "expected"), [(True, False, "alive"), (True, True, "alive"), (False, True, "")]
)
def test_a_worker_tells_a_process_in_between_from_a_parent_that_died(
    monkeypatch: pytest.MonkeyPatch, stays: bool, names_itself: bool, expected: str
) -> None:
    """The supervisor is this test: a subreaper or not, it lives, so it is no proof that the real parent does."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DPO_TUI_SUPERVISOR_PID", str(os.getpid()))
    worker = _WORKER.format(orphan=not stays)
    command = [sys.executable, "-c", _INTERMEDIARY, worker, "stay" if stays else "go"]
    if names_itself:
        command = [sys.executable, "-P", "-m", "dpo_tui.runs.launchers.end_with_parent", *command]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (seen.stdout.strip(), seen.stderr) == (expected, "")


def test_a_command_that_is_not_there_is_a_failed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = make()
    wrapped = [sys.executable, "-P", "-m", "dpo_tui.runs.launchers.end_with_parent", "/nonexistent/torchrun"]
    start_run.start(folder, wrapped)
    assert "its last words: /nonexistent/torchrun: No such file or directory" in ended(folder).reason


def test_a_launcher_that_refuses_is_a_failed_run_with_its_words(
    supervisors: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "refusing.py").write_text(
        "import sys\n"
        "from dpo_tui.errors import RunError\n"
        "from dpo_tui.runs import supervisor\n"
        "from dpo_tui.runs.launchers import registry\n"
        "from dpo_tui.runs.launchers.local import LocalLauncher\n"
        "class Refusing(LocalLauncher):\n"
        "    def prepare(self, folder, state, worker_argv):\n"
        "        raise RunError('there is no torchrun', hint='Install torch.')\n"
        "registry.LAUNCHERS['refusing'] = '__main__:Refusing'\n"
        "sys.exit(supervisor.main(sys.argv[1:]))\n"
    )
    folder = make()
    edit_state(folder, launcher="refusing")
    command = [sys.executable, str(tmp_path / "refusing.py"), str(folder.path), "--", "worker"]
    supervisors.append(subprocess.Popen(command))
    state = over(supervisors, folder)
    assert (state.status, state.reason) == ("failed", "there is no torchrun\nInstall torch.")


class _Submitting(LocalLauncher):
    """Hands the supervisor to a batch system, where it waits."""

    def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
        (folder.path / "job").write_text(json.dumps(argv))

    def waiting_reason(self, folder: RunFolder) -> str | None:
        return "job 17 waits for resources" if (folder.path / "job").exists() else None

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        (folder.path / "job").unlink()


def test_a_run_can_be_submitted_wait_with_a_reason_and_be_stopped_before_it_has_a_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.LAUNCHERS, "submitting", f"{__name__}:_Submitting")
    folder = make()
    edit_state(folder, launcher="submitting", created_at=1.0, queued_at=1.0)
    assert status_of(folder).status == "lost"
    start_run.start(folder, ["worker"])
    argv = json.loads((folder.path / "job").read_text())
    assert argv[1:5] == ["-P", "-m", "dpo_tui.runs.supervisor", str(folder.path)] and argv[-2:] == ["--", "worker"]
    found = status_of(folder)
    assert (found.status, found.reason, found.live) == ("queued", "job 17 waits for resources", True)
    with pytest.raises(RunError, match="is queued: it cannot be resumed meanwhile"):
        start_run.resume(folder)
    control_requests.request_stop(folder)
    assert not (folder.path / "job").exists(), "the batch system was told"
