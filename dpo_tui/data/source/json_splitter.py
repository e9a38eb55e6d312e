"""Split a stream of JSON into its rows without parsing it: the elements of a list, or objects that span lines.

orjson parses whole documents only, and a JSON array of 10 GB is one document.
"""

from collections.abc import Iterator

from dpo_tui.data.source.json_lines import MAX_ROW_BYTES, UNREADABLE_PREFIX
from dpo_tui.data.source.json_structure import JsonStructure


class Splitter:
    """Finds the ends of rows in blocks of JSON, and keeps the state between blocks.

    Args:
        depth: nesting depth of the rows: 1 for the elements of one array, or the members of one object with their keys;
            0 for objects that follow each other.

    Attributes:
        notes: what is wrong with the document as a whole, in words.
    """

    def __init__(self, depth: int) -> None:
        self.notes: list[str] = []
        self._row_depth = depth
        self._structure = JsonStructure()
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
            if code in b"[{" and self._row_depth == 1:
                start = position + 1
                continue
            end = position if self._row_depth == 1 else position + 1
            self._ended = code in b"]}" and self._row_depth == 1
            self._end_row(rows, block[start:end], closing=self._ended)
            start = position + 1
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
        # An element that is missing between two commas stays a line, so that the rows after it keep their numbers.
        rows.append(_one_line(row) or b" ")

    def _add_part(self, part: bytes) -> None:
        self._size += len(part)
        # A bracket that is never closed would make the rest of the file one row, in memory: beyond the limit its bytes
        # are dropped, and only their number is kept.
        if self._size <= MAX_ROW_BYTES:
            self._parts.append(part)
        else:
            self._parts = [UNREADABLE_PREFIX + f"the row is longer than {MAX_ROW_BYTES >> 20} MB".encode()]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _row_ends(self, block: bytes) -> list[tuple[int, int]]:
        """Positions and bytes in a block at which a row ends or the list of rows begins."""
        found = self._structure.feed(block)
        closing = (found.changes == -1) & (found.depths == 0)
        if self._row_depth == 1:
            opening_or_comma = (found.changes >= 0) & (found.depths == 1)
            closing |= opening_or_comma
        return list(zip(found.offsets[closing].tolist(), found.codes[closing].tolist(), strict=True))


def split(blocks: Iterator[bytes], splitter: Splitter) -> Iterator[list[bytes]]:
    """Split all blocks of a stream; yields the rows that end in each block."""
    for block in blocks:
        if rows := splitter.feed(block):
            yield rows
    if rows := splitter.finish():
        yield rows


def _one_line(row: bytes) -> bytes:
    # Safe, because JSON allows line breaks only between tokens: in a text they are written as escapes.
    return row.strip().replace(b"\n", b" ").replace(b"\r", b" ")
