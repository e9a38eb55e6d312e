"""Whether a run's disk takes what is written, and why not, in words. Standard library only.

A worker that fails because its disk is full cannot write down why, and its exit code says nothing. So its supervisor
asks the disk itself before it speaks, and a run is not started again on a disk that would end it the same way.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

_PROBE_BYTES = 1 << 16
"""What is written to find out. A disk without room for that much has none for a checkpoint."""

_WORDS = {
    errno.ENOSPC: "its disk is full (ENOSPC)",
    errno.EDQUOT: "the disk quota of this account is used up (EDQUOT)",
    errno.EROFS: "its file system is read-only, as after an error of the disk (EROFS)",
    errno.EIO: "its disk does not work: a write failed (EIO)",
}
_REMEDIES = {
    errno.ENOSPC: "Free some space there, then resume: checkpoints that were complete are whole.",
    errno.EDQUOT: "Delete what is not needed, or ask for more, then resume: checkpoints that were complete are whole.",
    errno.EROFS: "The system's log (dmesg) may say why. When it can be written again, resume.",
    errno.EIO: "The system's log (dmesg) may say why. Copy the run to another disk before anything else.",
}


def refused_write(folder: Path) -> OSError | None:
    """Write a small file into a folder, and delete it; return the error of a disk that does not take it.

    Returns:
        An error that `problem` and `remedy` have words for; None where the file was written, and where it was refused
        for a reason of another kind, such as a folder that is gone.
    """
    # Hidden and with the pid, like the temporary files of the folder: two processes may ask at the same time.
    path = folder / f".disk.{os.getpid()}.tmp"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            left = _PROBE_BYTES
            while left > 0:
                left -= os.write(descriptor, bytes(left))
            # Some file systems choose the blocks, and ask for the quota, only when the data goes to the disk.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error if error.errno in _WORDS else None
    finally:
        with suppress(OSError):
            os.unlink(path)
    return None


def seen_problem(folder: Path) -> str:
    """What is wrong with a disk, as far as a reader can see who writes nothing; empty where nothing is.

    A quota is not seen so.
    """
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    if disk.f_flag & os.ST_RDONLY:
        return _WORDS[errno.EROFS]
    return _WORDS[errno.ENOSPC] if disk.f_blocks and not disk.f_bavail else ""


def problem(error: OSError) -> str:
    """What is wrong, as a clause."""
    return _WORDS.get(error.errno or 0, str(error))


def remedy(error: OSError) -> str:
    """What to do about it, as a sentence; empty where nothing is known."""
    return _REMEDIES.get(error.errno or 0, "")
