"""Process identity (pid and start time, boot id) and the parent-death signal. Standard library only.

Linux's parent-death signal (`set_pdeathsig`, PR_SET_PDEATHSIG) is sent to a process that requested it when its direct
parent dies. Between supervisor and worker there may be another process, such as torchrun's agent. It is started through
`dpo_tui.runs.launchers.end_with_parent`, so that it ends with the supervisor, and the ranks end with it.

On macOS everything that needs ``/proc`` or ``prctl`` answers "unknown".
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
    """The kernel's id of this boot of this machine; empty where it is unavailable.

    Pids and start times are comparable only within one boot.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _darwin_boot_id() if sys.platform == "darwin" else ""


def host_name() -> str:
    """This machine's name; `socket.gethostname` without the import of `socket`."""
    return os.uname().nodename


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks after boot; ``None`` when there is no such living process.

    A zombie counts as dead: it only waits for its parent to collect its exit status.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name may contain blanks and brackets; the other fields follow its last closing bracket.
    values = stat[stat.rindex(b")") + 2 :].split()
    return None if values[0] in (b"Z", b"X") else int(values[_START_TICKS])


def is_same_process(pid: int | None, start: int | None) -> bool:
    """Whether the process with this pid and start time still lives, and not a later one that got its pid.

    Only meaningful within one boot: compare `boot_id` first. Without a start time (macOS) the pid alone decides.
    """
    if pid is None or pid <= 0:
        return False
    # Where there is /proc, a missing start time means that the process had ended before it could be read. Another
    # process may have its pid by now, so the pid alone must not decide.
    if start is not None or os.path.isdir("/proc/self"):
        return start is not None and process_start(pid) == start
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it lives, as another user
    except OSError:
        return False
    return True


def parent_of(pid: int) -> int | None:
    """Parent pid of a living process; ``None`` when there is no such process, or without ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
    return None if state in (b"Z", b"X") else int(parent)


def set_pdeathsig(number: int = signal.SIGTERM, parent: int | None = None) -> bool:
    """Ask the kernel to signal this process when its parent dies; the worker calls it before anything else.

    If the parent died before this call, the kernel sends nothing, so the signal is sent from here.

    Args:
        number: the signal.
        parent: the pid that the parent must have; by default what the environment says (`_parent_is_gone`).

    Returns:
        Whether the request was made (Linux only).
    """
    # First the request, then the check of the parent: in the other order a death between the two would go unnoticed.
    if not request_death_signal(number):
        return False
    if _parent_is_gone(parent):
        os.kill(os.getpid(), number)
    return True


def _parent_is_gone(expected: int | None) -> bool:
    """Whether the process that started this one has died already.

    An orphan gets a new parent, which may be the supervisor itself (it is a subreaper), so a living parent proves
    nothing. The pid of the original parent is taken from, in this order: the argument, the process in between
    (`PARENT_PID_VARIABLE`), the supervisor (`SUPERVISOR_PID_VARIABLE`). A process in between that does not set its
    variable, such as a shell script around a worker, is accepted as long as the supervisor is an ancestor.
    """
    actual = os.getppid()
    expected = expected or _pid_from(PARENT_PID_VARIABLE)
    if expected is not None:
        return actual != expected
    supervisor = _pid_from(SUPERVISOR_PID_VARIABLE)
    if supervisor is None:
        return False  # started without a supervisor, by a user
    ancestor: int | None = actual
    while ancestor:
        if ancestor == supervisor:
            return False
        ancestor = parent_of(ancestor)
    # 0 is the parent of process 1: all ancestors were seen, and the supervisor is none of them. None is an ancestor
    # that cannot be read (another pid namespace): that proves no death.
    return ancestor == 0


def _pid_from(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None


def set_child_subreaper() -> bool:
    """Become the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER), so that they can be found and ended.

    Returns:
        Whether the kernel accepted it (Linux only).
    """
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
