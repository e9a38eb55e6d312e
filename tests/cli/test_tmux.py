"""The whole way in a real tmux at 80×24: first start, a guided run of the shipped sample, a lost server, and back."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.runs import store
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import until
from tests.support.terminal import MAIN, ROOT


class Tmux:
    """A tmux server of its own, with the app in a window of 80×24."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._socket = home / "tmux"

    def call(self, *arguments: str) -> str:
        command = ["tmux", "-f", os.devnull, "-S", str(self._socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def open_app(self) -> None:
        variables = {"DPO_TUI_HOME": self.home, "PYTHONPATH": ROOT, "LANG": "C.UTF-8"}
        given = [f"{name}={value}" for name, value in variables.items()]
        command = shlex.join(["env", "-u", "TMUX", *given, sys.executable, "-c", MAIN])
        self.call("new-session", "-d", "-x", "80", "-y", "24", command)

    def kill(self) -> None:
        self.call("kill-server")
        until(lambda: not self.call("list-sessions"))

    def press(self, *keys: str) -> None:
        self.call("send-keys", *keys)

    @property
    def screen(self) -> str:
        return self.call("capture-pane", "-p")

    def wait(self, text: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while text not in (screen := self.screen):
            assert time.monotonic() < end, f"{text!r} is not on the screen:\n{screen}"
            time.sleep(0.1)
        return screen


@pytest.fixture
def tmux(home: Path) -> Iterator[Tmux]:
    home.mkdir()
    server = Tmux(home)
    yield server
    server.kill()


def test_from_a_first_start_to_a_finished_run_with_a_lost_server_between(tmux: Tmux, home: Path) -> None:
    """With Enter and what the footer names; killing tmux does not harm the run."""
    tmux.open_app()
    tmux.wait("No runs yet")
    tmux.press("Enter")
    tmux.wait("suits this machine")
    tmux.press("Enter")
    tmux.wait("[2 Model]")
    tmux.wait("shipped: the whole job in a minute")
    tmux.press("Enter")
    tmux.wait("[5 Check]")
    tmux.wait("672 of 672 can be used")
    tmux.press("Enter")
    screen = tmux.wait("margin")
    assert "loss" in screen
    (folder,) = store.all_runs()

    until(lambda: status_of(folder).live)  # the monitor opens while the supervisor starts
    tmux.kill()
    tmux.open_app()
    tmux.wait("demo")
    tmux.press("Enter")
    tmux.wait("✓ done", 400)
    assert status_of(folder).status == "done"
    assert folder.adapter.exists()
    assert max(len(line) for line in tmux.screen.splitlines()) <= 80
