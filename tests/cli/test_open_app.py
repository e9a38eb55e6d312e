"""The app ends when it is told to, whatever its threads do."""

import subprocess
import sys

from dpo_tui.processes.child_environment import child_environment

_HELD = """
from textual import work
from textual.app import App
from dpo_tui.cli import open_app

class Held(App[None]):
    def on_mount(self):
        self.hold()
        self.set_timer(0.1, self.exit)

    @work(thread=True)
    def hold(self):
        while True:
            pass

open_app._PATIENCE = 0.1
open_app.run_and_leave(Held(), headless=True)
print("not reached: the thread goes on for ever")
"""


def test_a_thread_that_never_ends_does_not_hold_the_app() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _HELD],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
