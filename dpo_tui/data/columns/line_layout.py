"""What JSON lines of one kind have in common: everything but their texts, and the numbers of columns nobody reads.

A layout is learned from one line. Another line fits it if the bytes around its texts are the same: then it has the same
columns in the same order, the same roles and the same number of messages, and no key twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui.data.columns.scanned_lines import ScannedLines, begin_with
from dpo_tui.data.rows.column_shapes import Record
from dpo_tui.data.rows.messages import ROLES
from dpo_tui.data.rows.record_to_pairs import Recogniser

MOST_BYTES = 1 << 20
"""Of a line that a layout is learned from."""
_PARTS = ("prompt", "chosen", "rejected", "system")
_ROLE_OF_TEXT = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")
_TOKEN = re.compile(rb"[^\s\[\]{}:,]+")
# Numbers that every parser takes, and none takes for infinite.
_SCALAR = rb"(?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?|true|false|null)"


@dataclass(frozen=True, slots=True)
class TextSlot:
    """A place of a layout where each line has a text of its own that is read.

    Args:
        quote: the number of its opening quote in a line.
        column: the column.
        part: what the column holds: prompt, chosen, rejected or system.
        message: the number of the message whose content it is; None for a column that is a text.
        key: the key of the content.
        messages: messages in the column.
        role: of the message, as chat templates know it; the role that a column of text gets.
    """

    quote: int
    column: str
    part: str
    message: int | None = None
    key: str = ""
    messages: int = 1
    role: str | None = None

    def is_compared(self, other: "TextSlot") -> bool:
        """Whether reading a row may compare the two texts, to find what prompt and answers have in common.

        That is done from the beginning of two conversations on, or up to their ends, and not with a text as prompt.
        """
        if any(slot.part == "prompt" and slot.message is None for slot in (self, other)):
            return False
        if self.part == other.part or "system" in {self.part, other.part} or self.role != other.role:
            return False
        mine, others = self.message or 0, other.message or 0
        return mine == others or self.messages - mine == other.messages - others


@dataclass(frozen=True, slots=True)
class LineLayout:
    """A kind of lines.

    Args:
        record: the first line of this kind.
        quotes: of a line.
        controls: control characters of a line.
        fixed: the bytes that all lines have, by the numbers of the quotes that they begin and end with; None is the
            begin or the end of the line.
        free: what stands between two quotes where numbers differ.
        slots: the texts that are read, in the order of the line; none for lines that have to be parsed.
    """

    record: Record
    quotes: int
    controls: int
    fixed: tuple[tuple[int | None, int | None, bytes], ...]
    free: tuple[tuple[int, int | None, re.Pattern[bytes]], ...]
    slots: tuple[TextSlot, ...]

    @property
    def has_two_texts(self) -> bool:
        """Whether the two answers are texts, and nothing else is read: they may be transcripts."""
        return sorted(slot.part for slot in self.slots if slot.message is None) == ["chosen", "rejected"] and (
            len(self.slots) == 2  # noqa: PLR2004
        )

    def fitting(self, lines: ScannedLines, among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of the lines that fit, and the offsets of their quotes.

        Args:
            lines: the lines.
            among: which of them to look at.
        """
        numbers = np.flatnonzero(among & (lines.counts == self.quotes) & (lines.controls == self.controls))
        found = lines.quotes[lines.firsts[numbers][:, None] + np.arange(self.quotes)]
        for first, last, model in self.fixed:
            starts = lines.begins[numbers] if first is None else found[:, first]
            stops = lines.ends[numbers] if last is None else found[:, last] + 1
            same = stops - starts == len(model)
            same[same] = begin_with(lines.codes, starts[same], model)
            if not same.all():
                numbers, found = numbers[same], found[same]
        for quote, next_quote, pattern in self.free:
            starts = found[:, quote] + 1
            stops = lines.ends[numbers] if next_quote is None else found[:, next_quote]
            same = _matching(lines.data, starts, stops, pattern)
            if not same.all():
                numbers, found = numbers[same], found[same]
        return numbers, found


def _matching(
    data: bytes, starts: NDArray[np.int64], stops: NDArray[np.int64], pattern: re.Pattern[bytes]
) -> NDArray[np.bool_]:
    texts = [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    known = {text: pattern.fullmatch(text) is not None for text in set(texts)}
    return np.fromiter(map(known.__getitem__, texts), np.bool_, len(texts))


@dataclass(frozen=True, slots=True)
class _String:
    """A string of a line: a key, or the value at a path in a column."""

    column: str
    path: tuple[str | int, ...] = ()
    is_key: bool = False


def learned_layout(lines: ScannedLines, number: int, recogniser: Recogniser) -> LineLayout | None:
    """The layout of a line.

    Args:
        lines: the lines.
        number: of the line.
        recogniser: finds the columns of prompt and answers.

    Returns:
        None for a line that is no row or has a key twice.
    """
    begin, end = int(lines.begins[number]), int(lines.ends[number])
    if end - begin > MOST_BYTES:
        return None
    line = lines.data[begin:end]
    first = int(lines.firsts[number])
    quotes = (lines.quotes[first : first + int(lines.counts[number])] - begin).tolist()
    try:
        record = orjson.loads(line)
        strings = list(_strings(record)) if type(record) is dict else []
    except (ValueError, RecursionError):
        return None
    if not strings or 2 * len(strings) != len(quotes):
        return None
    columns = recogniser.alike_columns(record)
    parts = _parts(record, columns) if columns else {}
    fixed_columns = {*parts, *recogniser.tie_columns(record)}
    slots = []
    variable: set[int] = set()
    for at, string in enumerate(strings):
        if string.is_key or (string.path and string.path[-1] in _ROLE_KEYS and string.column in parts):
            continue
        if string.column in parts:
            slots.append(_slot(2 * at, string, parts[string.column], record[string.column]))
        elif string.column in fixed_columns:
            continue
        variable.add(at)
    free = {
        at: between
        for at, string in enumerate(strings)
        if string.column not in fixed_columns and _TOKEN.search(between := _behind(line, quotes, at))
    }
    controls = int(lines.controls[number])
    return LineLayout(
        record,
        len(quotes),
        controls,
        tuple(_fixed(line, quotes, variable, set(free))),
        tuple((2 * at + 1, 2 * at + 2 if at + 1 < len(strings) else None, _pattern(free[at])) for at in free),
        tuple(slots),
    )


def _strings(record: Record) -> Iterator[_String]:
    """The strings of a record in the order of its line."""
    for column, value in record.items():
        yield _String(column, is_key=True)
        yield from _strings_in(value, column, ())


def _strings_in(value: Any, column: str, path: tuple[str | int, ...]) -> Iterator[_String]:
    if type(value) is str:
        yield _String(column, path)
    elif type(value) is dict:
        for key, one in value.items():
            yield _String(column, (*path, key), is_key=True)
            yield from _strings_in(one, column, (*path, key))
    elif type(value) is list:
        for at, one in enumerate(value):
            yield from _strings_in(one, column, (*path, at))


def _parts(record: Record, columns: dict[str, str]) -> dict[str, str]:
    """What each column that is read holds; nothing where the record has to be parsed."""
    named = [(name, part) for part, name in columns.items() if part in _PARTS]
    parts = dict(named)
    is_plain = len(parts) == len(named) and all(_is_plain(record[name], part) for name, part in named)
    return parts if is_plain else {}


def _is_plain(value: Any, part: str) -> bool:
    """Whether a value is a text, or messages of a role and a text; a prompt or a system message may also be absent."""
    if type(value) is list and part != "system":
        return bool(value) and all(map(_is_plain_message, value))
    return type(value) is str or (value is None and part in {"prompt", "system"})


def _is_plain_message(message: Any) -> bool:
    if type(message) is not dict:
        return False
    roles, contents = ([key for key in keys if key in message] for keys in (_ROLE_KEYS, _CONTENT_KEYS))
    others = message.keys() - {*_ROLE_KEYS, *_CONTENT_KEYS}
    texts = (message[key] for key in (*roles, *contents))
    return (
        len(roles) == len(contents) == 1
        and all(type(text) is str for text in texts)
        and all(message[key] is None for key in others)
    )


def _slot(quote: int, string: _String, part: str, value: Any) -> TextSlot:
    if not string.path:
        return TextSlot(quote, string.column, part, role=_ROLE_OF_TEXT.get(part))
    at, key = int(string.path[0]), str(string.path[1])
    role = next(value[at][name] for name in _ROLE_KEYS if name in value[at])
    return TextSlot(quote, string.column, part, at, key, len(value), ROLES.get(role.lower()))


def _behind(line: bytes, quotes: list[int], at: int) -> bytes:
    """What stands between a string and the next one, or the end of the line."""
    end = quotes[2 * at + 2] if 2 * at + 2 < len(quotes) else len(line)
    return line[quotes[2 * at + 1] + 1 : end]


def _fixed(
    line: bytes, quotes: list[int], variable: set[int], free: set[int]
) -> Iterator[tuple[int | None, int | None, bytes]]:
    """The parts of a line without its variable strings and what stands behind some of its strings."""
    ends: list[int | None] = [None]
    for at in range(len(quotes) // 2):
        ends += [2 * at, 2 * at + 1] if at in variable else []
        ends += [2 * at + 1, 2 * at + 2] if at in free else []
    # After what is free at the end of the line nothing is left.
    ends = ends[:-1] if ends[-1] == len(quotes) else [*ends, None]
    for first, last in zip(ends[::2], ends[1::2], strict=True):
        if first == last and first is not None:
            continue  # a quote
        yield first, last, line[0 if first is None else quotes[first] : len(line) if last is None else quotes[last] + 1]


def _pattern(between: bytes) -> re.Pattern[bytes]:
    ends = [0, *(end for token in _TOKEN.finditer(between) for end in token.span()), len(between)]
    literal = [re.escape(between[start:end]) for start, end in list(pairwise(ends))[::2]]
    return re.compile(_SCALAR.join(literal))
