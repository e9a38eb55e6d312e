"""A memory control group of its own for processes of a run: where it is full, the kernel kills the largest of them.

Containers and Slurm's jobs live in such groups. It takes the right to make one, which root has outside of containers.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.fault_kinds.follow_up import finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.small_disk import NotPossibleHere
from benchmarks.fault_kinds.stage import Stage

_LIMIT = 200_000_000


@fault_kind(
    "memory-group", "a full memory control group of worker, or of worker and supervisor: the kernel kills the worker"
)
def memory_group(stage: Stage) -> None:
    """The run fails with words about memory; resume outside of the group goes on."""
    step = stage.rng.randint(1, 9)
    run = stage.started_at(step, memory_at=step + 1)
    worker, supervisor = stage.worker_pid(run), stage.supervisor_pid(run)
    together = stage.rng.random() < 0.5
    # What the kernel does in a group of the worker's alone, the supervisor cannot tell from kills elsewhere.
    said = ("the kernel's out-of-memory killer ended it",) if together else ("or the kernel ran out of memory",)
    with _group([worker, supervisor] if together else [worker]):
        stage.let_go()
        look(stage, run, ["failed"], said)
    go_on(stage, run, options={})
    finish(stage)


@contextmanager
def _group(members: list[int]) -> Iterator[None]:
    """Put processes into a new group below this process's own; they are back in it afterwards.

    Raises:
        NotPossibleHere: this user may make none.
    """
    parent, limit = _own_group()
    group = parent / f"dpo-tui-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(_LIMIT), encoding="ascii")
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        raise NotPossibleHere(f"no memory control group can be made: {error.strerror}") from error
    try:
        for pid in members:
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield
    finally:
        for _ in range(100):
            for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
                with suppress(OSError):  # it has ended meanwhile
                    (parent / "cgroup.procs").write_text(pid, encoding="ascii")
            with suppress(OSError):  # busy until the last process has been collected
                group.rmdir()
                break
            time.sleep(0.1)


def _own_group() -> tuple[Path, str]:
    """The folder of this process's memory control group, and the name of the file with its limit."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, inside = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory", inside.lstrip("/")), "memory.limit_in_bytes"
    return Path("/sys/fs/cgroup", inside.lstrip("/")), "memory.max"
