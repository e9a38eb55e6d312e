"""Drive the app under Textual's pilot: a finished run to show, the screen as text, and waiting for a condition."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from tests.support.fake_run import begin, progress, write_history

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x50": (200, 50)}
"""Terminal sizes, (columns, rows), by the name that a snapshot bears."""
SIZES_AND_THEMES = [
    ("80x24", "dark"),
    ("80x24", "light"),
    ("80x24", "ansi-16"),
    ("120x40", "dark"),
    ("120x40", "light"),
    ("120x40", "ansi-16"),
]
"""What a snapshot test is parametrized over: a key of `SIZES` and the name of a theme."""


def ended_run(
    home: Path, run_id: str, name: str, status: str = "done", *, reason: str = "", steps: int = 120
) -> RunFolder:
    """A run that ended, with metrics of every step; the random numbers in them are always the same."""
    folder = RunFolder(home / "runs" / run_id)
    state = begin(folder, name)
    random.seed(7)
    write_history(folder, 1, steps, steps)
    progress(folder, steps, steps)
    document = {**state.to_dict(), "status": status, "reason": reason, "ended_at": time.time()}
    write_state(folder, State(**document))
    return folder


def screen_text(pilot: Any) -> str:
    """The rows of the screen, without colours."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def until(pilot: Any, holds: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until a condition holds; the deadline stops a test that hangs and measures no speed."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, screen_text(pilot)
        await pilot.pause(0.05)
