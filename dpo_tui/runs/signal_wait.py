"""A sleep that signals interrupt, so that the supervisor notices the worker's end at once without fast polling.

Standard library only.
"""

import select
import signal
import socket
from types import FrameType


class SignalWait:
    """Signal handling of the supervisor: SIGHUP is ignored, SIGTERM, SIGINT and SIGUSR1 are recorded, SIGCHLD wakes.

    The worker inherits the ignored SIGHUP, so that neither ends with a terminal.

    Attributes:
        terminated: whether SIGTERM or SIGINT has come: the machine shuts down, or someone ends this process.
        time_limit_near: whether SIGUSR1 has come: the batch job of this process will soon reach its time limit.
    """

    def __init__(self) -> None:
        self.terminated = False
        self.time_limit_near = False
        # The interpreter writes a byte to this socket for each signal (set_wakeup_fd), so a signal between the caller's
        # checks and `select` still ends the wait; with a flag alone it would be noticed only after the timeout.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # A handler although it does nothing for SIGCHLD: under the default action the kernel discards that signal, and
        # the interpreter writes a byte only for signals that have a Python handler.
        signal.signal(signal.SIGCHLD, self._note)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGUSR1, self._note)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes, or has come since the last call, for at most this many seconds."""
        ready, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        if ready:
            # All bytes that wait: one that is left would end the next wait at once, for a signal already acted on.
            self._reader.recv(4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.time_limit_near = True
        elif number != signal.SIGCHLD:
            self.terminated = True
