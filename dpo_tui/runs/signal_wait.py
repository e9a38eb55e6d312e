"""Sleep that a signal ends: a dead worker is noticed at once, without polling fast. Standard library only."""

import select
import signal
import socket
from types import FrameType


class SignalWait:
    """Takes over the process's signals: SIGHUP is ignored, SIGTERM and SIGINT are remembered, and SIGCHLD wakes.

    An ignored SIGHUP is inherited by the worker, so that neither dies with a terminal.

    Attributes:
        terminated: whether SIGTERM or SIGINT came: the box shuts down, or someone wants this process to end.
    """

    def __init__(self) -> None:
        self.terminated = False
        # A byte a signal, written by the interpreter itself: a signal that comes just before `select` still wakes it.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, self._note)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes, or has come since the last call, but no longer than this."""
        ready, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        if ready:
            self._reader.recv(4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.terminated = True
