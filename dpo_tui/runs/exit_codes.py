"""Exit codes of the worker, and a description of any process's exit. Standard library only."""

import signal
from dataclasses import dataclass
from pathlib import Path

DONE = 0
FAILED = 1
OUT_OF_MEMORY = 75  # EX_TEMPFAIL of sysexits.h: trying again, smaller, may work.
STOPPED = 130  # 128 + SIGINT, as shells report a stop by the user.
"""The worker's exit codes; every other one means that it failed."""

_SHELL_SIGNAL = 128
"""Shells and launchers report a death by signal N as exit code 128 + N."""


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended, whatever exit code the launcher's own processes had.

    Args:
        code: `DONE`, `STOPPED` or `OUT_OF_MEMORY`; any other means that it failed.
        reason: why it failed, with what to do on a second line; empty if that is unknown or it did not fail.
    """

    code: int
    reason: str = ""


def describe_exit(returncode: int, *, out_of_memory: bool | None = None) -> str:
    """Describe how a process ended.

    Args:
        returncode: as `subprocess` gives it, negative for a signal.
        out_of_memory: whether the kernel's out-of-memory killer ended a process of the same control group meanwhile;
            ``None`` when that is unknown.
    """
    number = -returncode if returncode < 0 else returncode - _SHELL_SIGNAL
    if number <= 0 or number >= signal.NSIG:
        return "ended normally" if returncode == 0 else f"ended with exit code {returncode}"
    text = f"killed by signal {number} ({_signal_name(number)})"
    if returncode > 0:
        text = f"ended with exit code {returncode}, which launchers use for: {text}"
    if number == signal.SIGKILL:
        if out_of_memory:
            return (
                f"{text}: the kernel's out-of-memory killer ended it, because the box, or what this container or "
                "session may use of it, ran out of RAM"
            )
        if out_of_memory is None:
            return f"{text}: someone killed it, or the kernel ran out of memory"
        return f"{text}: someone killed it (the kernel's out-of-memory killer did not run)"
    meaning = _MEANINGS.get(number)
    return f"{text}: {meaning}" if meaning else text


@dataclass(frozen=True)
class OutOfMemoryKills:
    """How many processes the kernel's out-of-memory killer has ended; only the difference of two counts means anything.

    Args:
        group: those in this process's control group, which its worker mostly shares; ``None`` where they are not
            counted.
        machine: all of them, whoever's they were; ``None`` where they are not counted.
    """

    group: int | None
    machine: int | None

    def since(self, before: "OutOfMemoryKills") -> bool | None:
        """Whether one was ended in the control group since an earlier count; ``None`` when that is unknown."""
        if self.group is not None and before.group is not None and self.group > before.group:
            return True
        # On a box that is shared, a kill somewhere is no sign of one here; that there was none is one. That none was
        # counted in this group is not: a step of Slurm and a scope of systemd have groups of their own.
        if self.machine is not None and before.machine is not None and self.machine == before.machine:
            return False
        return None


def kernel_oom_kills() -> OutOfMemoryKills:
    """Count the kills by the kernel's out-of-memory killer so far.

    Sources: ``memory.events`` (cgroup v2), ``memory.oom_control`` (v1), and ``/proc/vmstat`` (Linux 4.13 and newer).
    """
    counts = [count for path in _group_counters() if (count := _counter(path, "oom_kill")) is not None]
    return OutOfMemoryKills(sum(counts) if counts else None, _counter(Path("/proc/vmstat"), "oom_kill"))


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


def _group_counters() -> list[Path]:
    """The files that count kills in this process's control groups, whether they exist or not."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
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
