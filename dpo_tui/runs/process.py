"""Processes: who is who, who goes when whom dies, and what an exit code means. Standard library only.

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

# linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# Position of `starttime` after the command's closing bracket in /proc/PID/stat (proc(5): field 22; the state is 3).
_START_TICKS = 22 - 3
_SHELL_SIGNAL = 128


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


def set_pdeathsig(number: int = signal.SIGTERM, parent: int | None = None) -> bool:
    """Ask the kernel to send this process a signal when its parent dies; the worker calls it first of all.

    Args:
        number: the signal.
        parent: the pid that the parent must have; by default the supervisor's, from the environment. If it has died
            before this call, the kernel would never tell, so the signal is sent here.

    Returns:
        Whether the request stands (Linux only).
    """
    if not request_death_signal(number):
        return False
    if parent is None:
        told = os.environ.get(SUPERVISOR_PID_VARIABLE, "")
        parent = int(told) if told.isdigit() else None
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
    return True


def set_child_subreaper() -> bool:
    """Become the parent of orphaned grandchildren, so that none is left behind holding GPU memory (Linux only)."""
    return prctl(_PR_SET_CHILD_SUBREAPER, 1)


def describe_exit(returncode: int, *, out_of_memory: bool | None = None) -> str:
    """Say in words how a process ended.

    Args:
        returncode: as `subprocess` gives it, negative for a signal.
        out_of_memory: whether the kernel's out-of-memory killer ran meanwhile; ``None`` when that is not known.
    """
    number = -returncode if returncode < 0 else returncode - _SHELL_SIGNAL
    if number <= 0 or number >= signal.NSIG:
        return "ended normally" if returncode == 0 else f"ended with exit code {returncode}"
    told = f"killed by signal {number} ({_signal_name(number)})"
    if returncode > 0:
        told = f"ended with exit code {returncode}, which launchers use for: {told}"
    if number == signal.SIGKILL:
        if out_of_memory:
            return f"{told}: the kernel's out-of-memory killer ended it, because the box ran out of RAM"
        if out_of_memory is None:
            return f"{told}: someone killed it, or the kernel ran out of memory"
        return f"{told}: someone killed it (the kernel's out-of-memory killer did not run)"
    meaning = _MEANINGS.get(number)
    return f"{told}: {meaning}" if meaning else told


def kernel_oom_kills() -> int | None:
    """How often the kernel's out-of-memory killer has struck, here and on the whole box; ``None`` when not readable.

    Only a difference between two readings means something. Sources: ``memory.events`` (cgroup v2),
    ``memory.oom_control`` (v1), and ``/proc/vmstat`` (Linux 4.13 and newer).
    """
    counts = [count for path in _oom_counters() if (count := _counter(path, "oom_kill")) is not None]
    return sum(counts) if counts else None


_MEANINGS = {
    int(signal.SIGSEGV): "a crash in native code",
    int(signal.SIGABRT): "native code gave up; train.log has its last words",
    int(signal.SIGBUS): "a memory-mapped file went away, or the disk or shared memory (/dev/shm) is full",
    int(signal.SIGILL): "a library needs a newer processor than this one",
    int(signal.SIGTERM): "someone, or the system, asked it to end",
    int(signal.SIGINT): "someone interrupted it",
    int(signal.SIGHUP): "its terminal went away",
    int(signal.SIGXFSZ): "a file grew past the limit that this account has",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def _oom_counters() -> list[Path]:
    found = [Path("/proc/vmstat")]
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, group = line.split(":", 2)
        inside = group.lstrip("/")
        if not controllers:
            found.append(Path("/sys/fs/cgroup", inside, "memory.events"))
        elif "memory" in controllers.split(","):
            found.append(Path("/sys/fs/cgroup/memory", inside, "memory.oom_control"))
    return found


def _counter(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def _darwin_boot_id() -> str:
    import ctypes

    try:
        answer = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(len(answer))
        ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", answer, ctypes.byref(size), None, 0)
        return answer.value.decode("ascii", "replace")
    except (OSError, AttributeError):
        return ""
