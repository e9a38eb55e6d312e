"""Calls that may never return, as those into a driver in trouble: made in a thread that can be left behind."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_waiting: set[int] = set()
"""The threads that wait for a call of some `TimedCall`."""


def is_waiting(thread: threading.Thread) -> bool:
    """Whether a thread does nothing but wait for a call that may never return, so that nobody need wait for it."""
    return thread.ident in _waiting


class TimedCall:
    """Makes calls of one kind, one at a time: a thread waits for its turn, and while a call hangs no other is begun.

    Nothing can end a call that hangs in C, so its thread is left behind; it is a daemon and does not keep the process.

    Args:
        name: of the threads.
        seconds: to wait for a call.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.seconds = seconds
        self._name = name
        self._turn = threading.Lock()
        self._hanging: threading.Thread | None = None

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns.

        Raises:
            TimeoutError: it has not returned in time, or one that was begun as long ago has not.
            Exception: what it raised.
        """
        waits = threading.get_ident()
        _waiting.add(waits)
        try:
            if not self._turn.acquire(timeout=self.seconds):
                raise TimeoutError(f"{self._name}: another call has not returned in {self.seconds:g} s")
            try:
                return self._made(call)
            finally:
                self._turn.release()
        finally:
            _waiting.discard(waits)

    def _made(self, call: Callable[[], T]) -> T:
        if self._hanging is not None and self._hanging.is_alive():
            raise TimeoutError(f"{self._name}: an earlier call has not returned")
        results: list[T] = []
        failures: list[Exception] = []

        def work() -> None:
            try:
                results.append(call())
            except Exception as error:
                failures.append(error)

        self._hanging = thread = threading.Thread(target=work, name=self._name, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if failures:
            raise failures[0]
        if not results:
            raise TimeoutError(f"{self._name}: no answer in {self.seconds:g} s")
        return results[0]
