"""Calls that may never return."""

import threading
from collections.abc import Iterator

import pytest

from dpo_tui.processes.timed_call import TimedCall


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """What a call waits for."""
    event = threading.Event()
    yield event
    event.set()


def test_what_a_call_returns_or_raises_is_passed_on() -> None:
    timed = TimedCall("asked", 60)
    assert timed(lambda: 7) == 7
    assert timed(lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 // 0)


def test_no_other_call_is_begun_before_one_has_returned(answer: threading.Event) -> None:
    timed = TimedCall("asked", 0.01)
    with pytest.raises(TimeoutError, match=r"no answer in 0\.01 s"):
        timed(answer.wait)
    with pytest.raises(TimeoutError, match="earlier call"):
        timed(lambda: pytest.fail("begun all the same"))
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "asked":
            thread.join()
    timed.seconds = 60
    assert timed(lambda: 7) == 7


def test_a_call_waits_while_that_of_another_thread_has_not_returned(answer: threading.Event) -> None:
    """Two screens that ask at once: a driver that takes a second is none that does not answer."""
    timed = TimedCall("asked", 60)
    begun = threading.Event()
    found: list[bool] = []

    def first() -> bool:
        begun.set()
        return answer.wait()

    threads = [threading.Thread(target=lambda call=call: found.append(timed(call))) for call in (first, answer.is_set)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    # The second thread fails before this where it does not wait, as nothing else holds it.
    threads[1].join(0.2)
    answer.set()
    for thread in threads:
        thread.join()
    assert found == [True, True]
