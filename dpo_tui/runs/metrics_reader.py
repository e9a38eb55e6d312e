"""Readers of metrics.jsonl while it grows: a tail, the latest values, the whole history. Standard library only.

One object a line: ``{"t": unix, "step": n, "epoch": x, "<metric>": number, …}``; keys differ from line to line, since
training and evaluation log different ones. Next: `dpo_tui.views.run_feed` turns the lines into series.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import lines_from_end, only_regular, parse_line

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 20
"""Bytes after which a line without a line feed is skipped as no metric."""
_ANCHOR = 64
"""Bytes before the reading position that are compared: if they differ, the file was replaced."""
_KL_KEYS = {"eval_kl", "eval_kl_stderr", "eval_kl_n", "kl"}
"""Of a KL estimate."""
_RECENT = 1 << 12
"""Bytes from the end in which `latest` parses every line."""
_HEAD = 1 << 14
"""Bytes from the beginning that show whether a run evaluates."""
_RARE_TAIL = 1 << 17
"""Bytes from the end in which evaluations are searched in any case."""
_BACK_BLOCK = 1 << 18
"""Bytes read at once when evaluations are searched further back."""
_EVALUATED = b'"eval_'
_RARE_MARKERS = (b'"eval_loss"', _EVALUATED, b'"kl"')
"""Keys of an evaluation, of any evaluated metric, of a KL estimate: each may be newest in a line of its own."""
_LONGEST_MARKER = max(map(len, _RARE_MARKERS))
_LINE_REACH = 1 << 16
"""Bytes to either side of a key within which its line must begin and end."""


class MetricsTail:
    """Reads a growing ``.jsonl`` file incrementally, each line once.

    An incomplete last line waits for its rest; a whole object needs no line feed. A file that was truncated or replaced
    is read again from its beginning; lines that are no JSON objects are skipped and counted.

    Args:
        path: the file.
        parse: converts a line to an object, or returns None.

    Attributes:
        skipped: how many lines were no JSON objects.
        restarts: how often the file was found replaced and was read again from its beginning; the caller must then
            discard what it has read before.
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
        """Return the complete lines added since the last call; none while the file is missing.

        Args:
            max_bytes: read about this much at most and the rest in the next call; everything by default.
        """
        try:
            stream = open(self._path, "rb", buffering=0, opener=only_regular)  # noqa: SIM115 - closed by the with below
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
        # Inode and size alone miss a file that was truncated and has grown past the old position, or a new file that
        # got the old inode: the last bytes read must still be there.
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
                self._overlong = False  # the end of a line that was skipped
            elif (document := self._parse(line)) is not None:
                found.append(document)
            elif line.strip():
                self.skipped += 1
        # No beginning of an object is an object itself, so nothing but a line feed can follow.
        if self._pending.endswith(b"}") and not self._overlong and (last := self._parse(self._pending)) is not None:
            found.append(last)
            self._pending = b""
        if len(self._pending) > _LONGEST_LINE:
            if not self._overlong:
                self.skipped += 1
            self._overlong = True
            self._pending = b""


def latest(path: Path, *, recent_bytes: int = _RECENT, evaluations: bool = True) -> dict[str, Any]:
    """Return the latest value of each key, of evaluations and KL estimates too.

    The KL estimate of step 0 is left out once a step was made: it compares the reference with itself, and is the latest
    where later ones were skipped, because the time budget of evaluations was used up.

    Args:
        path: the file; missing or empty gives ``{}``.
        recent_bytes: all lines within this distance from the end are parsed.
        evaluations: whether the newest evaluation and KL estimate are searched too, however far back they are.
    """
    merged: dict[str, Any] = {}
    steps: dict[str, float] = {}

    def take(document: dict[str, Any]) -> None:
        step = _step(document)
        for key, value in document.items():
            if key not in merged:  # in the order of the file, which `status --json` prints
                merged[key], steps[key] = value, step

    for line in lines_from_end(path, recent_bytes):
        if (document := parse_line(line)) is not None:
            take(document)
    if evaluations:
        for document in _newest_evaluations(path):
            take(document)
    if steps.get("eval_kl") == 0 < _step(merged):
        for key in _KL_KEYS & merged.keys():
            if steps[key] == 0:
                del merged[key]
    return merged


def _step(document: dict[str, Any]) -> float:
    step = document.get("step")
    return step if isinstance(step, (int, float)) and not isinstance(step, bool) else 0


def _newest_evaluations(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the newest line of each rare kind; searched from the end without parsing the lines in between."""
    try:
        stream = open(path, "rb", buffering=0, opener=only_regular)  # noqa: SIM115 - closed by the with below
    except OSError:
        return
    with stream:
        descriptor = stream.fileno()
        stop = os.fstat(descriptor).st_size
        # A run that evaluates does so before its first step (eval_on_start). The first lines therefore show whether
        # there is anything to find, and a long history without evaluations is not read whole in vain.
        head = os.pread(descriptor, _HEAD, 0)
        floor = 0 if any(marker in head for marker in _RARE_MARKERS) else max(0, stop - _RARE_TAIL)
        wanted = list(_RARE_MARKERS)
        size = _RARE_TAIL
        while wanted and stop > floor:
            start = max(floor, stop - size)
            # The block overlaps the one after it, since a key may lie across their border.
            block = os.pread(descriptor, stop - start + _LONGEST_MARKER - 1, start)
            # Far back, one search per block is enough: the line of a KL estimate has ``eval_kl`` beside ``kl``.
            near = size == _RARE_TAIL
            for marker in tuple(wanted) if near or block.rfind(_EVALUATED) >= 0 else ():
                if (document := _last_line_with(marker, block, descriptor, start)) is not None:
                    wanted.remove(marker)
                    yield document
            stop, size = start, _BACK_BLOCK


def _last_line_with(marker: bytes, block: bytes, descriptor: int, start: int) -> dict[str, Any] | None:
    """The newest complete line with such a key, among those whose key lies in the block at ``start``."""
    prefix = marker.strip(b'"').decode()
    found = block.rfind(marker)
    while found >= 0:
        document = parse_line(_line_around(descriptor, start + found))
        # A torn line, or one that has the marker in a value, does not count: look further back.
        if document is not None and any(key.startswith(prefix) for key in document):
            return document
        found = block.rfind(marker, 0, found)
    return None


def _line_around(descriptor: int, offset: int) -> bytes:
    """The line around this offset of the file; cut where it extends more than 64 KB to either side."""
    start = max(0, offset - _LINE_REACH)
    text = os.pread(descriptor, offset - start + _LINE_REACH, start)
    stop = text.find(b"\n", offset - start)
    return text[text.rfind(b"\n", 0, offset - start) + 1 : stop if stop >= 0 else len(text)]


def read_all(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines of the whole file in chunks of about a megabyte, so that a long history is drawn while read."""
    tail = MetricsTail(path)
    while True:
        before = tail.offset
        if lines := tail.poll(max_bytes=_CHUNK):
            yield lines
        if tail.offset == before:
            return


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return every whole line of a ``.jsonl`` file that is a JSON object; none of a file that is missing."""
    return [line for chunk in read_all(path) for line in chunk]
