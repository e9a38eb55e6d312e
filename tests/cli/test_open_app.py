"""The app ends when it is told to, whatever its threads do."""

import subprocess
import sys

import pytest

from dpo_tui.processes.child_environment import child_environment

_HELD = """
import threading
from textual import work
from textual.app import App
from dpo_tui.cli import open_app
from dpo_tui.processes.timed_call import TimedCall

class Held(App[None]):
    def on_mount(self):
        self.hold()
        self.set_timer(0.1, self.exit)

    @work(thread=True)
    def hold(self):
        %s

open_app._PATIENCE = %s
open_app.run_and_leave(Held(), headless=True)
print("not reached: the thread goes on for ever")
"""


@pytest.mark.parametrize(
    ("holds", "patience"),
    [
        ("while True: pass", 0.1),
        # Longer than this test may take: nobody waits for a driver that hangs.
        ("TimedCall('asked', 1000)(threading.Event().wait)", 1000),
    ],
    ids=["works", "waits for a driver"],
)
def test_a_thread_that_never_ends_does_not_hold_the_app(holds: str, patience: float) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _HELD % (holds, patience)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
