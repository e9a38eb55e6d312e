"""End processes that a worker left behind: data-loader processes and the like hold GPU memory.

Standard library only.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from dpo_tui.runs.process import SUPERVISOR_PID_VARIABLE, parent_of, process_start

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
    return _end(lambda: _children(os.getpid()), group)


def end_orphans(supervisor: int | None, start: int | None) -> list[int]:
    """End what is left of a worker that was killed together with its supervisor: processes of another parent by now.

    They are known by the supervisor's pid in the environment that its worker got and passed on.

    Args:
        supervisor: that supervisor's pid; ``None`` where there was none.
        start: its start: a process that is older is not of that run, and an earlier supervisor had the same pid.

    Returns:
        The pids that were signalled; empty if nothing is left, and where there is no ``/proc``.
    """
    if supervisor is None or start is None:
        return []
    mark = f"{SUPERVISOR_PID_VARIABLE}={supervisor}".encode()
    return _end(lambda: [pid for pid in _processes() if pid != os.getpid() and _is_marked(pid, mark, start)])


def _end(left_over: Callable[[], list[int]], group: int | None = None) -> list[int]:
    """SIGTERM, and SIGKILL after a while, until a process group and what a function returns have ended."""
    began = time.monotonic()
    signalled: set[int] = set()
    number = signal.SIGTERM
    while True:
        reap()
        # After `reap`, since a zombie still counts as a member of its group, and again in every round: when a process
        # among them ends, its own children become ours.
        left = left_over()
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
    return [pid for pid in _processes() if parent_of(pid) == parent]


def _processes() -> list[int]:
    """All processes of this machine; none where there is no ``/proc``."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _is_marked(pid: int, mark: bytes, not_before: int) -> bool:
    """Whether a living process, not older than that, has this setting in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            settings = environment.read().split(b"\0")
    except OSError:
        return False  # it has ended, or is another user's
    return mark in settings and (process_start(pid) or 0) >= not_before
