"""run.lock: who supervises a run, told by the kernel and true to the instant.

POSIX record locks, not ``flock``: a ``flock`` stays held by forked data-loader workers after its owner died, while a
record lock goes exactly when the process does, and ``F_GETLK`` names its owner. Its one trap: a process that closes
*any* descriptor of the file drops its own lock. So only this module opens the file, once in the owning process.
Standard library only.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

# struct flock with the platform's own alignment: Linux has type, whence, start, length, pid; macOS the reverse order.
_FORMAT = "qqihh" if sys.platform == "darwin" else "hhqqi0q"

_held: dict[str, int] = {}


def acquire(path: Path) -> bool:
    """Take the lock for as long as this process lives.

    Returns:
        ``False`` when another process has it.

    Raises:
        OSError: the file cannot be made, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    _held[os.fspath(path)] = descriptor
    return True


def release(path: Path) -> None:
    """Let go of a lock that `acquire` took."""
    if (descriptor := _held.pop(os.fspath(path), None)) is not None:
        os.close(descriptor)


def owner(path: Path) -> int | None:
    """Name the process that holds the lock.

    Returns:
        Its pid; 0 when it lives where this process cannot see it (another host or container); ``None`` for nobody.
    """
    if os.fspath(path) in _held:
        return os.getpid()  # opening and closing the file here would drop our own lock
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _question())
    except OSError:
        return None
    finally:
        os.close(descriptor)
    kind, pid = _read(answer)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def _question() -> bytes:
    if sys.platform == "darwin":
        return struct.pack(_FORMAT, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    return struct.pack(_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _read(answer: bytes) -> tuple[int, int]:
    numbers = struct.unpack(_FORMAT, answer)
    return (numbers[3], numbers[2]) if sys.platform == "darwin" else (numbers[0], numbers[4])
