"""A TCP proxy that delays, narrows, counts and swallows what goes through it: a slow line, or one that is dead."""

import queue
import socket
import threading
import time
from contextlib import suppress

CHUNK = 4096
BUFFERED = 16
"""Chunks that are under way in one direction at most; then the sender has to wait, as with a router's buffer."""


class SlowLine:
    """Forwards connections from a free port of this machine to another one. Use it as a context manager.

    Args:
        target: the port that connections go on to.
        round_trip: seconds from one end to the other and back.
        bits_per_second: of either direction; None for as fast as it goes.

    Attributes:
        port: to connect to.
        down: bytes that went from the target to whoever connected.
        up: bytes the other way.
        last: time (monotonic) at which a byte was last delivered to whoever connected.
    """

    def __init__(self, target: int, round_trip: float = 0.0, bits_per_second: float | None = None) -> None:
        self._target = target
        self._delay = round_trip / 2
        self._rate = bits_per_second
        self.down = self.up = 0
        self.last = 0.0
        self._dead = threading.Event()
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        """Deliver nothing any more, in either direction, and close nothing: neither end is told."""
        self._dead.set()

    def close(self) -> None:
        """Close every connection."""
        self._closed.set()
        for one in [self._listening, *self._sockets]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> "SlowLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, target, is_down in ((near, far, False), (far, near, True)):
                    underway: queue.Queue[tuple[float, bytes]] = queue.Queue(BUFFERED)
                    threading.Thread(target=self._take, args=(source, underway), daemon=True).start()
                    threading.Thread(target=self._deliver, args=(target, underway, is_down), daemon=True).start()

    def _take(self, source: socket.socket, underway: queue.Queue[tuple[float, bytes]]) -> None:
        """Read what comes, and note when its last bit is at the other end."""
        free_at = 0.0
        with suppress(OSError):
            while data := source.recv(CHUNK):
                sent = len(data) * 8 / self._rate if self._rate else 0.0
                free_at = max(time.monotonic(), free_at) + sent
                underway.put((free_at + self._delay, data))
        underway.put((free_at + self._delay, b""))

    def _deliver(self, target: socket.socket, underway: queue.Queue[tuple[float, bytes]], is_down: bool) -> None:
        with suppress(OSError):
            while True:
                due, data = underway.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if self._dead.is_set():
                    self._closed.wait()
                    return
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
                if is_down:
                    self.down += len(data)
                    self.last = time.monotonic()
                else:
                    self.up += len(data)
