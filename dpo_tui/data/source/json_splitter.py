"""Split a stream of JSON into its rows without parsing it: the elements of an array, or objects that span lines.

orjson parses whole documents only, and a JSON array of 10 GB is one document. To find where its elements end, only
quotes, backslashes, brackets and commas matter. numpy finds them a block at a time, so memory stays constant.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.source.json_lines import MAX_ROW_BYTES, UNREADABLE_PREFIX

_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_IS_SPECIAL = np.zeros(256, dtype=bool)
_IS_SPECIAL[[_QUOTE, _BACKSLASH, _COMMA, *b"{}[]"]] = True
_DEPTH_CHANGE = np.zeros(256, dtype=np.int64)
_DEPTH_CHANGE[list(b"{[")] = 1
_DEPTH_CHANGE[list(b"}]")] = -1


class Splitter:
    """Finds the ends of rows in blocks of JSON, and keeps the state between blocks.

    Args:
        depth: nesting depth of the rows: 1 for the elements of one array, 0 for objects that follow each other.

    Attributes:
        notes: what is wrong with the document as a whole, in words.
    """

    def __init__(self, depth: int) -> None:
        self.notes: list[str] = []
        self._row_depth = depth
        self._depth = 0
        self._in_string = False
        self._escape_next = False
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._began = False
        self._count = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Add a block and return the rows that end in it, each on one line."""
        rows: list[bytes] = []
        start = 0
        if not self._began:
            stripped = block.lstrip()
            if not stripped:
                return rows
            self._began = True
        for position, code in self._row_ends(block):
            if self._ended:
                break
            if code == ord("[") and self._row_depth == 1:
                start = position + 1
                continue
            end = position if self._row_depth == 1 else position + 1
            self._end_row(rows, block[start:end], closing=code == ord("]") and self._row_depth == 1)
            start = position + 1
            if code == ord("]") and self._row_depth == 1:
                self._ended = True
        if self._ended:
            if block[start:].strip():
                self._note("there is text after the end of the array")
        else:
            self._add_part(block[start:])
        return rows

    def finish(self) -> list[bytes]:
        """Return what is left at the end of the stream; a last row that is not closed will fail to parse."""
        rest = b"".join(self._parts)
        self._parts, self._size = [], 0
        if self._row_depth == 1 and not self._ended:
            self._note("the file ends inside the array")
        if self._ended or not rest.strip():
            return []
        return [_one_line(rest)]

    def _end_row(self, rows: list[bytes], tail: bytes, *, closing: bool) -> None:
        self._add_part(tail)
        row = b"".join(self._parts)
        too_long = self._size > MAX_ROW_BYTES
        self._parts, self._size = [], 0
        if closing and not row.strip() and not too_long:
            if self._count:
                self._note("there is a trailing comma before the end of the array")
            return
        self._count += 1
        rows.append(_one_line(row) or b" ")

    def _add_part(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= MAX_ROW_BYTES:
            self._parts.append(part)
        else:
            self._parts = [UNREADABLE_PREFIX + f"the row is longer than {MAX_ROW_BYTES >> 20} MB".encode()]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _row_ends(self, block: bytes) -> list[tuple[int, int]]:
        """Positions and bytes in a block at which a row ends or the array begins."""
        data = np.frombuffer(block, dtype=np.uint8)
        places = np.flatnonzero(_IS_SPECIAL[data])
        codes = data[places]
        escaped = self._escaped(places[codes == _BACKSLASH], len(block))
        is_quote = codes == _QUOTE
        quotes = places[is_quote]
        quotes = quotes[~escaped[quotes]]
        structure = places[~is_quote & (codes != _BACKSLASH)]
        # A byte is inside a string if an odd number of unescaped quotes comes before it.
        inside = (np.searchsorted(quotes, structure) + int(self._in_string)) % 2 == 1
        self._in_string = bool((len(quotes) + int(self._in_string)) % 2)
        structure = structure[~inside]
        kinds = data[structure]
        changes = _DEPTH_CHANGE[kinds]
        depths = self._depth + np.cumsum(changes)  # after each byte
        if len(depths):
            self._depth = int(depths[-1])
        if self._row_depth == 1:
            opening = (changes == 1) & (depths == 1)
            comma = (changes == 0) & (depths == 1)
            is_end = opening | comma | ((changes == -1) & (depths == 0))
        else:
            is_end = (changes == -1) & (depths == 0)
        return list(zip(structure[is_end].tolist(), kinds[is_end].tolist(), strict=True))

    def _escaped(self, slashes: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
        """Which bytes of a block a backslash escapes: those after the first, third … of a run of backslashes.

        One more entry than bytes: the last says whether the first byte of the next block is escaped.
        """
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
    """Split all blocks of a stream; yields the rows that end in each block."""
    for block in blocks:
        if rows := splitter.feed(block):
            yield rows
    if rows := splitter.finish():
        yield rows


def _one_line(row: bytes) -> bytes:
    return row.strip().replace(b"\n", b" ").replace(b"\r", b" ")
