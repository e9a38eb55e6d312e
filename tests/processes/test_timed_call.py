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
