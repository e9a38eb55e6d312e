"""Processes: which is which, and which ends when another one dies. Standard library only.

The death signal (`set_pdeathsig`) is the kernel's: each process asks to be signalled when its own parent dies. Between
supervisor and worker there may be another process, such as torchrun's agent. It is started through
`dpo_tui.runs.launchers.end_with_parent`, so that it ends with the supervisor, and the ranks end with it.

Linux answers everything; on macOS the questions that need ``/proc`` or ``prctl`` degrade to "not known".
"""

import os
import signal
import sys
from functools import cache
from pathlib import Path

from dpo_tui.processes.death_signal import prctl, request_death_signal

SUPERVISOR_PID_VARIABLE = "DPO_TUI_SUPERVISOR_PID"
"""The supervisor puts its pid here for the worker; see `set_pdeathsig`."""
PARENT_PID_VARIABLE = "DPO_TUI_PARENT_PID"
"""A process between supervisor and worker puts its pid here for the processes that it starts; see `set_pdeathsig`."""

# linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# Position of `starttime` after the command's closing bracket in /proc/PID/stat (proc(5): field 22; the state is 3).
_START_TICKS = 22 - 3


@cache
def boot_id() -> str:
    """What tells this boot of this machine from every other; empty when the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _darwin_boot_id() if sys.platform == "darwin" else ""


def host_name() -> str:
    """This machine's name (`socket` knows as well, and takes longer to import)."""
    return os.uname().nodename


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; ``None`` when there is no such living process.

    A zombie is dead: it only waits for its parent to read its exit status.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command may hold blanks and brackets; the fields follow its last closing bracket.
    values = stat[stat.rindex(b")") + 2 :].split()
    return None if values[0] in (b"Z", b"X") else int(values[_START_TICKS])


def is_same_process(pid: int | None, start: int | None) -> bool:
    """Whether the process that had this pid and start still lives, and not a later one that got its pid.

    Only meaningful within one boot: compare `boot_id` first. Without a start (macOS) the pid alone decides.
    """
    if pid is None or pid <= 0:
        return False
    if start is not None or os.path.isdir("/proc/self"):
        return start is not None and process_start(pid) == start
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def parent_of(pid: int) -> int | None:
    """The parent's pid of a living process; ``None`` when there is no such process, or the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
    return None if state in (b"Z", b"X") else int(parent)


def set_pdeathsig(number: int = signal.SIGTERM, parent: int | None = None) -> bool:
    """Ask the kernel to send this process a signal when its parent dies; the worker calls it first of all.

    The kernel does not report a parent that died before this call, so then the signal is sent here.

    Args:
        number: the signal.
        parent: the pid that the parent must have; by default what the environment says (`_parent_is_gone`).

    Returns:
        Whether the request stands (Linux only).
    """
    # The request first, then the look at the parent: in this order no death falls in between.
    if not request_death_signal(number):
        return False
    if _parent_is_gone(parent):
        os.kill(os.getpid(), number)
    return True


def _parent_is_gone(expected: int | None) -> bool:
    """Whether the process that started this one has died already.

    An orphan has a new parent, which may be the supervisor itself (it is a subreaper), so a parent that lives proves
    nothing. The pid of the real one comes from, in this order: the argument, the process in between
    (`PARENT_PID_VARIABLE`), the supervisor (`SUPERVISOR_PID_VARIABLE`). A process in between that has not put its pid
    there, such as a shell script around a worker, is fine as long as the supervisor is an ancestor.
    """
    actual = os.getppid()
    expected = expected or _pid_from(PARENT_PID_VARIABLE)
    if expected is not None:
        return actual != expected
    supervisor = _pid_from(SUPERVISOR_PID_VARIABLE)
    if supervisor is None:
        return False  # started by hand
    ancestor: int | None = actual
    while ancestor:
        if ancestor == supervisor:
            return False
        ancestor = parent_of(ancestor)
    # 0 is above the first process: all ancestors were seen. None is one that cannot be seen: no proof of a death.
    return ancestor == 0


def _pid_from(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None


def set_child_subreaper() -> bool:
    """Become the parent of orphaned grandchildren, so that none is left behind holding GPU memory (Linux only)."""
    return prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _darwin_boot_id() -> str:
    import ctypes

    try:
        answer = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(len(answer))
        ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", answer, ctypes.byref(size), None, 0)
        return answer.value.decode("ascii", "replace")
    except (OSError, AttributeError):
        return ""
