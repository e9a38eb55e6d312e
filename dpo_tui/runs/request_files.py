"""Requests as empty files in a folder ``control/``: of runs, and of what a driver drives. Standard library only.

The name is the request: there is no content that could be torn or read half.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path


def make(control: Path, name: str) -> None:
    """Make a request.

    Raises:
        OSError: the folder cannot be written, or something that is no file has the name.
    """
    control.mkdir(mode=0o700, exist_ok=True)
    (control / name).touch(mode=0o600)
    try:
        mode = os.stat(control / name).st_mode
    except FileNotFoundError:
        return  # it has been followed already
    if not stat.S_ISREG(mode):
        raise IsADirectoryError(errno.EISDIR, f"{name} is there, and is no file")


def is_made(control: Path, name: str) -> bool:
    """Whether a request is pending. Only a file is one: a folder of that name could never be withdrawn."""
    return os.path.isfile(control / name)


def withdraw(control: Path, *names: str) -> None:
    """Withdraw requests, or mark them as done; absent ones, and those that cannot be removed, are ignored."""
    for name in names:
        with suppress(OSError):
            os.unlink(control / name)
