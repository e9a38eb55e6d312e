"""Write a file of any size that appears whole or not at all, and remove what killed writers left beside it."""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_RANDOM_BYTES = 4


@contextmanager
def replaced_file(path: Path | None, mode: int) -> Iterator[IO[bytes] | None]:
    """Write a temporary file, and rename it to ``path`` if no error occurs.

    The writer holds a lock on its temporary file, which ends with its process however that ends. So the next writer
    of the same file knows which ones are left over.

    Args:
        path: the file; None writes nothing.
        mode: its permissions; the umask applies.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        yield None
        return
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with suppress(OSError):  # without locks, as on some network file systems, nothing is taken for left over
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            # On disk before it has its name, so that not even a power failure leaves half a file under that name.
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
    with suppress(OSError):
        for found in [one for one in os.scandir(path.parent) if name.fullmatch(one.name)]:
            _remove_unlocked(found.path)


def _remove_unlocked(name: str) -> None:
    """Remove a temporary file that nobody writes."""
    with suppress(OSError):
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name)
        finally:
            os.close(descriptor)
