"""run.lock: a POSIX record lock (fcntl) held by the supervisor of a run for as long as it lives.

A record lock and not ``flock``: a ``flock`` belongs to the open file, so data-loader processes that inherit the
descriptor keep it after the supervisor has died. The kernel releases a record lock exactly when its process ends, and
``F_GETLK`` names the owner. Its disadvantage: a process that closes *any* descriptor of the file loses its lock. So
only this module opens the file, and in the owning process only once.
Standard library only.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

# struct flock with the platform's own alignment: Linux has type, whence, start, length, pid; macOS the reverse order.
# "0q" pads the end as the C compiler does: the kernel copies the whole struct back, and fcntl.fcntl returns exactly as
# many bytes as it was given.
_FORMAT = "qqihh" if sys.platform == "darwin" else "hhqqi0q"

_held: dict[str, int] = {}
"""Path -> the descriptor of a lock that this process holds."""


def acquire(path: Path) -> bool:
    """Take the lock without waiting; it is held until `release` or the end of this process.

    Returns:
        ``False`` when another process has it.

    Raises:
        OSError: the file cannot be created, or the file system does not support locks.
    """
    # Open for writing, which nobody does: fcntl(2) refuses a write lock on a descriptor opened only for reading.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Closing drops every lock of this process on the file, but there is none: our own would not have refused us.
        os.close(descriptor)
        # POSIX leaves it to the system which of the two says "held by another process".
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    _held[os.fspath(path)] = descriptor
    return True


def release(path: Path) -> None:
    """Release a lock that `acquire` took."""
    if (descriptor := _held.pop(os.fspath(path), None)) is not None:
        # Closing is what releases it. The file is not unlinked: a process that had it open could then lock the unlinked
        # file, while the next one locks a new file of the same name, and both would think that they are alone.
        os.close(descriptor)


def is_in_place(path: Path) -> bool:
    """Whether the lock that this process holds is the file that others find there.

    Where it was deleted, the process holds the lock of a file that nobody sees, and another one can take the new file.
    Where that cannot be said, as on a network disk that does not answer, it counts as being in place.
    """
    try:
        held = os.fstat(_held[os.fspath(path)])
        found = os.stat(path)
    except FileNotFoundError:
        return False
    except (KeyError, OSError):
        return True
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def owner(path: Path) -> int | None:
    """Return the process that holds the lock.

    Returns:
        Its pid; 0 when this process cannot see it (another host or container); ``None`` when nobody holds it.
    """
    if os.fspath(path) in _held:
        return os.getpid()  # opening and closing the file here would drop our own lock
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _query())
    except OSError:
        return None
    finally:
        os.close(descriptor)
    kind, pid = _read(answer)
    # Linux writes pid 0 for an owner outside this pid namespace, and a negative one for a lock of another host.
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def _query() -> bytes:
    """A ``struct flock`` that asks who holds a write lock on the whole file."""
    if sys.platform == "darwin":
        return struct.pack(_FORMAT, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    return struct.pack(_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _read(answer: bytes) -> tuple[int, int]:
    """Type and pid of a ``struct flock``."""
    numbers = struct.unpack(_FORMAT, answer)
    return (numbers[3], numbers[2]) if sys.platform == "darwin" else (numbers[0], numbers[4])
