"""Parse JSON lines, with a reason for every line that is no row."""

from typing import Any

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.source.row_warnings import RowWarning, numbers_that_are_none, parse_not_numbers, repeated_keys

MAX_ROW_BYTES = 64 << 20
"""A longer row is skipped and becomes a problem of that row, so that memory stays bounded."""
# A row that a reader cannot extract is passed on as this prefix, with which no JSON begins, and the reason.
UNREADABLE_PREFIX = b"\0unreadable: "
LINE_TOO_LONG = UNREADABLE_PREFIX + f"the line is longer than {MAX_ROW_BYTES >> 20} MB\n".encode()

# Bytes that are parsed at once: their rows still fit a processor's cache.
_PARSED_AT_ONCE = 1 << 19
_LINE_BREAK = 10

Row = dict[str, Any] | Unreadable | None
"""One row: a record, the reason why it cannot be read, or None for a blank line."""


def parse_block(data: bytes) -> list[Row]:
    """Parse JSON lines, as :func:`parse` does, but many at a time where every one of them is an object."""
    return _parse_as_arrays(data) or parse(lines_of(data))


def parse_block_with_warnings(data: bytes) -> tuple[list[Row], list[RowWarning]]:
    """Parse JSON lines as :func:`parse_block` does, and find what is doubtful about rows that can be used."""
    rows = _parse_as_arrays(data)
    if rows is not None:
        return rows, list(repeated_keys(data, None, rows))
    lines = lines_of(data)
    rows = parse(lines)
    return rows, [*repeated_keys(data, lines, rows), *numbers_that_are_none(lines, rows)]


def _parse_as_arrays(data: bytes) -> list[Row] | None:
    """Parse lines as the elements of arrays, which is faster than line by line; None if any needs to be parsed alone.

    A block with as many rows as lines is taken to have one row in each. That is wrong only where one object spans two
    lines and another line of the same block holds two objects with a comma between them.
    """
    import orjson

    if not data.startswith(b"{"):
        return None
    found: list[Row] = []
    start, total = 0, len(data)
    while start < total:
        end = data.find(b"\n", min(start + _PARSED_AT_ONCE, total) - 1) + 1 or total
        block = data[start : end - 1] if data[end - 1] == _LINE_BREAK else data[start:end]
        lines = block.count(b"\n") + 1
        try:
            rows = orjson.loads(b"".join((b"[", block.replace(b"\n", b","), b"]")))
        except orjson.JSONDecodeError:
            return None
        if len(rows) != lines or None in rows:
            return None
        found += rows
        start = end
    return found


def lines_of(data: bytes) -> list[bytes]:
    """Split at line breaks; one at the end begins no further line."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def parse(lines: list[bytes]) -> list[Row]:
    """Parse JSON lines, each by itself."""
    import orjson

    loads = orjson.loads
    try:
        rows: list[Row] = [loads(line) for line in lines]
    except orjson.JSONDecodeError:
        rows = [None]
    # A bad line, a blank one or a null: each line needs its own answer.
    return [parse_row(line) for line in lines] if None in rows else rows


def parse_row(line: bytes) -> Row:
    """Parse one JSON line."""
    import orjson

    if not line or line.isspace():
        return None
    try:
        row: Row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if (found := parse_not_numbers(line)) is not None:
            return found[0]  # type: ignore[no-any-return]
        return _bad_json(line, error)
    return Unreadable("bad-json", "null where a row should be") if row is None else row


def _bad_json(line: bytes, error: Any) -> Unreadable:
    """Say what is wrong with a line that orjson rejects; a trailing comma is named, since it is the usual fault."""
    if line.startswith(UNREADABLE_PREFIX):
        return Unreadable("bad-json", line.removeprefix(UNREADABLE_PREFIX).decode("utf-8", "replace"))
    if len(line) > MAX_ROW_BYTES:
        return Unreadable("bad-json", f"the line is longer than {MAX_ROW_BYTES >> 20} MB")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as wrong:
        shown = line[wrong.start : wrong.end].hex(" ")
        return Unreadable("bad-json", f"not UTF-8: the byte {shown} at column {wrong.start + 1}")
    stripped = line.rstrip()
    if stripped.endswith((b"},", b"],")):
        return Unreadable("bad-json", "not JSON: there is a trailing comma after the row")
    before = line.decode("utf-8", "replace")[: error.pos].rstrip()
    if before.endswith(",") and line.decode("utf-8", "replace")[error.pos : error.pos + 1] in {"}", "]"}:
        return Unreadable("bad-json", f"not JSON: there is a trailing comma at column {len(before)}")
    reason = str(error.msg).split(":")[0] if error.msg else "it cannot be parsed"
    return Unreadable("bad-json", f"not JSON at column {error.colno}: {reason}")
