"""Calls on several threads: how many at a time, in which order, and what is kept when one fails."""

import threading
import time
from collections.abc import Callable

import pytest

from dpo_tui.judging.endpoint.bounded_calls import bounded_calls


def test_no_more_than_the_number_run_at_a_time_and_all_of_them_do() -> None:
    """A barrier of four passes only if four calls are under way together."""
    barrier, lock = threading.Barrier(4, timeout=30), threading.Lock()
    running: list[int] = [0, 0]

    def call(number: int) -> int:
        with lock:
            running[0] += 1
            running[1] = max(running)
        barrier.wait()
        with lock:
            running[0] -= 1
        return -number

    assert sorted(bounded_calls(call, range(16), 4)) == [(number, -number) for number in range(16)]
    assert running[1] == 4


def held_back(first: int) -> Callable[[int], int]:
    """A call that waits, on item 0, for that on another item."""
    done = threading.Event()

    def call(number: int) -> int:
        if number == 0:
            assert done.wait(30)
        if number == first:
            done.set()
        return number

    return call


def test_results_come_as_they_are_there_or_in_order() -> None:
    found = [item for item, _ in bounded_calls(held_back(1), range(6), 2)]
    assert found[0] == 1
    assert sorted(found) == list(range(6))
    assert [item for item, _ in bounded_calls(held_back(1), range(6), 2, in_order=True)] == list(range(6))


@pytest.mark.parametrize("in_order", [False, True])
def test_after_a_failure_the_calls_that_had_begun_are_kept_and_no_other_is_begun(in_order: bool) -> None:
    begun: list[int] = []
    failed = threading.Event()
    barrier = threading.Barrier(3, timeout=30)

    def call(number: int) -> int:
        begun.append(number)
        if number < 3:
            barrier.wait()
        if number == 1:
            failed.set()
            raise ConnectionError("one")
        if number > 2:  # or the two others could be through many calls before the one that fails has the processor
            failed.wait(30)
            time.sleep(0.01)
        return number

    found = []
    with pytest.raises(ConnectionError, match="one"):
        found.extend(item for item, _ in bounded_calls(call, range(100), 3, in_order=in_order))
    assert {0, 2} <= set(found)
    assert sorted([*found, 1]) == sorted(begun)
    assert len(begun) < 20
    assert not in_order or found == sorted(found)


def test_a_caller_that_takes_nothing_stops_further_calls() -> None:
    begun: list[int] = []
    calls = bounded_calls(begun.append, range(100), 2)
    next(calls)
    calls.close()  # type: ignore[attr-defined]
    assert len(begun) <= 4
    assert list(bounded_calls(lambda number: number, [], 4)) == []
