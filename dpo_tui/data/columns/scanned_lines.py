"""Where the strings of JSON lines are, found for a block of lines at once, without making objects of them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray


def byte_table(characters: bytes) -> NDArray[np.bool_]:
    """A table by byte that says which ones are among some."""
    found = np.zeros(256, dtype=np.bool_)
    found[list(characters)] = True
    return found


def begin_with(codes: NDArray[np.uint8], starts: NDArray[np.int64], wanted: bytes) -> NDArray[np.bool_]:
    """Whether bytes from some offsets on are those that are wanted."""
    count = len(codes) - len(wanted) + 1
    if count <= 0 or not len(starts):
        return np.zeros(len(starts), dtype=np.bool_)
    windows = np.lib.stride_tricks.as_strided(codes, (count, len(wanted)), (1, 1), writeable=False)
    found = (starts < count) & (codes.take(starts, mode="clip") == wanted[0])
    places = np.flatnonzero(found)
    found[places] = (windows[starts[places]] == np.frombuffer(wanted, dtype=np.uint8)).all(axis=1)
    return found  # type: ignore[no-any-return]


_ESCAPED = byte_table(b'"\\nrtbf')
"""The characters after a backslash where orjson writes an escape; it writes other control characters with ``\\u``."""


@dataclass(frozen=True, slots=True)
class ScannedLines:
    """Lines, and where their quotes are.

    Args:
        data: the lines; those with escapes that orjson would not write are here as it writes them.
        codes: the same as numbers.
        begins: of the lines.
        ends: of the lines, behind their line breaks.
        quotes: the offsets of all quotes that are not escaped.
        escaped: the offsets of the characters behind backslashes that begin an escape.
        firsts: the number of each line's first quote.
        counts: the number of quotes in each line.
        controls: the number of control characters in each line.
        strict: whether a line is UTF-8 and has only escapes that orjson writes. Two strings of such lines are equal if
            their bytes are, and a string can be stored as it stands.
    """

    data: bytes
    codes: NDArray[np.uint8]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    quotes: NDArray[np.int64]
    escaped: NDArray[np.int64]
    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    controls: NDArray[np.int64]
    strict: NDArray[np.bool_]

    @classmethod
    def of(cls, data: bytes, ends: NDArray[np.int64]) -> "ScannedLines":
        """Scan lines.

        Args:
            data: whole lines.
            ends: the offset after each line break, and the end of the data.
        """
        lines = _scanned(data, ends)
        if lines.strict.all():
            return lines
        written = _as_orjson_writes(lines)
        if written is None:
            return lines
        again = _scanned(*written)
        # orjson keeps the last of two values of a key: such a line has lost quotes.
        again.strict[again.counts != lines.counts] = False
        return again


def _scanned(data: bytes, ends: NDArray[np.int64]) -> ScannedLines:
    codes = np.frombuffer(data, dtype=np.uint8)
    begins = np.concatenate([[0], ends[:-1]])
    quotes, escaped = _quotes(codes)
    firsts = np.searchsorted(quotes, begins)
    counts = np.diff(firsts, append=len(quotes))
    controls = np.diff(np.searchsorted(np.flatnonzero(codes < ord(" ")), np.append(begins, len(codes))))
    strict = np.ones(len(ends), dtype=np.bool_)
    strict[_not_utf8(data, ends)] = False
    odd = escaped[~_ESCAPED[codes.take(escaped, mode="clip")]]
    strict[np.minimum(np.searchsorted(ends, odd, side="right"), len(ends) - 1)] = False
    return ScannedLines(data, codes, begins, ends, quotes, escaped, firsts, counts, controls, strict)


def _quotes(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The offsets of the quotes that are not escaped, and of the characters that are."""
    quotes = np.flatnonzero(codes == ord('"'))
    slashes = np.flatnonzero(codes == ord("\\"))
    if not len(slashes):
        return quotes, slashes
    # Of several backslashes in a row each second one is escaped itself.
    begins = np.diff(slashes, prepend=-2) != 1
    first_of_each = slashes[begins][np.cumsum(begins) - 1]
    escaped = slashes[(slashes - first_of_each) % 2 == 0] + 1
    characters = codes.take(escaped, mode="clip")
    in_texts = np.ones(len(quotes), dtype=np.bool_)
    in_texts[np.searchsorted(quotes, escaped[characters == ord('"')])] = False
    return quotes[in_texts], escaped


def _not_utf8(data: bytes, ends: NDArray[np.int64]) -> list[int]:
    """The numbers of lines that are not UTF-8."""
    if data.isascii():
        return []
    bounds = pa.py_buffer(np.array([0, len(data)], dtype=np.int32))
    whole = pa.Array.from_buffers(pa.string(), 1, [None, bounds, pa.py_buffer(data)])
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        begins = [0, *ends.tolist()]
        return [at for at, (start, end) in enumerate(pairwise(begins)) if not _decodes(data[start:end])]
    return []


def _decodes(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_orjson_writes(lines: ScannedLines) -> tuple[bytes, NDArray[np.int64]] | None:
    """The lines with those rewritten that are not strict, and their ends; None where none of them can be parsed."""
    parts: list[bytes] = []
    ends = lines.ends.copy()
    done = longer = 0
    for number in np.flatnonzero(~lines.strict).tolist():
        begin, end = int(lines.begins[number]), int(lines.ends[number])
        line = lines.data[begin:end]
        try:
            written = orjson.dumps(orjson.loads(line)) + (b"\n" if line.endswith(b"\n") else b"")
        except (ValueError, TypeError, RecursionError):  # no JSON, or half of a surrogate pair
            continue
        parts += [lines.data[done:begin], written]
        done = end
        ends[number:] += len(written) - len(line)
        longer += 1
    return (b"".join([*parts, lines.data[done:]]), ends) if longer else None
