"""Random access to the lines of a text log of any size: it is read in blocks, never as a whole."""

import os
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.runs.atomic_files import only_regular
from dpo_tui.text.printable import printable

BLOCK = 64 * 1024
"""Bytes read at a time."""

LONGEST = 4096
"""Bytes of a line that are shown; the rest is skipped."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a file.

    Args:
        offset: the byte at which it starts.
        end: the byte after it, its newline included.
        text: printable; of a line with carriage returns, as progress bars write, what follows the last one.
    """

    offset: int
    end: int
    text: str


class LogFile:
    """The lines of a growing file by byte offset. A missing file reads as an empty one.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Bytes in the file now."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def after(self, offset: int, count: int) -> list[LogLine]:
        """Up to ``count`` lines from an offset on, which must be the start of a line."""
        lines: list[LogLine] = []
        rest = b""
        start = offset
        try:
            with open(self.path, "rb", opener=only_regular) as file:
                file.seek(offset)
                while len(lines) < count:
                    block = file.read(BLOCK)
                    pieces = (rest + block).split(b"\n")
                    rest = pieces.pop()
                    for piece in pieces:
                        lines.append(_line(start, piece))
                        start += len(piece) + 1
                    if not block:
                        break
                    if len(rest) > LONGEST:
                        # A long line (a dump, a progress bar) is not kept in memory: skip to its end.
                        start, rest = self._skip_line(file, start, rest, lines)
                if rest and len(lines) < count:
                    lines.append(LogLine(start, start + len(rest), _text(rest)))
        except OSError:
            return lines
        return lines[:count]

    def before(self, offset: int, count: int) -> list[LogLine]:
        """Up to ``count`` lines before an offset, which must be the start of a line, in the order of the file."""
        try:
            with open(self.path, "rb", opener=only_regular) as file:
                begin, data, newlines = offset, b"", 0
                while begin > 0 and newlines <= count and len(data) < BLOCK * 64:
                    size = min(BLOCK, begin)
                    begin -= size
                    file.seek(begin)
                    block = file.read(size)
                    newlines += block.count(b"\n")
                    data = block + data
                longer = begin > 0 and b"\n" not in data[:-1]
                if longer:  # one line is longer than all that was read
                    begin = self._line_start(file.fileno(), begin)
                    beginning = os.pread(file.fileno(), LONGEST, begin)
        except OSError:
            return []
        if longer:
            return [LogLine(begin, offset, _long_text(beginning, data.removesuffix(b"\n")))]
        lines: list[LogLine] = []
        start = begin
        for piece in data.split(b"\n"):
            lines.append(_line(start, piece))
            start += len(piece) + 1
        if lines and lines[-1].offset >= offset:
            lines.pop()
        if begin > 0 and lines:
            lines.pop(0)  # what was read begins in the middle of this line
        return lines[-count:]

    def whole(self, line: LogLine, limit: int) -> str:
        """The text of a line, also where it is longer than what is shown of it.

        Args:
            line: a line of this file.
            limit: most bytes to read; of a longer line its beginning.
        """
        try:
            with open(self.path, "rb", opener=only_regular) as stream:
                stream.seek(line.offset)
                raw = stream.read(min(line.end - line.offset, limit))
        except OSError:
            return line.text
        # As shown: of a progress bar its last state, which may lie beyond the limit.
        if b"\r" in raw.rstrip(b"\r\n"):
            return line.text
        return printable(raw.rstrip(b"\r\n").decode("utf-8", "replace"))

    def tail(self, count: int) -> list[LogLine]:
        """The last ``count`` lines, an unfinished one included."""
        end = self.size()
        lines = self.before(end, count + 1)
        if lines and lines[-1].end > end:  # no newline at the end of the file yet
            lines[-1] = LogLine(lines[-1].offset, end, lines[-1].text)
        return lines[-count:]

    def find(self, query: str, offset: int, *, backwards: bool = False, limit: int = 1 << 32) -> int | None:
        """The offset of the next line that contains a text, ignoring the case of ASCII letters.

        Args:
            query: the text.
            offset: the start of a line; the search begins with it, or, backwards, before it.
            backwards: whether to search towards the start of the file.
            limit: bytes to search at most.

        Returns:
            None when no line contains it, or the file cannot be read.
        """
        wanted = query.lower().encode()
        if not wanted:
            return None
        try:
            with open(self.path, "rb", opener=only_regular) as file:
                found = (
                    _search_backwards(file.fileno(), wanted, offset, limit)
                    if backwards
                    else _search_forwards(file.fileno(), wanted, offset, limit)
                )
                return None if found is None else self._line_start(file.fileno(), found)
        except OSError:
            return None

    def offset_of(self, line: int) -> int:
        """The offset of a line by its number from 1; of the last line when there are fewer."""
        remaining = max(line, 1) - 1
        position = 0
        try:
            with open(self.path, "rb", opener=only_regular) as file:
                while remaining:
                    block = file.read(BLOCK * 16)
                    if not block:
                        break
                    newlines = block.count(b"\n")
                    if newlines < remaining:
                        remaining -= newlines
                        position += len(block)
                        continue
                    at = -1
                    for _ in range(remaining):
                        at = block.index(b"\n", at + 1)
                    position += at + 1
                    remaining = 0
        except OSError:
            return 0
        if position >= self.size():
            last = self.tail(1)
            return last[0].offset if last else 0
        return position

    @staticmethod
    def _line_start(descriptor: int, offset: int) -> int:
        """The offset of the line that holds a byte."""
        while offset > 0:
            begin = max(offset - BLOCK, 0)
            at = os.pread(descriptor, offset - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at + 1
            offset = begin
        return 0

    @staticmethod
    def _skip_line(file: object, start: int, rest: bytes, lines: list[LogLine]) -> tuple[int, bytes]:
        """Read to the end of a long line and append it, shortened.

        Args:
            file: positioned behind ``rest``.
            start: offset of the line.
            rest: what was read of it.
            lines: to append to.

        Returns:
            The offset of the next line, and what was read of it.
        """
        read = file.read  # type: ignore[attr-defined]
        length = len(rest)
        beginning, last = rest[:LONGEST], rest[-LONGEST:]
        while block := read(BLOCK):
            at = block.find(b"\n")
            if at >= 0:
                end = start + length + at + 1
                lines.append(LogLine(start, end, _long_text(beginning, last + block[:at])))
                return end, block[at + 1 :]
            length += len(block)
            last = (last + block)[-LONGEST:]
        lines.append(LogLine(start, start + length, _long_text(beginning, last)))
        return start + length, b""


def _line(start: int, piece: bytes) -> LogLine:
    return LogLine(start, start + len(piece) + 1, _text(piece))


def _text(raw: bytes) -> str:
    """The printable text of a line: what follows its last carriage return, as a terminal would show it."""
    shown = raw.rstrip(b"\r").rpartition(b"\r")[2][:LONGEST]
    return printable(shown.decode("utf-8", "replace")).expandtabs(4)


def _long_text(beginning: bytes, end: bytes) -> str:
    """The text of a line that was not kept whole: of a progress bar its last state, of any other its beginning."""
    end = end.rstrip(b"\r")[-LONGEST:]
    return _text(end if b"\r" in end else beginning)


def _search_forwards(descriptor: int, wanted: bytes, offset: int, limit: int) -> int | None:
    end = offset + limit
    overlap = len(wanted) - 1  # a match may lie across two blocks
    while offset < end:
        block = os.pread(descriptor, BLOCK * 16, offset)
        if not block:
            return None
        at = block.lower().find(wanted)
        if at >= 0:
            return offset + at
        if len(block) <= overlap:
            return None
        offset += len(block) - overlap
    return None


def _search_backwards(descriptor: int, wanted: bytes, offset: int, limit: int) -> int | None:
    begin, lowest = offset, max(offset - limit, 0)
    overlap = len(wanted) - 1
    while begin > lowest:
        end = begin
        begin = max(begin - BLOCK * 16, lowest)
        at = os.pread(descriptor, min(end + overlap, offset) - begin, begin).lower().rfind(wanted)
        if at >= 0:
            return begin + at
    return None
