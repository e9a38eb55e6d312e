"""A disk that takes nothing is named, when a run fails, when it is shown, and when it is to be resumed."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import disk_problem, start_run
from tests.support.repository import ROOT
from tests.support.supervised_runs import edit_state, fresh_home, make  # noqa: F401 - a fixture

_BEGIN = """
import os, subprocess, sys
from pathlib import Path
from dpo_tui.errors import RunError
from dpo_tui.runs import run_lock, start_run
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import begin, ended, holding, same_worker_argv, state_of, until
mounted = os.environ["DPO_TUI_HOME"]
def refused():
    try:
        start_run.resume(folder)
    except RunError as error:
        print("resume:", error.message.replace(mounted, "HOME").replace(folder.id, "ID"), "|", error.hint)
folder = begin("--hold-at", 2)
holding(folder, 2)
"""
_FULL = (
    _BEGIN
    + """
ballast = Path(mounted, "ballast")
with open(ballast, "wb", buffering=0) as out:
    try:
        while out.write(b"x" * 512): pass
    except OSError as error:
        assert error.errno == 28, error
(folder.path / "go").touch()
until(lambda: status_of(folder).status == "failed")
what, remedy = state_of(folder).reason.split("\\n")
print(what.split("; its last words")[0], "|", remedy)
before = os.listdir(folder.path)
until(lambda: run_lock.owner(folder.lock) is None)
refused()
assert os.listdir(folder.path) == before
ballast.unlink()
start_run.resume(folder, same_worker_argv(folder))
print("then:", ended(folder).status)
"""
)
_READ_ONLY = (
    _BEGIN
    + """
# Over itself: a file system with files open for writing is not made read-only by anybody but its own errors.
subprocess.run(["mount", "--bind", mounted, mounted], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
os.kill(state_of(folder).worker_pid, 9)
until(lambda: status_of(folder).status == "stalled")
print(status_of(folder).reason.replace(str(state_of(folder).worker_pid), "PID"))
until(lambda: status_of(folder).status == "lost")
print(status_of(folder).reason.replace(str(state_of(folder).supervisor_pid), "PID").split("; supervisor.log")[0])
refused()
subprocess.run(["umount", mounted], check=True)
start_run.resume(folder, same_worker_argv(folder))
print("then:", ended(folder).status)
"""
)


def on_a_small_disk(tmp_path: Path, script: str, patience: str) -> list[str]:
    """Run a script with a tmpfs of a private mount namespace as home; return the lines that it printed."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    shell = 'mount -t tmpfs -o size=512k none "$0" || exit 77; exec "$@"'
    seen = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, str(small), sys.executable, "-c", script],
        check=False, capture_output=True, text=True,
        env={**os.environ, "DPO_TUI_HOME": str(small), "PYTHONPATH": str(ROOT), "DPO_TUI_DISK_PATIENCE": patience},
    )  # fmt: skip
    if seen.returncode == 77:
        pytest.skip("this machine does not let a test mount a small file system")
    assert seen.returncode == 0, seen.stderr
    return seen.stdout.splitlines()


def test_a_worker_that_fails_on_a_full_disk_is_failed_by_it_and_not_resumed_on_it(tmp_path: Path) -> None:
    remedy = "Free some space there, then resume: checkpoints that were complete are whole."
    assert on_a_small_disk(tmp_path, _FULL, "2") == [
        f"its disk is full (ENOSPC); ended with exit code 1 | {remedy}",
        f"resume: run ID cannot be resumed: its disk is full (ENOSPC): HOME/runs/ID | {remedy}",
        "then: done",
    ]


def test_a_disk_that_has_become_read_only_is_named_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    words = "its file system is read-only, as after an error of the disk (EROFS)"
    assert on_a_small_disk(tmp_path, _READ_ONLY, "3") == [
        f"its worker (process PID) has ended, and its supervisor cannot record how; {words}",
        f"its supervisor (process PID) ended and recorded no end: {words}",
        f"resume: run ID cannot be resumed: {words}: HOME/runs/ID | "
        "The system's log (dmesg) may say why. When it can be written again, resume.",
        "then: done",
    ]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "the disk quota of this account is used up (EDQUOT)"),
        (errno.EIO, "its disk does not work: a write failed (EIO)"),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_quota_and_a_broken_disk_are_named_where_the_data_goes_to_the_disk(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str, call: str
) -> None:
    folder = make()
    edit_state(folder, status="failed", attempt=1)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    before = sorted(os.listdir(folder.path))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(RunError, match="cannot be resumed") as refused:
            start_run.resume(folder)
    assert words in refused.value.message and refused.value.hint
    assert sorted(os.listdir(folder.path)) == before


def test_a_disk_with_room_and_a_folder_that_is_gone_are_no_problem_of_a_disk(tmp_path: Path) -> None:
    assert disk_problem.refused_write(tmp_path) is None
    assert disk_problem.refused_write(tmp_path / "gone") is None
    assert (disk_problem.seen_problem(tmp_path), disk_problem.seen_problem(tmp_path / "gone")) == ("", "")
    assert os.listdir(tmp_path) == []
