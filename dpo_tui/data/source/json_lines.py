"""JSON lines: cut, parse, and say of every bad one what is wrong with it."""

from typing import Any

from dpo_tui.data.pairs.pair import Unreadable

LONGEST = 64 << 20
"""No row is longer than this many bytes; what is longer is skipped and named."""
# A row that could not be cut from its file travels as a line with this beginning, which is no JSON, and its reason.
NAMED = b"\0unreadable: "
TOO_LONG = NAMED + f"the line is longer than {LONGEST >> 20} MB\n".encode()

# What is parsed at once: the parsed rows of this many bytes still fit a processor's cache.
_BLOCK = 1 << 19
_LINE_BREAK = 10

Row = dict[str, Any] | Unreadable | None
"""One row: a record, the reason why it is none, or None for a blank line."""


def parse_block(data: bytes) -> list[Row]:
    """Parse JSON lines, as :func:`parse` does, but many at a time if nothing speaks against it."""
    return _parse_whole(data) or parse(lines_of(data))


def _parse_whole(data: bytes) -> list[Row] | None:
    """Parse lines as the elements of one array, which spares cutting them; None if they need to be looked at singly.

    Each line is taken for one row if a block gives as many rows as it has lines. Only a block in which one object is
    broken over two lines and another line holds two objects could deceive this.
    """
    import orjson

    if not data.startswith(b"{"):
        return None
    found: list[Row] = []
    start, total = 0, len(data)
    while start < total:
        end = data.find(b"\n", min(start + _BLOCK, total) - 1) + 1 or total
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
    """Cut at line breaks; a line break at the end begins no further line."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def parse(lines: list[bytes]) -> list[Row]:
    """Parse JSON lines, each for itself."""
    import orjson

    loads = orjson.loads
    try:
        rows: list[Row] = [loads(line) for line in lines]
    except orjson.JSONDecodeError:
        rows = [None]
    # One bad line, or a blank one, or a null: go through them one by one.
    return [parse_row(line) for line in lines] if None in rows else rows


def parse_row(line: bytes) -> Row:
    """Parse one JSON line."""
    import orjson

    if not line or line.isspace():
        return None
    try:
        row: Row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _bad_json(line, error)
    return Unreadable("bad-json", "null where a row should be") if row is None else row


def _bad_json(line: bytes, error: Any) -> Unreadable:
    if line.startswith(NAMED):
        return Unreadable("bad-json", line.removeprefix(NAMED).decode("utf-8", "replace"))
    if len(line) > LONGEST:
        return Unreadable("bad-json", f"the line is longer than {LONGEST >> 20} MB")
    stripped = line.rstrip()
    if stripped.endswith((b"},", b"],")):
        return Unreadable("bad-json", "not JSON: there is a trailing comma after the row")
    before = line.decode("utf-8", "replace")[: error.pos].rstrip()
    if before.endswith(",") and line.decode("utf-8", "replace")[error.pos : error.pos + 1] in {"}", "]"}:
        return Unreadable("bad-json", f"not JSON: there is a trailing comma at column {len(before)}")
    reason = str(error.msg).split(":")[0] if error.msg else "it cannot be parsed"
    return Unreadable("bad-json", f"not JSON at column {error.colno}: {reason}")
