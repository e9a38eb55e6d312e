"""Atomic writes: files replaced as a whole, ``.jsonl`` logs that grow by whole lines, and readers of both.

Standard library only: the supervisor uses it.
"""

import errno
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dpo_tui.paths import is_private
from dpo_tui.runs.process import is_same_process, process_start

_BLOCK = 1 << 16
_TEMPORARY = re.compile(r"\..+?\.([1-9]\d{0,8})(\.\d+)?\.tmp")
"""Name of a file that `write_text_atomic` has begun, with the pid of its writer."""


def write_text_atomic(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace ``path`` by ``text`` so that a reader, or a power cut, finds either the old or the new whole file.

    Args:
        path: the file.
        text: its new content.
        durable: fsync the file and its folder. Off for files that are replaced twice a second and whose content other
            files have too: the wait of 4 to 16 ms on a virtual disk comes out of a training step's time. After a power
            cut such a file may be empty.

    Raises:
        OSError: the text could not be written; the old file is as it was.
    """
    # Pid and thread in the name: with a shared temporary file one writer would rename the other's half-written text.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        # Paths and command lines may hold bytes that are not UTF-8. Python keeps them as lone surrogates (PEP 383),
        # which strict UTF-8 refuses to encode.
        opener = open_private if is_private(path) else None
        with open(temporary, "w", encoding="utf-8", errors="surrogatepass", opener=opener) as stream:
            stream.write(text)
            if durable:
                # Before the rename: a file system may store the rename first, and a power cut between the two would
                # leave an empty file under the final name.
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        _unlink_quietly(temporary)
        raise
    if durable:
        # The rename is an entry of the folder: without this, a power cut may bring the old file back.
        fsync_folder(path.parent)


def open_private(path: str, flags: int) -> int:
    """An opener of files that this user alone may read, under any umask."""
    return os.open(path, flags, 0o600)


def write_json_atomic(path: Path, obj: Any, *, durable: bool = True) -> None:
    """Replace ``path`` by ``obj`` as JSON, as `write_text_atomic` does."""
    write_text_atomic(path, to_json(obj), durable=durable)


def to_json(obj: Any) -> str:
    """Serialise an object as the text of a ``.json`` file."""
    return json.dumps(obj, ensure_ascii=False, indent=1) + "\n"


def append_json_line(path: Path, obj: Any) -> None:
    """Append ``obj`` as one line, in one write, so that lines of several processes never mix.

    Raises:
        OSError: the line could not be written whole (a full disk).
    """
    append_line(path, json_line(obj))


def json_line(obj: Any) -> bytes:
    """Serialise an object as one line of a ``.jsonl`` file, line feed included."""
    return (json.dumps(obj, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "surrogatepass")


def append_line(path: Path, line: bytes) -> None:
    """Append a whole line in one write, as `append_json_line` does.

    If the file ends in a line that a full disk or a power cut has torn, a line feed comes first; else the new line
    would be lost with it.

    Raises:
        OSError: the line could not be written whole (a full disk).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # Another process may append between this look and the write. At worst that makes an empty line, which readers
        # skip.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        # O_APPEND makes one write atomic against other writers; a second write for the rest would not be.
        written = os.write(descriptor, line)
        # Without its line feed the line is whole to readers, and the next one brings the line feed. An error would have
        # the caller write it a second time.
        if written < len(line) - len(b"\n"):
            raise OSError(errno.ENOSPC, "only a part of the line was written", str(path))
    finally:
        os.close(descriptor)


def only_regular(path: str, flags: int) -> int:
    """Opener of `open` for files that other programs may have replaced: neither waits at a named pipe nor reads one.

    One pipe, which nobody may ever write to, in one run's folder would else hold up every list of runs.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; ``None`` when the file is missing, torn, or no object."""
    try:
        with open(path, "rb", opener=only_regular) as stream:
            document = json.loads(stream.read().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_last_json_lines(path: Path, n: int) -> list[dict[str, Any]]:
    """Return the last ``n`` lines that are JSON objects, oldest first, reading the file from its end.

    Torn lines and lines that are no objects are left out.
    """
    found: list[dict[str, Any]] = []
    if n <= 0:
        return found
    for line in lines_from_end(path):
        if (document := parse_line(line)) is not None:
            found.append(document)
            if len(found) == n:
                break
    found.reverse()
    return found


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parse one line of a ``.jsonl`` file; ``None`` when it is torn or no object. NaN and Infinity become floats.

    Lone surrogates are read as `append_json_line` wrote them.
    """
    try:
        document = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def lines_from_end(path: Path, max_bytes: int | None = None) -> Iterator[bytes]:
    """Yield the lines of a file, newest first, reading blocks from its end; nothing when the file is missing.

    Args:
        path: any text file with line feeds at its line ends.
        max_bytes: look no further back than about this many bytes; a line cut by that limit is left out.
    """
    try:
        stream = open(path, "rb", buffering=0, opener=only_regular)  # noqa: SIM115 - closed by the with below
    except OSError:
        return
    with stream:
        end = stream.seek(0, os.SEEK_END)
        stop = 0 if max_bytes is None else max(0, end - max_bytes)
        pending = b""
        while end > stop:
            start = max(stop, end - _BLOCK)
            stream.seek(start)
            block = stream.read(end - start)
            pending = block + pending
            end = start
            *head, tail = pending.split(b"\n")
            # The first piece may begin in an earlier block: keep it until that is read.
            pieces = [*head, tail]
            pending = pieces[0]
            for line in reversed(pieces[1:]):
                if line:
                    yield line
        if pending and stop == 0:
            yield pending


def delete_abandoned(folder: Path) -> None:
    """Delete the half-written files in a folder whose writers were killed; those of processes that live stay."""
    for path in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and not is_same_process(pid := int(found[1]), process_start(pid)):
            _unlink_quietly(path)


def _unlink_quietly(path: Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable, such as a rename; where a network file system cannot, that is no error."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Wait until all files of a folder are on the disk, and its entries too.

    Raises:
        OSError: a file is gone, or the disk could not write it.
    """
    for path, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(path, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(path))
