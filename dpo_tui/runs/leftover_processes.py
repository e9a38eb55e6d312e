"""End processes that a worker left behind: data-loader processes and the like hold GPU memory.

Standard library only.
"""

import os
import signal
import time
from contextlib import suppress

from dpo_tui.runs.process import parent_of

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL; short, since without the worker there is nothing left to save."""
_GIVE_UP = 5.0
"""Seconds after which a process that even SIGKILL does not end is left to the kernel."""
POLL = 0.02
"""Seconds between two checks of what is left."""


def reap() -> dict[int, int]:
    """Collect every child that has ended.

    Returns:
        Its exit code (negative for a signal) for each pid.
    """
    ended: dict[int, int] = {}
    while True:
        try:
            # Any child, not the worker alone: a subreaper becomes the parent of orphans, and one that nobody waits for
            # stays a zombie as long as this process lives.
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def end_all(group: int | None) -> list[int]:
    """End the worker's process group and every child of this process, which as subreaper got the orphans.

    Args:
        group: the ended worker's process group; ``None`` if it never started.

    Returns:
        The pids that were signalled; empty if the worker left nothing behind.
    """
    began = time.monotonic()
    signalled: set[int] = set()
    number = signal.SIGTERM
    while True:
        reap()
        # After `reap`, since a zombie still counts as a member of its group, and again in every round: when a process
        # among them ends, its own children become ours.
        left = _children(os.getpid())
        if not left and (group is None or not _group_lives(group)):
            return sorted(signalled)
        waited = time.monotonic() - began
        if waited > _GIVE_UP:
            return sorted(signalled)  # in uninterruptible sleep: the kernel ends it when it wakes
        if waited > _GRACE:
            number = signal.SIGKILL
        # SIGTERM at first and whenever a new child has appeared (an orphan's orphan); SIGKILL in every round.
        if not signalled or number == signal.SIGKILL or not set(left) <= signalled:
            # The group as well as the children: a member whose parent in the group still lives is no child of ours, and
            # without /proc (macOS) the group is all that is known.
            if group is not None:
                with suppress(OSError):
                    os.killpg(group, number)
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, number)
            signalled.update(left)
        time.sleep(POLL)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _children(parent: int) -> list[int]:
    """The living children of a process; none where there is no ``/proc``."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [int(name) for name in names if name.isdigit() and parent_of(int(name)) == parent]
