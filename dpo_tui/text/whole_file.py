"""Read a whole small file that the user or a download named: regular files of a bounded size only."""

import errno
import os
import stat
from os import PathLike

MOST_OF_SETTINGS = 16 << 20
"""Bytes of a file of settings, a template or a list of prompts' files; written by hand, they have some thousands."""
MOST_OF_A_MODEL = 512 << 20
"""Bytes of a JSON file of a model; the largest tokenizers have some tens of megabytes."""


def read_whole(path: str | PathLike[str], most: int = MOST_OF_SETTINGS) -> bytes:
    """Return the content of a file.

    A pipe to which nobody writes would be waited for without end, and a device such as /dev/zero has no end.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; ``strerror`` says which.
    """
    name = os.fspath(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file but a pipe, a socket or a device", name)
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB", name)
    return content


def read_whole_text(path: str | PathLike[str], most: int = MOST_OF_SETTINGS, encoding: str = "utf-8") -> str:
    """Return the text of a file, with line feeds alone; see :func:`read_whole`.

    Raises:
        OSError: as there.
        UnicodeDecodeError: it is not in that encoding.
    """
    return read_whole(path, most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
