"""What a parser passes over in a row: a key that occurs twice, and numbers that are NaN or infinite.

Every JSON parser keeps the last of two values for one key and says nothing. NaN and Infinity are written by Python and
pandas though JSON has neither; they are read as missing values, for a score that is NaN ranks nothing.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

REPEATED_KEY, NOT_A_NUMBER = "repeated-key", "not-a-number"
"""Ids of the checks."""
_NOT_A_NUMBER = re.compile(rb"[:\[,\s-](?:NaN|Infinity)\s*[,\]}]")
_SPACED_KEY = re.compile(rb'"\s*:')
_BLOCK = 1 << 17
"""Bytes that are searched at once, so that they stay in the processor's cache."""
_NAMED = 3
"""Columns that a message names."""


@dataclass(frozen=True, slots=True)
class RowWarning:
    """What is doubtful about one row, which can be used all the same.

    Args:
        row: counted from 0 in its block.
        check: id of the check.
        message: what is wrong, in words.
    """

    row: int
    check: str
    message: str


def repeated_keys(data: bytes, lines: list[bytes] | None, rows: list[Any]) -> Iterator[RowWarning]:
    """Find the rows in which a key occurs twice in one object.

    Args:
        data: the lines as one block.
        lines: the lines; None divides the block where that is needed.
        rows: what each line was parsed to.
    """
    if set(map(type, rows)) == {dict}:
        found = _count_keys(data)
        # The rows' own keys first: most rows hold no objects, and to look for them takes longer than to parse.
        if found == sum(map(len, rows)) or found == sum(map(_keys_in, rows)):
            return
    for number, (line, row) in enumerate(zip(data.split(b"\n") if lines is None else lines, rows, strict=False)):
        if type(row) is dict and len(_SPACED_KEY.findall(line)) != _keys_in(row):
            twice: list[str] = []

            def keep(pairs: list[tuple[str, Any]], found: list[str] = twice) -> dict[str, Any]:
                names = [name for name, _ in pairs]
                found += sorted({name for name in names if names.count(name) > 1})
                return dict(pairs)

            try:
                json.loads(line, object_pairs_hook=keep)
            except (ValueError, RecursionError):  # orjson reads it: it is more than one thing that is odd here
                continue
            if twice:
                named = ", ".join(f"`{name}`" for name in dict.fromkeys(twice[:_NAMED]))
                yield RowWarning(number, REPEATED_KEY, f"{named} occurs twice, and the last value is used")


def numbers_that_are_none(lines: list[bytes], rows: list[Any]) -> Iterator[RowWarning]:
    """Find the rows with NaN or Infinity among lines that were parsed one by one; see :func:`parse_not_numbers`."""
    for number, (line, row) in enumerate(zip(lines, rows, strict=True)):
        if type(row) is dict and _NOT_A_NUMBER.search(line) and (found := parse_not_numbers(line)):
            yield not_a_number(number, found[1])


def not_a_number(row: int, columns: dict[str, str]) -> RowWarning:
    """The warning about a row.

    Args:
        row: counted from 0 in its block.
        columns: which columns hold NaN, Infinity or -Infinity.
    """
    named = ", ".join(f"`{name}` is {value}" for name, value in list(columns.items())[:_NAMED])
    return RowWarning(row, NOT_A_NUMBER, f"{named}: read as missing")


def parse_not_numbers(line: bytes) -> tuple[Any, dict[str, str]] | None:
    """Parse a line of JSON with NaN or Infinity in it, each read as null.

    Returns:
        The value, and the columns that held one with its name; None if it has none, or is no JSON apart from that.
    """
    if not _NOT_A_NUMBER.search(line):
        return None
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    columns: dict[str, str] = {}
    parsed = {name: finite(value, name, columns) for name, value in parsed.items()} if type(parsed) is dict else parsed
    return (parsed, columns) if columns else None


def finite(value: Any, column: str, found: dict[str, str]) -> Any:
    """A value with None in place of every number that is not finite.

    Args:
        value: of a column, at any depth.
        column: its name.
        found: gets the column and the number.
    """
    if type(value) is float and not math.isfinite(value):
        found.setdefault(column, "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        return None
    if type(value) is dict:
        return {key: finite(one, column, found) for key, one in value.items()}
    return [finite(one, column, found) for one in value] if type(value) is list else value


def _keys_in(value: Any) -> int:
    """The keys of an object and of all objects in it."""
    if type(value) is dict:
        return len(value) + sum(_keys_in(one) for one in value.values() if type(one) is dict or type(one) is list)
    return sum(_keys_in(one) for one in value if type(one) is dict or type(one) is list)


def _count_keys(data: bytes) -> int:
    """The number of quotes that a colon follows, without those that a backslash precedes.

    That is the number of keys where nobody writes a space before the colon. A text may begin with a colon, so more of
    them than keys means that the lines need a closer look.
    """
    import numpy as np  # the screens read rows without it

    codes = np.frombuffer(data, dtype=np.uint8)
    found = 0
    for start in range(0, len(codes) - 1, _BLOCK):
        block = codes[start : start + _BLOCK + 1]
        (ends,) = np.nonzero((block[:-1] == ord('"')) & (block[1:] == ord(":")))
        found += len(ends) - int(np.count_nonzero(codes.take(ends + (start - 1), mode="clip") == ord("\\")))
    return found
