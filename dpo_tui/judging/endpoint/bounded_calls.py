"""A function called on many items by a bounded number of threads, with each result as soon as it is there."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def bounded_calls(
    call: Callable[[Item], Result], items: Sequence[Item], workers: int, *, in_order: bool = False
) -> Iterator[tuple[Item, Result]]:
    """Call a function on each item, on at most ``workers`` of them at a time.

    After a failure no further item is begun; the results of those that had begun are yielded all the same, since they
    may have cost something, and then the first failure is raised. No item is begun while many results have not been
    taken.

    Args:
        call: runs in a thread.
        items: to call it on.
        workers: number of threads.
        in_order: yield in the order of the items; otherwise as they come. After a failure its item is passed over.

    Yields:
        An item and its result.

    Raises:
        BaseException: what a call raised.
    """
    begin: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Result | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while (number := begin.get()) is not None:
            try:
                done.put((number, call(items[number]), None))
            except BaseException as error:
                done.put((number, None, error))

    workers = max(1, min(workers, len(items)))
    for _ in range(workers):
        # Daemons: those of concurrent.futures are joined at exit, and Ctrl-C would wait for a reply that may not come.
        threading.Thread(target=work, daemon=True, name="bounded-call").start()
    begun = finished = 0
    failure: BaseException | None = None
    waiting: dict[int, Result | None] = {}
    failed: set[int] = set()
    next_number = 0
    try:
        while True:
            while failure is None and begun < len(items) and begun - finished + len(waiting) < 2 * workers:
                begin.put(begun)
                begun += 1
            if finished == begun:
                break
            number, result, error = done.get()
            finished += 1
            if error is None:
                waiting[number] = result
            else:
                failed.add(number)
                failure = failure or error
            ready = [] if in_order else list(waiting)
            while in_order and (next_number in waiting or next_number in failed):
                if next_number in waiting:
                    ready.append(next_number)
                next_number += 1
            for one in ready:
                yield items[one], waiting.pop(one)  # type: ignore[misc]
    finally:
        for _ in range(workers):
            begin.put(None)
    if failure is not None:
        raise failure
