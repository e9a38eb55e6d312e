"""The pairs of JSON lines made of their texts as they stand in the file, without making objects of them.

Lines are taken that fit a layout (:mod:`dpo_tui.data.columns.line_layout`), and whose texts decide nothing about how
they are read: none is blank, holds a list, or has speakers in it. Such texts can be stored as they are, and to find
that out takes a fraction of the time of parsing and writing them. All other lines are named, for a closer look.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui.data.columns.columnar_decoder import MixedColumnsError
from dpo_tui.data.columns.joined_pairs import MOST_BYTES, TakenLines, joined_pairs
from dpo_tui.data.columns.line_layout import LineLayout, TextSlot, learned_layout
from dpo_tui.data.columns.pair_template import PairTemplate, template_of_layout
from dpo_tui.data.columns.scanned_lines import ScannedLines, byte_table
from dpo_tui.data.columns.transcript_lines import TranscriptLines
from dpo_tui.data.rows.messages import LIST_STARTS, may_be_messages
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.text_lists import may_be_turns
from dpo_tui.data.rows.transcript import FIRST_LETTERS, STARTS, is_transcript

_LEAST_TAKEN = 0.1
"""With a smaller share of such lines in a block, all its lines are parsed together."""
_MOST_LAYOUTS = 64
_MOST_TRIED = 32
"""Lines of a block that layouts are learned from."""
_MOST_COMPARED = 60
"""Pairs of texts in a line that are compared."""
_MOST_TEMPLATES = 1024
# White space of Unicode begins with these bytes in UTF-8.
_BLANK_STARTS = byte_table(bytes([0xC2, 0xE1, 0xE2, 0xE3]) + b" \\")
_LIST_STARTS = byte_table("".join(LIST_STARTS).encode())
# A list or an object as text begins with these, or with white space.
_CELL_STARTS = byte_table(b"[{") | _BLANK_STARTS
_SPEAKER_STARTS = byte_table("".join(FIRST_LETTERS).encode())
_SPEAKERS = tuple(one.encode() for one in STARTS)


@dataclass(frozen=True, slots=True)
class RawRows:
    """The lines that were taken, by number from 0, and their pairs."""

    numbers: NDArray[np.int64]
    pairs: PairRun


class RawLines:
    """Takes lines as a recogniser would read them; rows that are taken are not counted by it.

    Args:
        recogniser: has the names of columns that the user set.
        cells: the lines are records of a table without types, whose texts may hold JSON.
    """

    def __init__(self, recogniser: Recogniser, *, cells: bool = False) -> None:
        self._cells = cells
        self._mapping = recogniser.mapping
        self._recogniser = Recogniser(recogniser.mapping)
        self._layouts: list[LineLayout] = []
        self._transcripts = TranscriptLines(recogniser.mapping)
        self._templates: dict[tuple[int, int], PairTemplate | None] = {}

    def rows(self, data: bytes, ends: NDArray[np.int64]) -> RawRows:
        """Take lines.

        Args:
            data: whole lines.
            ends: the offset after each line break, and the end of the data.

        Raises:
            MixedColumnsError: the lines are to be parsed together: few can be taken.
        """
        if len(data) > MOST_BYTES:
            raise MixedColumnsError
        lines = ScannedLines.of(data, ends)
        groups = [group for which, found in self._fitting(lines) for group in self._taken(lines, which, *found)]
        if sum(len(group.numbers) for group in groups) < max(1, _LEAST_TAKEN * len(ends)):
            raise MixedColumnsError
        return RawRows(*joined_pairs(lines.data, groups))

    def _fitting(self, lines: ScannedLines) -> Iterator[tuple[int, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """The number of each layout that lines fit, with these lines and the offsets of their quotes."""
        left = lines.strict.copy()
        for which, layout in enumerate(self._layouts):
            found = layout.fitting(lines, left)
            left[found[0]] = False
            if layout.slots and len(found[0]):
                yield which, found
        for _ in range(_MOST_TRIED):
            number = int(np.argmax(left))
            if not left[number] or len(self._layouts) >= _MOST_LAYOUTS:
                return
            left[number] = False
            learned = learned_layout(lines, number, self._recogniser)
            if learned is None:
                continue
            left[number] = True
            found = learned.fitting(lines, left)
            left[found[0]] = False
            left[number] = False
            self._layouts.append(learned)
            if learned.slots and len(found[0]):
                yield len(self._layouts) - 1, found

    def _taken(
        self, lines: ScannedLines, which: int, numbers: NDArray[np.int64], quotes: NDArray[np.int64]
    ) -> Iterator[TakenLines]:
        """Those lines of a layout that are taken, by the template of their pairs.

        Args:
            lines: the lines.
            which: the layout's number.
            numbers: of the lines that fit the layout.
            quotes: the offsets of their quotes.
        """
        layout = self._layouts[which]
        if layout.has_two_texts:
            yield from self._transcripts.taken(lines, which, layout, numbers, quotes)
            return
        opening = [slot.quote for slot in layout.slots]
        starts, stops = quotes[:, opening] + 1, quotes[:, [quote + 1 for quote in opening]]
        plain = np.ones(len(numbers), dtype=np.bool_)
        for at, slot in enumerate(layout.slots):
            plain[list(_special(lines, slot, starts[:, at], stops[:, at]))] = False
            if self._cells:
                plain[list(_like_json(lines, starts[:, at], stops[:, at]))] = False
        if not plain.all():
            numbers, starts, stops = numbers[plain], starts[plain], stops[plain]
        compared = [
            (one, other)
            for other, slot in enumerate(layout.slots)
            for one in range(other)
            if slot.is_compared(layout.slots[one])
        ]
        if len(compared) > _MOST_COMPARED:
            return
        patterns = _equal_texts(lines.data, starts, stops, compared)
        for pattern in np.unique(patterns).tolist():
            template = self._template(which, pattern, compared)
            if template is not None:
                mine = patterns == pattern
                yield TakenLines(template, numbers[mine], starts[mine], stops[mine])

    def _template(self, which: int, pattern: int, compared: list[tuple[int, int]]) -> PairTemplate | None:
        key = which, pattern
        if key not in self._templates and len(self._templates) < _MOST_TEMPLATES:
            equal = [pair for bit, pair in enumerate(compared) if pattern >> bit & 1]
            self._templates[key] = template_of_layout(self._layouts[which], equal, self._mapping)
        return self._templates.get(key)


def _equal_texts(
    data: bytes, starts: NDArray[np.int64], stops: NDArray[np.int64], compared: list[tuple[int, int]]
) -> NDArray[np.int64]:
    """For each line which of its texts are equal, as the bits of a number.

    Args:
        data: the lines.
        starts: where their texts begin.
        stops: where they end.
        compared: the pairs of texts to compare.
    """
    found = np.zeros(len(starts), dtype=np.int64)
    lengths = stops - starts
    for bit, (one, other) in enumerate(compared):
        places = np.flatnonzero(lengths[:, one] == lengths[:, other])
        spans = (column[places, which].tolist() for which in (one, other) for column in (starts, stops))
        equal = [data[start:stop] == data[begin:end] for start, stop, begin, end in zip(*spans, strict=True)]
        found[places[np.array(equal, dtype=np.bool_)]] |= np.int64(1 << bit)
    return found


def _special(lines: ScannedLines, slot: TextSlot, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Iterator[int]:
    """The places of lines with a text that decides how they are read.

    Args:
        lines: the lines.
        slot: of the texts.
        starts: where they begin.
        stops: where they end.
    """
    data, first_codes = lines.data, lines.codes[starts]

    def text(place: int) -> str:
        return _text(data, starts[place], stops[place])

    is_list_like = slot.message is None and slot.part != "system"
    unusual = (starts == stops) | _BLANK_STARTS[first_codes]
    if is_list_like:
        unusual |= _LIST_STARTS[first_codes]
    for place in np.flatnonzero(unusual).tolist():
        found = text(place)
        if not found or found.isspace() or (is_list_like and (may_be_messages(found) or may_be_turns(found))):
            yield place
    if not is_list_like or slot.part != "prompt":
        return
    for place in np.flatnonzero(_SPEAKER_STARTS[first_codes]).tolist():
        if data.startswith(_SPEAKERS, int(starts[place])) and is_transcript(text(place)):
            yield place
    # White space before the speaker is in an escape, or a space.
    for place in np.flatnonzero((first_codes == ord("\\")) | (first_codes == ord(" "))).tolist():
        if is_transcript(text(place)):
            yield place
    # WebGPT's questions are objects as text.
    for place in np.flatnonzero(first_codes == ord("{")).tolist():
        if b"full_text" in data[int(starts[place]) : int(stops[place])]:
            yield place


def _like_json(lines: ScannedLines, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Iterator[int]:
    """The places of cells that begin as a list or an object does, and may be decoded.

    Args:
        lines: the lines.
        starts: where the texts of the cells begin.
        stops: where they end.
    """
    for place in np.flatnonzero(_CELL_STARTS[lines.codes[starts]]).tolist():
        if _text(lines.data, starts[place], stops[place]).lstrip()[:1] in {"[", "{"}:
            yield place


def _text(data: bytes, start: np.int64, stop: np.int64) -> str:
    return orjson.loads(data[int(start) - 1 : int(stop) + 1])  # type: ignore[no-any-return]
