"""Who lives: the processes of a home, read from /proc without the product's own code, which is what is checked."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STATE, _START = 0, 19
"""Places of the fields in /proc/PID/stat behind the name of the program."""


@dataclass(frozen=True)
class Process:
    """A process that lives.

    Args:
        pid: its number.
        start: when it began, in clock ticks after boot: with the pid it names one process for ever.
        command: its command line.
    """

    pid: int
    start: int
    command: str

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a run's supervisor."""
        return "dpo_tui.runs.supervisor" in self.command or "ranks_launcher.py" in self.command

    @property
    def is_worker(self) -> bool:
        """Whether it is a run's worker, or one of its ranks, and no supervisor, whose command names the worker's."""
        return not self.is_supervisor and ("dpo_tui.train" in self.command or "standin_ranks.py" in self.command)

    def belongs_to(self, run: Path) -> bool:
        """Whether its command names this run."""
        return run.name in self.command


def running_now() -> frozenset[str]:
    """The pids of all processes, as texts."""
    return frozenset(name for name in os.listdir("/proc") if name.isdigit())


def processes_of(home: Path, others: frozenset[str] = frozenset()) -> list[Process]:
    """The living processes whose environment names this home.

    Args:
        home: the home.
        others: pids of processes that began before the home, which need not be read each time.
    """
    wanted = f"DPO_TUI_HOME={home}\0".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and entry.name not in others and int(entry.name) != os.getpid():
            with suppress(OSError, ValueError, IndexError):
                if wanted in Path(entry.path, "environ").read_bytes() and (one := _process(int(entry.name))):
                    found.append(one)
    return found


def lives(pid: int, start: int | None = None) -> bool:
    """Whether a process lives; a zombie does not."""
    with suppress(OSError, ValueError, IndexError):
        found = _process(pid)
        return found is not None and start in (None, found.start)
    return False


def children_of(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = _fields(int(entry.name))
                if int(fields[1]) == pid and fields[_STATE] not in "ZX":
                    found.append(int(entry.name))
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process; one that is gone is no error."""
    if pid <= 1:
        raise ValueError(f"no process of a run has the pid {pid}")
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def end_all(home: Path) -> None:
    """Kill whatever still runs in a home, so that one fault leaves nothing to the next."""
    for _ in range(20):
        left = processes_of(home)
        if not left:
            return
        for one in left:
            send(one.pid, signal.SIGKILL)
        time.sleep(0.05)


def _process(pid: int) -> Process | None:
    fields = _fields(pid)
    if fields[_STATE] in "ZX":
        return None
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return Process(pid, int(fields[_START]), command.strip())


def _fields(pid: int) -> list[str]:
    # Behind the last bracket: the program's name, in brackets, may hold spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
