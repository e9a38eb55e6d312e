"""Limits of a process: memory, open files, the size of a file."""

import resource
import signal

from benchmarks.fault_kinds.follow_up import finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.stage import Stage

_HARD = 1 << 20


@fault_kind("memory-limit", "RLIMIT_AS of the worker: its next allocations fail")
def memory_limit(stage: Stage) -> None:
    """It fails with words about memory; resume without the limit goes on."""
    step = stage.rng.randint(1, 9)
    run = stage.started_at(step, memory_at=step + 1)
    limit = 1_500_000_000
    resource.prlimit(stage.worker_pid(run), resource.RLIMIT_AS, (limit, limit))
    stage.let_go()
    # The worker's words need torch, which the limit may refuse as well: then its last words stand in the reason.
    look(stage, run, ["failed"], ("memory", "MemoryError", "libtorch", "ImportError", "Cannot allocate"))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("open-files", "RLIMIT_NOFILE of the worker: no file can be opened any more")
def open_files(stage: Stage) -> None:
    """It fails with words about open files."""
    step = stage.rng.randint(1, 9)
    run = stage.started_at(step, files_at=step + 1)
    limit = stage.rng.randint(20, 60)
    resource.prlimit(stage.worker_pid(run), resource.RLIMIT_NOFILE, (limit, limit))
    stage.let_go()
    look(stage, run, ["failed"], ("open files", "Errno 24", "exit code 1"))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("open-files-supervisor", "RLIMIT_NOFILE of the supervisor: it can open nothing while its worker ends")
def open_files_of_supervisor(stage: Stage) -> None:
    """The end is recorded once files can be opened again, or the run is lost and says so."""
    run = stage.started_at(stage.rng.randint(1, 11))
    supervisor = stage.supervisor_pid(run)
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, before[1]))
    send(stage.worker_pid(run), signal.SIGKILL)
    stage.until(lambda: stage.worker(run) is None, "the worker to end")
    if stage.rng.random() < 0.7:
        look(stage, run, ["stalled", "failed", "lost"])
    try:
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
    except ProcessLookupError:
        stage.notes.append("the supervisor had ended")
    look(stage, run, ["failed", "lost"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("file-size-limit", "RLIMIT_FSIZE of the worker: files stop growing (SIGXFSZ or EFBIG)")
def file_size_limit(stage: Stage) -> None:
    """A save fails; the checkpoints that were whole stay so."""
    run = stage.started_at(4, checkpoint_bytes=200_000)
    limit = stage.rng.randint(10_000, 150_000)
    resource.prlimit(stage.worker_pid(run), resource.RLIMIT_FSIZE, (limit, _HARD))
    stage.let_go()
    look(stage, run, ["failed"], ("too large", "SIGXFSZ", "Errno 27", "file size"))
    go_on(stage, run, options={}, right=[3])
    finish(stage)
