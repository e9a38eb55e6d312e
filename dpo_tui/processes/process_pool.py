"""Run a function over many tasks in a pool of processes, with results in the order of the tasks.

Scanning is bound by the processor, and Python runs one thread at a time, so it needs processes. The number of submitted
tasks is limited, so that memory does not grow with the number of tasks.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from dpo_tui.processes.death_signal import request_death_signal

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_in_order(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    prepare: Callable[..., None],
    arguments: tuple[object, ...] = (),
) -> Iterator[Result]:
    """Apply a function to tasks in several processes, and yield the results in the order of the tasks.

    Args:
        function: a module-level function.
        tasks: its arguments; iterated only as fast as results are consumed.
        workers: how many processes; with 1 everything runs in this one.
        prepare: called once in each process before its first task.
        arguments: of ``prepare``.
    """
    if workers <= 1:
        prepare(*arguments)
        for task in tasks:
            yield function(task)
        return
    # A fork has the modules loaded already. On macOS system libraries may crash in a forked process that calls no exec.
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    with (
        _objects_kept_from_collection(),
        ProcessPoolExecutor(
            workers, context, initializer=_start_worker, initargs=(os.getpid(), prepare, arguments)
        ) as pool,
    ):
        submitted: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                submitted.append(pool.submit(function, task))
                # Two a process: each finds a next task while this generator waits for the oldest result or a consumer.
                if len(submitted) > 2 * workers:
                    yield submitted.popleft().result()
            while submitted:
                yield submitted.popleft().result()
        finally:
            for future in submitted:
                future.cancel()


@contextmanager
def _objects_kept_from_collection() -> Iterator[None]:
    """Keep the garbage collector from what exists now, here and in processes that are forked meanwhile.

    A collection writes into every object that it looks at, and a page that is written to is shared no longer: each
    process would come to have its own copy of all that was imported, 170 MB with torch and transformers.
    """
    is_first = not gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if is_first:  # otherwise whoever has frozen objects before, such as all that the worker imports, wants them so
            gc.unfreeze()


def _start_worker(parent: int, prepare: Callable[..., None], arguments: tuple[object, ...]) -> None:
    # Ctrl-C in the terminal reaches the whole process group; the parent alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker whose parent was killed would wait for tasks for ever. The signal is sent when the thread that forked the
    # worker ends; here that is the main thread of the scan. The parent may have died before the call: compare its id.
    if request_death_signal(signal.SIGKILL) and os.getppid() != parent:
        os._exit(1)
    prepare(*arguments)
