"""End what this process has started through `dpo_tui.processes.child`, from another thread than the one that waits."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from dpo_tui.processes import child


def end_own_children() -> None:
    """Kill our tools and programs of users', with what these forked; a driver or supervisor that was started stays.

    Each leads a process group of its own, and who waits for it learns of its end as of any other.
    """
    for process in psutil.Process().children():
        with suppress(OSError, psutil.Error):  # it has just ended
            if _is_child(process.cmdline()) and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)


def _is_child(command: list[str]) -> bool:
    """Whether a command line is one of those that `dpo_tui.processes.child` describes."""
    return child.__name__ in command or str(Path(child.__file__)) in command
