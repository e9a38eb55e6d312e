"""Identity of processes, and the signal at the death of a parent, in this process and with real children."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.processes.death_signal import prctl, request_death_signal
from dpo_tui.runs.process import (
    PARENT_PID_VARIABLE,
    SUPERVISOR_PID_VARIABLE,
    is_same_process,
    parent_of,
    process_start,
    set_child_subreaper,
    set_pdeathsig,
)
from tests.support.supervised_runs import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that this process has sent to itself; afterwards nothing is asked of the kernel any more."""
    for variable in (PARENT_PID_VARIABLE, SUPERVISOR_PID_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    yield received
    request_death_signal(0)
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def child() -> Iterator[int]:
    """A child of this process."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def zombie() -> Iterator[int]:
    """A child that has ended, and whose exit status nobody has collected."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_a_process_is_known_by_its_pid_and_its_start(child: int, zombie: int) -> None:
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    start = process_start(child)
    assert start == int(fields[19]), "field 22 of proc(5), counted from the state, which is field 3"
    assert is_same_process(child, start)
    assert not is_same_process(child, start - 1), "another process had this pid"
    assert not is_same_process(child, None), "it had ended before its start could be read"
    assert process_start(zombie) is None
    assert not any(is_same_process(pid, start) for pid in (None, 0, -child, zombie))
    assert is_same_process(1, process_start(1)), "in a container a supervisor may be the first process"


def test_the_parent_of_a_living_process_is_known(child: int, zombie: int) -> None:
    assert parent_of(child) == os.getpid()
    assert parent_of(os.getpid()) == os.getppid()
    assert parent_of(zombie) is None
    assert parent_of(2**22 + 1) is None, "no pid is that large"


def test_a_name_with_brackets_and_blanks_is_read_over(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 0 (b"
    shutil.copy2(shutil.which("sleep") or "", odd)
    process = subprocess.Popen([odd, "60"])
    try:
        until(lambda: ") Z 0 (" in Path(f"/proc/{process.pid}/comm").read_text(), "its name")
        assert parent_of(process.pid) == os.getpid()
        assert process_start(process.pid) is not None
    finally:
        process.kill()
        process.wait()


def test_a_parent_that_is_there_sends_nothing(signals: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_pdeathsig(signal.SIGUSR1)
    assert set_pdeathsig(signal.SIGUSR1, parent=os.getppid())
    monkeypatch.setenv(PARENT_PID_VARIABLE, str(os.getppid()))
    monkeypatch.setenv(SUPERVISOR_PID_VARIABLE, "no number")
    assert set_pdeathsig(signal.SIGUSR1)
    assert signals == []


@pytest.mark.parametrize("variable", ["", PARENT_PID_VARIABLE, SUPERVISOR_PID_VARIABLE])
def test_a_parent_that_died_before_the_request_is_noticed(
    signals: list[int], monkeypatch: pytest.MonkeyPatch, child: int, variable: str
) -> None:
    """The kernel would send nothing: this process has another parent by now, who lives. So will the supervisor, here a
    process that is no ancestor of this one."""
    if variable:
        monkeypatch.setenv(variable, str(child))
        set_pdeathsig(signal.SIGUSR1)
    else:
        set_pdeathsig(signal.SIGUSR1, parent=child)
    assert signals == [signal.SIGUSR1]


def test_a_process_in_between_that_says_nothing_is_accepted_below_its_supervisor(
    signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a shell script around the worker: its parent is not the supervisor, and it is no orphan."""
    above = parent_of(os.getppid())
    monkeypatch.setenv(SUPERVISOR_PID_VARIABLE, str(above or os.getppid()))
    set_pdeathsig(signal.SIGUSR1)
    assert signals == []


def test_the_process_in_between_is_believed_before_the_supervisor(
    signals: list[int], monkeypatch: pytest.MonkeyPatch, child: int
) -> None:
    monkeypatch.setenv(SUPERVISOR_PID_VARIABLE, str(os.getppid()))
    monkeypatch.setenv(PARENT_PID_VARIABLE, str(child))
    set_pdeathsig(signal.SIGUSR1)
    assert signals == [signal.SIGUSR1]


def test_orphans_become_children_of_a_subreaper() -> None:
    assert set_child_subreaper()
    try:
        started = subprocess.run(
            ["sh", "-c", "sleep 60 >&- 2>&- & echo $!"], capture_output=True, text=True, check=True
        )
        orphan = int(started.stdout)
        until(lambda: parent_of(orphan) == os.getpid(), "a new parent")
        os.kill(orphan, signal.SIGKILL)
        assert os.waitpid(orphan, 0)[0] == orphan
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0)


def test_a_child_gets_the_signal_when_its_parent_dies() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from dpo_tui.runs.process import set_pdeathsig\n"
        "assert set_pdeathsig(signal.SIGKILL)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    parent = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    start = process_start(worker)
    assert start is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not is_same_process(worker, start), "its end")
