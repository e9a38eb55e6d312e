"""Limits of processor time and memory for a piece of work in this process, which then raises instead of going on.

For the main thread of a process of ours that does nothing else meanwhile: signals reach the main thread, and the limit
of memory holds for the whole process. Processor time and not the clock's, so that a busy machine refuses nothing.
"""

import resource
import signal
import threading
from types import FrameType, TracebackType
from typing import Literal, Self

_AGAIN = 0.5
"""Seconds after which a signal comes again whose exception was swallowed."""
_PAGE = resource.getpagesize()

Limit = Literal["time", "memory"]


class LimitError(BaseException):
    """Work took more than it may; not an Exception, which libraries catch and forget.

    Attributes:
        limit: what it took too much of.
    """

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.limit: Limit = limit


class Limited:
    """The time in which work is limited, as a context; outside the main thread nothing is limited.

    Code that never comes back to the interpreter, such as a power with a gigantic exponent, takes no exception: after
    twice the time the kernel ends the process by SIGPROF.

    Args:
        seconds: of processor time.
        memory: bytes that the process may take more than it has now.

    Raises:
        LimitError: when the context is left, or in its midst.
    """

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._memory = memory
        self._active = False

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._space = resource.getrlimit(resource.RLIMIT_AS)
        self._handlers = [
            (number, signal.signal(number, action))
            for number, action in ((signal.SIGVTALRM, self._raise), (signal.SIGPROF, signal.SIG_DFL))
        ]
        self._active = True
        if (used := _address_space()) is not None:
            resource.setrlimit(resource.RLIMIT_AS, (_lower(used + self._memory, self._space[0]), self._space[1]))
        signal.setitimer(signal.ITIMER_PROF, 2 * self._seconds)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds, _AGAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        self._active = False  # first: a signal that is on its way must not interrupt what follows
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, self._space)
        for number, action in self._handlers:
            signal.signal(number, action if action is not None else signal.SIG_DFL)
        if isinstance(error, MemoryError):
            raise LimitError("memory") from None

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._active:
            raise LimitError("time")


def _lower(wanted: int, allowed: int) -> int:
    return wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)


def _address_space() -> int | None:
    """Bytes of addresses that this process has taken; None where the system does not say (not Linux)."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[0]) * _PAGE
    except OSError:
        return None
