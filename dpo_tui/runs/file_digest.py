"""SHA-256 of files, remembered by path, size, time and inode, so that an unchanged file is read once only."""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from dpo_tui import paths
from dpo_tui.runs.atomic_files import write_text_atomic

_READ_BYTES = 8 * 1024 * 1024


def digest_of_files(files: Iterable[Path]) -> str:
    """Return one digest of the content of files, in the order of their resolved paths.

    Args:
        files: of weights, whose digests are kept in the cache folder.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted({file.resolve() for file in files}):
        digest.update(digest_of_file(path).encode())
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the digest of one file's content; it is kept in the cache folder.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    status = path.stat()
    # A weight file that was replaced has another inode, one that was written in place another time of change; the
    # size may tell where a copy kept both.
    identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
    known = paths.cache() / "reference"
    stored = known / f"{hashlib.sha256(identity.encode()).hexdigest()}.weights"
    try:
        return stored.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
        with contextlib.suppress(OSError):
            paths.make_private(known)
            write_text_atomic(stored, digest.hexdigest())
        return digest.hexdigest()
