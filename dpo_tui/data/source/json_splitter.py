"""Cut a stream of JSON into its rows without parsing it: the elements of an array, or objects that span lines.

orjson reads whole documents only, and a JSON array of 10 GB is one document. The structure of JSON that matters here is
small: quotes, backslashes, brackets and commas. numpy finds them a block at a time, so memory stays flat.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.source.json_lines import LONGEST

_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_IS_SPECIAL = np.zeros(256, dtype=bool)
_IS_SPECIAL[[_QUOTE, _BACKSLASH, _COMMA, *b"{}[]"]] = True
_STEP = np.zeros(256, dtype=np.int64)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1


class Splitter:
    """Follows the structure of JSON across blocks.

    Args:
        depth: 1 cuts the elements of one array, 0 cuts values that follow each other.

    Attributes:
        notes: what was odd about the document as a whole, in words.
    """

    def __init__(self, depth: int) -> None:
        self.notes: list[str] = []
        self._cut_depth = depth
        self._depth = 0
        self._in_string = False
        self._escape_next = False
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._began = False
        self._count = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Take a block and return the rows that end in it, line breaks turned into spaces."""
        rows: list[bytes] = []
        start = 0
        if not self._began:
            stripped = block.lstrip()
            if not stripped:
                return rows
            self._began = True
        for position, code in self._cuts(block):
            if self._ended:
                break
            opens = code == ord("[") and self._cut_depth == 1
            if opens:
                start = position + 1
                continue
            end = position if self._cut_depth == 1 else position + 1
            self._take(rows, block[start:end], closing=code == ord("]") and self._cut_depth == 1)
            start = position + 1
            if code == ord("]") and self._cut_depth == 1:
                self._ended = True
        if self._ended:
            if block[start:].strip():
                self._note("there is text after the end of the array")
        else:
            self._keep(block[start:])
        return rows

    def finish(self) -> list[bytes]:
        """Return what is left at the end of the stream; a last row that never closed is one that does not parse."""
        rest = b"".join(self._parts)
        self._parts, self._size = [], 0
        if self._cut_depth == 1 and not self._ended:
            self._note("the file ends inside the array")
        if self._ended or not rest.strip():
            return []
        return [_one_line(rest)]

    def _take(self, rows: list[bytes], tail: bytes, *, closing: bool) -> None:
        self._keep(tail)
        row = b"".join(self._parts)
        too_long = self._size > LONGEST
        self._parts, self._size = [], 0
        if closing and not row.strip() and not too_long:
            if self._count:
                self._note("there is a trailing comma before the end of the array")
            return
        self._count += 1
        rows.append(_one_line(row) or b" ")

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= LONGEST:
            self._parts.append(part)
        else:
            self._parts = [b"\0unreadable: the row is longer than 64 MB"]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _cuts(self, block: bytes) -> list[tuple[int, int]]:
        data = np.frombuffer(block, dtype=np.uint8)
        places = np.flatnonzero(_IS_SPECIAL[data])
        codes = data[places]
        escaped = self._escaped(places[codes == _BACKSLASH], len(block))
        is_quote = codes == _QUOTE
        quotes = places[is_quote]
        quotes = quotes[~escaped[quotes]]
        structure = places[~is_quote & (codes != _BACKSLASH)]
        inside = (np.searchsorted(quotes, structure) + int(self._in_string)) % 2 == 1
        self._in_string = bool((len(quotes) + int(self._in_string)) % 2)
        structure = structure[~inside]
        kinds = data[structure]
        steps = _STEP[kinds]
        after = self._depth + np.cumsum(steps)
        if len(after):
            self._depth = int(after[-1])
        if self._cut_depth == 1:
            opening = (steps == 1) & (after == 1)
            cut = opening | ((steps == 0) & (after == 1)) | ((steps == -1) & (after == 0))
        else:
            cut = (steps == -1) & (after == 0)
        return list(zip(structure[cut].tolist(), kinds[cut].tolist(), strict=True))

    def _escaped(self, slashes: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
        """Mark the bytes that follow an odd backslash of a run; one past the end says how the next block begins."""
        marked = np.zeros(size + 1, dtype=bool)
        marked[0] = self._escape_next
        if len(slashes):
            starts = np.ones(len(slashes), dtype=bool)
            starts[1:] = np.diff(slashes) != 1
            run = np.cumsum(starts) - 1
            first = np.flatnonzero(starts)
            rank = np.arange(len(slashes)) - first[run]
            if self._escape_next and slashes[0] == 0:
                rank[run == 0] += 1  # the first backslash is itself escaped by the last block
            marked[slashes[rank % 2 == 0] + 1] = True
        self._escape_next = bool(marked[size])
        return marked


def split(blocks: Iterator[bytes], splitter: Splitter) -> Iterator[list[bytes]]:
    """Cut all blocks of a stream; yields the rows of each block."""
    for block in blocks:
        if rows := splitter.feed(block):
            yield rows
    if rows := splitter.finish():
        yield rows


def _one_line(row: bytes) -> bytes:
    return row.strip().replace(b"\n", b" ").replace(b"\r", b" ")
