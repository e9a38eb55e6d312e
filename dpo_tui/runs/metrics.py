"""Read metrics.jsonl while it grows. Standard library only.

One object a line: ``{"t": unix, "step": n, "epoch": x, "<metric>": number, …}``; keys differ from line to line, since
training and evaluation log different ones.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpo_tui.runs.files import lines_from_end, parse_line

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 20
"""Bytes after which a line without an end is garbage, not a metric."""
_ANCHOR = 64
"""Bytes before the reading position that must still be there, or the file was replaced by another."""
_RECENT = 1 << 12
_RARE_TAIL = 1 << 17
_RARE_MARKERS = (b'"eval_loss"', b'"eval_', b'"kl"')


class MetricsTail:
    """Reads a growing ``.jsonl`` file line by line, each line once.

    A torn last line waits for its rest; a file that was truncated or replaced is read again from its beginning; lines
    that are no JSON objects are skipped and counted.

    Args:
        path: the file.
        parse: makes an object of a line, or None.

    Attributes:
        skipped: how many lines were no JSON objects.
        restarts: how often the file turned out to be another one, and was read anew: then drop what was read before.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], dict[str, Any] | None] = parse_line) -> None:
        self.skipped = 0
        self.restarts = 0
        self._path = path
        self._parse = parse
        self._inode: int | None = None
        self._offset = 0
        self._pending = b""
        self._anchor = b""
        self._overlong = False

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._offset

    def poll(self, max_bytes: int | None = None) -> list[dict[str, Any]]:
        """Return the complete lines that were added since the last call; none while the file is missing.

        Args:
            max_bytes: read about this much at most, and the rest at the next call; everything by default.
        """
        try:
            stream = open(self._path, "rb", buffering=0)  # noqa: SIM115 - closed by the with below
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        with stream:
            self._check_identity(stream.fileno())
            left = max_bytes
            while left is None or left > 0:
                chunk = os.pread(stream.fileno(), _CHUNK if left is None else min(left, _CHUNK), self._offset)
                if not chunk:
                    break
                self._offset += len(chunk)
                self._anchor = (self._anchor + chunk)[-_ANCHOR:]
                if left is not None:
                    left -= len(chunk)
                self._take(chunk, found)
        return found

    def _forget(self) -> None:
        self._offset = 0
        self._pending = b""
        self._anchor = b""
        self._overlong = False

    def _check_identity(self, descriptor: int) -> None:
        stat = os.fstat(descriptor)
        same = self._inode in (None, stat.st_ino) and stat.st_size >= self._offset
        if same and self._anchor:
            same = os.pread(descriptor, len(self._anchor), self._offset - len(self._anchor)) == self._anchor
        if not same:
            self._forget()
            self.restarts += 1
        self._inode = stat.st_ino

    def _take(self, chunk: bytes, found: list[dict[str, Any]]) -> None:
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            if self._overlong:
                self._overlong = False  # the end of a line that was given up
            elif (document := self._parse(line)) is not None:
                found.append(document)
            elif line.strip():
                self.skipped += 1
        if len(self._pending) > _LONGEST_LINE:
            if not self._overlong:
                self.skipped += 1
            self._overlong = True
            self._pending = b""


def latest(path: Path, *, recent_bytes: int = _RECENT, rare_bytes: int = _RARE_TAIL) -> dict[str, Any]:
    """Merge the newest lines so that each key has its latest value, those of evaluation beside those of training.

    Args:
        path: the file; missing or empty gives ``{}``.
        recent_bytes: every line this far from the end is looked at.
        rare_bytes: this far from the end is looked for what is logged rarely: evaluations and KL estimates.
    """
    merged: dict[str, Any] = {}
    for line in lines_from_end(path, recent_bytes):
        if (document := parse_line(line)) is not None:
            for key, value in document.items():
                merged.setdefault(key, value)
    if rare_bytes > recent_bytes:
        tail = _tail(path, rare_bytes)
        for marker in _RARE_MARKERS:
            for key, value in (_last_line_with(marker, tail) or {}).items():
                merged.setdefault(key, value)
    return merged


def _tail(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - size))
            return stream.read(size)
    except OSError:
        return b""


def _last_line_with(marker: bytes, tail: bytes) -> dict[str, Any] | None:
    """The newest line with this text in it, found without parsing, or even splitting, all that follow it."""
    found = tail.rfind(marker)
    if found < 0:
        return None
    stop = tail.find(b"\n", found)
    return parse_line(tail[tail.rfind(b"\n", 0, found) + 1 : stop if stop >= 0 else len(tail)])


def read_all(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the whole file in chunks of about a megabyte, so that a long history can be drawn as it comes."""
    tail = MetricsTail(path)
    while True:
        before = tail.offset
        if lines := tail.poll(max_bytes=_CHUNK):
            yield lines
        if tail.offset == before:
            return
