"""Lines whose answers are two transcripts, divided into turns as they stand in the file.

The rules are those of :mod:`dpo_tui.data.rows.transcript`. Lines are left to it where these are not plainly met: with
white space before a speaker's name, say, or with an empty turn.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.columns.joined_pairs import TakenLines
from dpo_tui.data.columns.line_layout import LineLayout
from dpo_tui.data.columns.pair_template import PairTemplate, mark, template_of
from dpo_tui.data.columns.scanned_lines import ScannedLines, begin_with, byte_table
from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.data.rows.transcript import SPEAKERS

Offsets = NDArray[np.int64]
_SPACE_ESCAPES = byte_table(b"nrtf")
# U+2000 to U+200A, U+2028, U+2029 and U+202F in UTF-8.
_THIRD_OF_SPACES = byte_table(bytes([*range(0x80, 0x8B), 0xA8, 0xA9, 0xAF]))
_MOST_TURNS = 60
_MOST_TEMPLATES = 1024


@dataclass(frozen=True, slots=True)
class _Turns:
    """The turns in some lines.

    Args:
        names: of user and assistant, with their colons.
        offsets: of the names before the turns, in order.
        is_assistant: whose turn each is.
        starts: where the turns begin, without white space around them.
        stops: where they end.
        unclear: whether there may be more white space, or none but white space.
        begin_with_name: whether a speaker's name is what a turn begins with; of an answer it makes a further turn.
    """

    names: tuple[bytes, bytes]
    offsets: Offsets
    is_assistant: NDArray[np.bool_]
    starts: Offsets
    stops: Offsets
    unclear: NDArray[np.bool_]
    begin_with_name: NDArray[np.bool_]

    def numbers_from(self, starts: Offsets) -> Offsets:
        """The number of the first name at or after each of some offsets."""
        return np.searchsorted(self.offsets, starts)

    def roles(self, firsts: Offsets, counts: Offsets) -> list[int]:
        """The roles of some turns each, as the bits of a number with a 1 before them."""
        found = np.ones(len(firsts), dtype=np.int64)
        for at in range(int(counts.max(initial=0))):
            more = counts > at
            found[more] = 2 * found[more] + self.is_assistant[firsts[more] + at]
        return found.tolist()


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of transcripts with the same roles.

    Args:
        starts: of the texts.
        numbers: of the turns of each text.
        roles: which of them are the assistant's.
    """

    starts: Offsets
    numbers: Offsets
    roles: tuple[bool, ...]

    def of(self, mask: NDArray[np.bool_]) -> "_Column":
        return _Column(self.starts[mask], self.numbers[mask], self.roles)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Transcripts of the same roles, whose prompt is the turns before a boundary."""

    boundary: int
    chosen: _Column
    rejected: _Column


class TranscriptLines:
    """Divides lines.

    Args:
        mapping: the columns that the user named.
    """

    def __init__(self, mapping: ColumnMapping) -> None:
        self._mapping = mapping
        self._templates: dict[Hashable, PairTemplate | None] = {}

    def taken(
        self, lines: ScannedLines, which: int, layout: LineLayout, numbers: Offsets, quotes: Offsets
    ) -> Iterator[TakenLines]:
        """Those lines of a layout that are plain transcripts, by the template of their pairs.

        Args:
            lines: the lines.
            which: the layout's number.
            layout: of two texts.
            numbers: of the lines that fit the layout.
            quotes: the offsets of their quotes.
        """
        slots = sorted(layout.slots, key=lambda slot: slot.part)  # chosen, rejected
        spans = [(quotes[:, slot.quote] + 1, quotes[:, slot.quote + 1]) for slot in slots]
        heads = [_after_space(lines.codes, *one) for one in spans]
        left = np.ones(len(numbers), dtype=np.bool_)
        for speakers in SPEAKERS:
            if not left.any():
                return
            user, assistant = (f"{name}:".encode() for name in speakers)
            begin = left.copy()
            for (starts, _), head in zip(spans, heads, strict=True):
                begin &= begin_with(lines.codes, head, user) & _is_at_line(lines.codes, starts, head)
            left &= ~begin
            mine = np.flatnonzero(begin)
            if not len(mine):
                continue
            stops = np.concatenate([one[mine] for _, one in spans])
            turns, doubtful = _turns(lines, (user, assistant), np.concatenate([head[mine] for head in heads]), stops)
            mine = mine[~_has_any(doubtful, lines.begins[numbers[mine]], lines.ends[numbers[mine]])]
            for places, chosen, rejected in _alike(turns, [(one[mine], other[mine]) for one, other in spans]):
                for boundary, same in _boundaries(lines.data, turns, chosen, rejected):
                    pairs = _Pairs(boundary, chosen.of(same), rejected.of(same))
                    found = self._taken(lines.data, (which, layout), numbers[mine[places[same]]], turns, pairs)
                    if found is not None:
                        yield found

    def _taken(
        self, data: bytes, of_layout: tuple[int, LineLayout], numbers: Offsets, turns: _Turns, pairs: _Pairs
    ) -> TakenLines | None:
        which, layout = of_layout
        boundary = pairs.boundary
        chosen, rejected = pairs.chosen.numbers, pairs.rejected.numbers[:, boundary:]
        plain = ~(turns.unclear[chosen].any(axis=1) | turns.unclear[rejected].any(axis=1))
        plain &= ~(turns.begin_with_name[chosen[:, boundary]] | turns.begin_with_name[rejected[:, 0]])
        if pairs.chosen.roles == pairs.rejected.roles:
            plain &= ~_equal(data, turns, chosen[:, boundary:], rejected)
        key = which, turns.names, pairs.chosen.roles, pairs.rejected.roles, boundary
        if key not in self._templates and len(self._templates) < _MOST_TEMPLATES:
            self._templates[key] = self._template(layout, turns.names, pairs)
        template = self._templates.get(key)
        if template is None or not plain.any():
            return None
        in_line = (chosen, rejected) if layout.slots[0].part == "chosen" else (rejected, chosen)
        found = np.concatenate(in_line, axis=1)[plain]
        return TakenLines(template, numbers[plain], turns.starts[found], turns.stops[found])

    def _template(self, layout: LineLayout, names: tuple[bytes, bytes], pairs: _Pairs) -> PairTemplate | None:
        """The template of transcripts, from one whose turns are the marks of texts, in the order of the line."""
        chosen, rejected = len(pairs.chosen.roles), len(pairs.rejected.roles) - pairs.boundary
        is_chosen_first = layout.slots[0].part == "chosen"
        of_chosen = [mark(number + (0 if is_chosen_first else rejected)) for number in range(chosen)]
        of_rejected = [mark(number + (chosen if is_chosen_first else 0)) for number in range(rejected)]
        texts = {
            "chosen": zip(pairs.chosen.roles, of_chosen, strict=True),
            "rejected": zip(pairs.rejected.roles, [*of_chosen[: pairs.boundary], *of_rejected], strict=True),
        }
        marked = {
            slot.column: "\n\n".join(f"{names[role].decode()} {text}" for role, text in texts[slot.part])
            for slot in layout.slots
        }
        return template_of(layout.record, {**layout.record, **marked}, self._mapping)


def _turns(lines: ScannedLines, names: tuple[bytes, bytes], heads: Offsets, stops: Offsets) -> tuple[_Turns, Offsets]:
    """The turns whose names stand at the beginnings of texts and behind line breaks.

    Args:
        lines: the lines.
        names: of user and assistant.
        heads: the offsets of the names at the beginnings of texts.
        stops: where the texts end.

    Returns:
        The turns, and the offsets of names with white space before them.
    """
    colons = np.flatnonzero(lines.codes == ord(":"))
    (users, odd_users), (assistants, odd_assistants) = (_names(lines, colons, name) for name in names)
    offsets = np.concatenate([users, heads, assistants])
    is_assistant = np.arange(len(offsets)) >= len(users) + len(heads)
    order = np.argsort(offsets, kind="stable")
    order = order[np.diff(offsets[order], prepend=-1) > 0]  # most texts begin with a line break
    offsets, is_assistant = offsets[order], is_assistant[order]
    doubtful = np.sort(np.concatenate([odd_users, odd_assistants]))
    # A turn ends with its text, or before the line break, which is two characters, of the next one.
    text_stops = np.sort(stops).take(np.searchsorted(np.sort(stops), offsets), mode="clip")
    ends = np.minimum(np.append(offsets[1:] - 2, len(lines.codes)), text_stops)
    begins = offsets + np.where(is_assistant, len(names[1]), len(names[0]))
    starts, stripped = _stripped(lines, begins, np.maximum(begins, ends))
    unclear = starts >= stripped
    for codes_at in (starts, stripped - 2, stripped - 3):
        unclear |= _is_wide_space(lines.codes, codes_at)
    begin_with_name = begin_with(lines.codes, starts, names[0]) | begin_with(lines.codes, starts, names[1])
    return _Turns(names, offsets, is_assistant, starts, stripped, unclear, begin_with_name), doubtful


def _names(lines: ScannedLines, colons: Offsets, name: bytes) -> tuple[Offsets, Offsets]:
    """The offsets of a name behind line breaks; and of it behind a line break and spaces or tabs."""
    codes = lines.codes
    found = colons - (len(name) - 1)
    found = found[found > 1]
    found = found[begin_with(codes, found, name)]
    is_behind = begin_with(codes, found - 2, b"\\n")
    behind = found[is_behind]
    behind = behind[lines.escaped.take(np.searchsorted(lines.escaped, behind - 1), mode="clip") == behind - 1]
    others = found[~is_behind]
    before = others.copy()
    moved = np.arange(len(others))
    while len(moved):  # ends at a quote at the latest
        here = before[moved]
        step = (codes[here - 1] == ord(" ")) + 2 * begin_with(codes, here - 2, b"\\t").astype(np.int64)
        before[moved] = here - step
        moved = moved[step > 0]
    return behind, others[(before < others) & begin_with(codes, before - 2, b"\\n")]


def _has_any(offsets: Offsets, begins: Offsets, ends: Offsets) -> NDArray[np.bool_]:
    """Whether one of some offsets, which are in order, lies in each span."""
    return np.searchsorted(offsets, begins) < np.searchsorted(offsets, ends)


def _alike(turns: _Turns, spans: list[tuple[Offsets, Offsets]]) -> Iterator[tuple[Offsets, _Column, _Column]]:
    """Lines with the same turns: their places, and their transcripts."""
    firsts = [turns.numbers_from(starts) for starts, _ in spans]
    counts = [turns.numbers_from(stops) - first for (_, stops), first in zip(spans, firsts, strict=True)]
    places = np.flatnonzero((counts[0] <= _MOST_TURNS) & (counts[1] <= _MOST_TURNS))
    firsts, counts = [one[places] for one in firsts], [one[places] for one in counts]
    roles = [turns.roles(*one) for one in zip(firsts, counts, strict=True)]
    kinds: dict[tuple[int, int], list[int]] = {}
    for place, kind in enumerate(zip(*roles, strict=True)):
        kinds.setdefault(kind, []).append(place)
    for found in kinds.values():
        mine = np.array(found)
        columns = []
        for (starts, _), first, count in zip(spans, firsts, counts, strict=True):
            numbers = first[mine][:, None] + np.arange(int(count[mine[0]]))
            columns.append(_Column(starts[places[mine]], numbers, tuple(turns.is_assistant[numbers[0]].tolist())))
        yield places[mine], columns[0], columns[1]


def _boundaries(
    data: bytes, turns: _Turns, chosen: _Column, rejected: _Column
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The number of the turn with which the answers begin, and the lines for which it is that one.

    It is the assistant's last turn up to whose name, and with it, the two transcripts are the same.
    """
    left = np.ones(len(chosen.starts), dtype=np.bool_)
    for turn in range(min(len(chosen.roles), len(rejected.roles)) - 1, 0, -1):
        if not chosen.roles[turn] or chosen.roles[: turn + 1] != rejected.roles[: turn + 1]:
            continue
        lengths = turns.offsets[chosen.numbers[:, turn]] - chosen.starts
        same = left & (lengths == turns.offsets[rejected.numbers[:, turn]] - rejected.starts)
        places = np.flatnonzero(same)
        spans = zip(
            chosen.starts[places].tolist(), rejected.starts[places].tolist(), lengths[places].tolist(), strict=True
        )
        same[places] = [data[one : one + length] == data[other : other + length] for one, other, length in spans]
        left &= ~same
        if same.any():
            yield turn, same


def _equal(data: bytes, turns: _Turns, chosen: Offsets, rejected: Offsets) -> NDArray[np.bool_]:
    """For each line whether all turns of its answers are equal, by the numbers of these turns."""
    lengths = turns.stops - turns.starts
    found = (lengths[chosen] == lengths[rejected]).all(axis=1)
    for place in np.flatnonzero(found).tolist():
        columns = (one[numbers[place]] for numbers in (chosen, rejected) for one in (turns.starts, turns.stops))
        spans = zip(*(one.tolist() for one in columns), strict=True)
        found[place] = all(data[start:stop] == data[begin:end] for start, stop, begin, end in spans)
    return found  # type: ignore[no-any-return]


def _is_at_line(codes: NDArray[np.uint8], starts: Offsets, heads: Offsets) -> NDArray[np.bool_]:
    """Whether nothing but line breaks, or nothing at all, stands before the first name of a text."""
    before = np.maximum(heads - 2, 0)
    return (heads == starts) | (begin_with(codes, before, b"\\n") & (before >= starts))  # type: ignore[no-any-return]


def _after_space(codes: NDArray[np.uint8], starts: Offsets, stops: Offsets) -> Offsets:
    """The offsets behind the white space of ASCII with which texts begin."""
    found = starts.copy()
    moved = np.flatnonzero(found < stops)
    while len(moved):
        here = found[moved]
        escape = (codes[here] == ord("\\")) & _SPACE_ESCAPES[codes.take(here + 1, mode="clip")]
        step = (codes[here] == ord(" ")) + 2 * escape.astype(np.int64)
        found[moved] = here + step
        moved = moved[(step > 0) & (found[moved] < stops[moved])]
    return found


def _stripped(lines: ScannedLines, starts: Offsets, stops: Offsets) -> tuple[Offsets, Offsets]:
    """Where texts begin and end without the white space of ASCII around them."""
    codes = lines.codes
    begins, ends = _after_space(codes, starts, stops), stops.copy()
    moved = np.flatnonzero(begins < ends)
    while len(moved):
        last = ends[moved] - 1
        step = (codes[last] == ord(" ")).astype(np.int64)
        # A backslash before a letter begins an escape unless it is escaped itself.
        maybe = np.flatnonzero(_SPACE_ESCAPES[codes[last]] & (codes[last - 1] == ord("\\")))
        escapes = lines.escaped.take(np.searchsorted(lines.escaped, last[maybe]), mode="clip") == last[maybe]
        step[maybe[escapes]] = 2
        ends[moved] -= step
        moved = moved[(step > 0) & (begins[moved] < ends[moved])]
    return begins, ends


def _is_wide_space(codes: NDArray[np.uint8], at: Offsets) -> NDArray[np.bool_]:
    """Whether white space that is not ASCII stands somewhere."""
    one, two, three = (codes.take(at + step, mode="clip") for step in range(3))
    in_general = (two == 0x80) & _THIRD_OF_SPACES[three]  # noqa: PLR2004
    return (  # type: ignore[no-any-return]
        ((one == 0xC2) & ((two == 0x85) | (two == 0xA0)))  # noqa: PLR2004
        | ((one == 0xE1) & (two == 0x9A) & (three == 0x80))  # noqa: PLR2004
        | ((one == 0xE2) & (in_general | ((two == 0x81) & (three == 0x9F))))  # noqa: PLR2004
        | ((one == 0xE3) & (two == 0x80) & (three == 0x80))  # noqa: PLR2004
    )
