"""The app over a real SSH connection that drops, dies without a word, or is slow; logging in again, and tmux inside."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import process_start
from dpo_tui.runs.status import status_of
from tests.support.app import ended_run
from tests.support.slow_line import SlowLine
from tests.support.ssh_server import SshServer, noting_its_pid, require_ssh
from tests.support.supervised_runs import begin, ended, fresh_home, go, holding, state_of, until  # noqa: F401 - a fixture
from tests.support.terminal import MAIN, Terminal

APP = [sys.executable, "-c", MAIN]
START_AND_WATCH = """
import sys
from tests.support.supervised_runs import begin
sys.argv = ["dpo-tui", "attach", begin("--hold-at", 2, name="begun-over-ssh").id]
from dpo_tui.cli import main
main()
"""
"""In the session that will drop: start a run, and watch it."""


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[SshServer]:
    require_ssh()
    with SshServer(tmp_path / "ssh", home) as found:
        yield found


def pid_in(file: Path) -> int:
    """The pid of a program that was started by `noting_its_pid`."""
    return int(until(lambda: file.exists() and file.read_text().strip(), "the program to start"))


def gone(pid: int) -> bool:
    return process_start(pid) is None


def kill_client(terminal: Terminal) -> None:
    """The connection drops: the client is killed, and its terminal goes away."""
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.wait(10)
    terminal.close()


def live_run() -> RunFolder:
    (folder,) = until(store.all_runs, "the run to be made")
    holding(folder, 2)
    return folder


def test_a_run_that_was_begun_over_ssh_outlives_the_connection_and_is_watched_after_the_next_login(
    server: SshServer, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    terminal = server.login(noting_its_pid([sys.executable, "-c", START_AND_WATCH], note))
    app = pid_in(note)
    assert terminal.read(60, lambda: terminal.shows("begun-over-ssh")), terminal.text
    folder = live_run()
    before = state_of(folder)
    kill_client(terminal)
    until(lambda: gone(app), "the app to end with its connection")
    assert status_of(folder).status == "running"
    assert state_of(folder).worker_pid == before.worker_pid
    again = server.login(noting_its_pid([*APP, "attach", folder.id], note))
    assert again.read(60, lambda: again.shows("begun-over-ssh")), again.text
    again.press("q")
    assert again.wait(60) == 0
    go(folder)
    assert ended(folder).status == "done"
    again.close()


@pytest.mark.slow
def test_a_line_that_dies_without_a_word_ends_the_app_once_sshd_notices_and_never_the_run(
    home: Path, tmp_path: Path
) -> None:
    require_ssh()
    folder = begin("--hold-at", 2, name="watched")
    holding(folder, 2)
    note = tmp_path / "pid"
    with SshServer(tmp_path / "ssh", home, alive=1) as server, SlowLine(server.port) as line:
        terminal = server.login(noting_its_pid([*APP, "attach", folder.id], note), port=line.port)
        app = pid_in(note)
        assert terminal.read(60, lambda: terminal.shows("watched")), terminal.text
        line.die()
        terminal.press("?")
        until(lambda: gone(app), "the app to end with its session")
        assert status_of(folder).status == "running"
        # The client has not been told, and waits.
        assert not gone(terminal.pid)
        kill_client(terminal)
        again = server.login(noting_its_pid([*APP, "attach", folder.id], note))
        assert again.read(60, lambda: again.shows("watched")), again.text
        again.close()
    go(folder)
    assert ended(folder).status == "done"


@pytest.mark.slow
def test_in_tmux_the_app_itself_is_there_after_the_next_login(server: SshServer, home: Path, tmp_path: Path) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("tmux is not installed")
    folder = begin("--hold-at", 2, name="watched")
    holding(folder, 2)
    note, socket = tmp_path / "pid", tmp_path / "tmux"
    session = [tmux, "-f", os.devnull, "-S", str(socket)]
    inside = noting_its_pid([*APP, "attach", folder.id], note)
    try:
        terminal = server.login(shlex.join([*session, "new-session", inside]))
        app = pid_in(note)
        assert terminal.read(60, lambda: terminal.shows("watched")), terminal.text
        kill_client(terminal)
        again = server.login(shlex.join([*session, "attach-session"]))
        assert again.read(60, lambda: again.shows("watched")), again.text
        assert not gone(app), "it is the same process"
        again.press("q")
        until(lambda: gone(app), "the app to take a key")
        again.close()
    finally:
        subprocess.run([*session, "kill-server"], check=False, capture_output=True)
    go(folder)
    assert ended(folder).status == "done"


def test_entering_a_screen_takes_ten_kilobytes_of_the_connection_at_most(
    home: Path, server: SshServer, tmp_path: Path
) -> None:
    """Over a line of 256 kbit/s ten kilobytes take a third of a second, encryption and packets included."""
    for number in range(12):
        ended_run(home, f"20261101-{number:06}-aaaa", f"run-{number}", steps=60)
    with SlowLine(server.port) as line:
        terminal = server.login(shlex.join(APP), port=line.port)
        assert terminal.read(60, lambda: terminal.shows("leave it") or terminal.shows("enter")), terminal.text
        settle(terminal, line)
        used = {}
        for what, key in (("a run", "\r"), ("the list", "\x1b"), ("help", "?"), ("its end", "\x1b"), ("New", "n")):
            before = line.down
            terminal.press(key)
            assert terminal.read(60, lambda before=before: line.down > before + 500), f"{key!r} shows nothing"
            settle(terminal, line)
            used[what] = line.down - before
        terminal.close()
    assert max(used.values()) <= 10_000, used


def settle(terminal: Terminal, line: SlowLine) -> None:
    """Read until nothing has come for a second; a run that is over changes nothing by itself."""
    until(lambda: terminal.read(0.1) or time.monotonic() - line.last > 1.0, "the screen to come to rest")
