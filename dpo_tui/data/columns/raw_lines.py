"""The texts of JSON lines as they stand in the file, without making objects of them.

A line of three texts is taken where everything around its texts is byte for byte what it is in the first line, and its
texts are what orjson would write of them: no escapes but those that JSON demands. Such a text can be stored as it is,
and to find that out takes a third of the time of parsing and writing it. All other lines are named, for a closer look.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.rows.messages import LIST_STARTS, may_be_messages
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.text_lists import may_be_turns
from dpo_tui.data.rows.text_run import TextRun
from dpo_tui.data.rows.transcript import FIRST_LETTERS, STARTS, is_transcript

_QUOTES = 12
"""Of a line with three names and three texts."""
_AROUND = ((None, 2), (3, 6), (7, 10), (11, None))
"""What stands around the texts, by the quotes at its two ends: from the beginning of the line, to the end of it."""
_TEXT_QUOTES = ((2, 3), (6, 7), (10, 11))
_LEAST_TAKEN = 0.5
"""With a smaller share of such lines in a block, all its lines are parsed together."""
_MOST_BYTES = (1 << 31) - 1
"""Of a block: Arrow's offsets have 32 bits."""


def _table(characters: bytes) -> NDArray[np.bool_]:
    found = np.zeros(256, dtype=np.bool_)
    found[list(characters)] = True
    return found


_ESCAPED = _table(b'"\\nrtbf')
"""The characters after a backslash where orjson writes an escape; control characters in ``\\u`` are parsed."""
# White space of Unicode begins with these bytes in UTF-8.
_BLANK_STARTS = bytes([0xC2, 0xE1, 0xE2, 0xE3]) + b" \\"
_UNUSUAL_STARTS = _table(_BLANK_STARTS + "".join(LIST_STARTS).encode())
_SPEAKER_STARTS = _table("".join(FIRST_LETTERS).encode())
_SPEAKERS = tuple(one.encode() for one in STARTS)


@dataclass(frozen=True, slots=True)
class RawRows:
    """The lines that were taken, by number from 0, and their texts."""

    numbers: NDArray[np.int64]
    texts: TextRun


class RawLines:
    """Takes lines with one recogniser, which counts the rows that were taken.

    Args:
        recogniser: finds the columns of the three texts.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser

    def rows(self, data: bytes, ends: NDArray[np.int64]) -> RawRows:
        """Take lines.

        Args:
            data: whole lines.
            ends: the offset after each line break, and the end of the data.

        Raises:
            MixedColumnsError: the lines are to be parsed together: the first one has other columns than three texts, or
                few are like it.
        """
        if len(data) > _MOST_BYTES:
            raise MixedColumnsError
        try:
            record = orjson.loads(data[: int(ends[0])])
        except ValueError as error:
            raise MixedColumnsError from error
        if type(record) is not dict or len(record) != len(_TEXT_QUOTES) or set(map(type, record.values())) != {str}:
            raise MixedColumnsError
        columns = self._recogniser.only_columns(record)
        if columns is None or set(columns) != set(record) or self._recogniser.tie_columns(record):
            raise MixedColumnsError
        codes = np.frombuffer(data, dtype=np.uint8)
        numbers, quotes = _alike(codes, ends, _not_utf8(data, ends))
        starts = [quotes[:, first] + 1 for first, _ in _TEXT_QUOTES]
        stops = [quotes[:, last] for _, last in _TEXT_QUOTES]
        order = [list(record).index(name) for name in columns]
        special = set(_special(data, codes, [(starts[at], stops[at]) for at in order]))
        if special:
            plain = np.array([place for place in range(len(numbers)) if place not in special], dtype=np.int64)
            numbers, quotes = numbers[plain], quotes[plain]
        if len(numbers) < _LEAST_TAKEN * len(ends):
            raise MixedColumnsError
        self._recogniser.count_rows(record, len(numbers))
        return RawRows(numbers, TextRun(*_cut_out(data, quotes, order)))


def _not_utf8(data: bytes, ends: NDArray[np.int64]) -> list[int]:
    """The numbers of lines that are not UTF-8."""
    if data.isascii():
        return []
    bounds = pa.array(np.array([0, len(data)], dtype=np.int32))
    whole = pa.Array.from_buffers(pa.string(), 1, [None, bounds.buffers()[1], pa.py_buffer(data)])
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


def _alike(
    codes: NDArray[np.uint8], ends: NDArray[np.int64], but: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lines that are like the first one around their texts, by number, and the offsets of their quotes.

    Args:
        codes: the lines.
        ends: of the lines.
        but: numbers of lines to leave out.
    """
    begins = np.concatenate([[0], ends[:-1]])
    quotes, odd = _quotes(codes)
    firsts = np.searchsorted(quotes, begins)
    counts = np.diff(firsts, append=len(quotes))
    # Control characters stand between texts at most: JSON has none within them.
    controls = np.diff(np.searchsorted(np.flatnonzero(codes < ord(" ")), np.append(begins, len(codes))))
    alike = (counts == _QUOTES) & (controls == controls[0])
    alike[np.searchsorted(ends, odd, side="right")] = False
    alike[but] = False
    if not alike[0]:
        raise MixedColumnsError
    numbers = np.flatnonzero(alike)
    found = quotes[firsts[numbers][:, None] + np.arange(_QUOTES)]
    same = np.ones(len(numbers), dtype=np.bool_)
    for first, last in _AROUND:
        starts = begins[numbers] if first is None else found[:, first]
        stops = ends[numbers] if last is None else found[:, last] + 1
        model = codes[starts[0] : stops[0]]
        same &= stops - starts == len(model)
        places = np.minimum(starts[:, None] + np.arange(len(model)), len(codes) - 1)
        same &= (codes[places] == model).all(axis=1)
    return (numbers, found) if same.all() else (numbers[same], found[same])


def _quotes(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The offsets of the quotes that are not escaped, and of characters whose escape orjson would not write."""
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
    return quotes[in_texts], np.minimum(escaped[~_ESCAPED[characters]], len(codes) - 1)


def _special(
    data: bytes, codes: NDArray[np.uint8], columns: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Iterator[int]:
    """The places of lines for the recogniser, as `plain_lines.without_special_rows` finds them.

    Args:
        data: the lines.
        codes: the same as numbers.
        columns: where prompts, chosen and rejected answers begin and end.
    """

    def text(start: int, end: int) -> str:
        return orjson.loads(data[start - 1 : end + 1])  # type: ignore[no-any-return]

    for starts, stops in columns:
        for place in np.flatnonzero((starts == stops) | _UNUSUAL_STARTS[codes[starts]]).tolist():
            found = text(int(starts[place]), int(stops[place]))
            may_be_list = found[:1] in LIST_STARTS and (may_be_messages(found) or may_be_turns(found))
            if may_be_list or not found or found.isspace():
                yield place
    starts, stops = columns[0]
    first_codes = codes[starts]
    for place in np.flatnonzero(_SPEAKER_STARTS[first_codes]).tolist():
        start = int(starts[place])
        if data.startswith(_SPEAKERS, start) and is_transcript(text(start, int(stops[place]))):
            yield place
    # White space before the speaker is in an escape, or a space.
    for place in np.flatnonzero((first_codes == ord("\\")) | (first_codes == ord(" "))).tolist():
        if is_transcript(text(int(starts[place]), int(stops[place]))):
            yield place
    (chosen, chosen_ends), (rejected, rejected_ends) = columns[1:]
    for place in np.flatnonzero(chosen_ends - chosen == rejected_ends - rejected).tolist():
        one = data[int(chosen[place]) : int(chosen_ends[place])]
        if one == data[int(rejected[place]) : int(rejected_ends[place])]:
            yield place


def _cut_out(data: bytes, quotes: NDArray[np.int64], order: list[int]) -> Iterator[pa.BinaryArray]:
    """The texts of lines with their quotes, as prompts, chosen and rejected answers."""
    bounds = np.empty((len(quotes), 2 * len(_TEXT_QUOTES)), dtype=np.int32)
    for at, (first, last) in enumerate(_TEXT_QUOTES):
        bounds[:, 2 * at], bounds[:, 2 * at + 1] = quotes[:, first], quotes[:, last] + 1
    # One array whose values are by turns a text and what stands behind it: the texts are taken out of it.
    count = max(0, bounds.size - 1)
    pieces = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    for at in order:
        yield pieces.take(pa.array(np.arange(len(quotes)) * bounds.shape[1] + 2 * at))
