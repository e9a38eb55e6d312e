"""A few processes that work through tasks in order, with never more in flight than they can hold.

The scan is bound by the processor and Python runs one thread at a time, so it takes processes. Results come back in the
order of the tasks, and memory stays flat however many tasks there are.
"""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
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
    """Apply a function to tasks, in order, in several processes.

    Args:
        function: a module-level function.
        tasks: what to work on; taken only as fast as results are.
        workers: how many processes; with 1 everything happens in this one.
        prepare: called once in each process before its first task.
        arguments: for ``prepare``.
    """
    if workers <= 1:
        prepare(*arguments)
        for task in tasks:
            yield function(task)
        return
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), prepare, arguments)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begin(parent: int, prepare: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Without this a worker whose parent was killed would wait for ever. The pool forks from the thread that scans: the
    # main thread of a process that does nothing else.
    if request_death_signal(signal.SIGKILL) and os.getppid() != parent:
        os._exit(1)
    prepare(*arguments)
