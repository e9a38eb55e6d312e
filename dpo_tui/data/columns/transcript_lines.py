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
class _Names:
    """Where turns begin in some lines.

    Args:
        names: of user and assistant, with their colons.
        offsets: of the names in the block, in order.
        is_assistant: whose name each one is.
    """

    names: tuple[bytes, bytes]
    offsets: Offsets
    is_assistant: NDArray[np.bool_]

    def numbers_from(self, starts: Offsets) -> Offsets:
        """The number of the first name at or after each of some offsets."""
        return np.searchsorted(self.offsets, starts)

    def roles(self, firsts: Offsets, counts: Offsets) -> Offsets:
        """The roles of some names each, as the bits of a number with a 1 before them."""
        found = np.ones(len(firsts), dtype=np.int64)
        for at in range(int(counts.max(initial=0))):
            more = counts > at
            found[more] = 2 * found[more] + self.is_assistant[firsts[more] + at]
        return found


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of transcripts.

    Args:
        starts: of the texts.
        stops: of the texts.
        names: the offsets of the names in each text, as many in all of them.
        roles: which of them are the assistant's.
    """

    starts: Offsets
    stops: Offsets
    names: Offsets
    roles: tuple[bool, ...]

    def of(self, mask: NDArray[np.bool_]) -> "_Column":
        return _Column(self.starts[mask], self.stops[mask], self.names[mask], self.roles)

    def turns(self, first: int, names: tuple[bytes, bytes]) -> tuple[Offsets, Offsets]:
        """Where the turns begin and end, from one on, with the white space around them."""
        lengths = np.array([len(names[is_assistant]) for is_assistant in self.roles])
        # A name stands behind a line break, which is two characters.
        stops = np.concatenate([self.names[:, 1:] - 2, self.stops[:, None]], axis=1)
        return (self.names + lengths)[:, first:], stops[:, first:]


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
        starts = [quotes[:, slot.quote] + 1 for slot in slots]
        stops = [quotes[:, slot.quote + 1] for slot in slots]
        heads = [_after_space(lines.codes, *one) for one in zip(starts, stops, strict=True)]
        for speakers in SPEAKERS:
            user, assistant = (f"{name}:".encode() for name in speakers)
            begin = np.ones(len(numbers), dtype=np.bool_)
            for start, head in zip(starts, heads, strict=True):
                begin &= begin_with(lines.codes, head, user) & _is_at_line(lines.codes, start, head)
            mine = np.flatnonzero(begin)
            if not len(mine):
                continue
            names, doubtful = _names(lines, (user, assistant), np.concatenate([head[mine] for head in heads]))
            mine = mine[~_has_any(doubtful, lines.begins[numbers[mine]], lines.ends[numbers[mine]])]
            spans = [(one[mine], other[mine]) for one, other in zip(starts, stops, strict=True)]
            for places, chosen, rejected in _alike(names, spans):
                for boundary, same in _boundaries(lines.data, chosen, rejected):
                    group = _Divided(names.names, boundary, chosen.of(same), rejected.of(same))
                    found = self._taken(lines, which, layout, numbers[mine[places[same]]], group)
                    if found is not None:
                        yield found

    def _taken(
        self, lines: ScannedLines, which: int, layout: LineLayout, numbers: Offsets, found: "_Divided"
    ) -> TakenLines | None:
        plain = ~found.begin_answers_with_name(lines.codes)
        chosen = _stripped(lines, *found.chosen.turns(0, found.names))
        rejected = _stripped(lines, *found.rejected.turns(found.boundary, found.names))
        for one in (chosen, rejected):
            plain &= ~(one.unclear | (one.starts >= one.stops)).any(axis=1)
        if found.chosen.roles == found.rejected.roles:
            plain &= ~_equal(lines.data, chosen.part(found.boundary), rejected)
        key = which, found.names, found.chosen.roles, found.rejected.roles, found.boundary
        if key not in self._templates and len(self._templates) < _MOST_TEMPLATES:
            self._templates[key] = self._template(layout, found)
        template = self._templates.get(key)
        if template is None or not plain.any():
            return None
        in_line = (chosen, rejected) if layout.slots[0].part == "chosen" else (rejected, chosen)
        starts = np.concatenate([one.starts for one in in_line], axis=1)
        stops = np.concatenate([one.stops for one in in_line], axis=1)
        return TakenLines(template, numbers[plain], starts[plain], stops[plain])

    def _template(self, layout: LineLayout, found: "_Divided") -> PairTemplate | None:
        """The template of transcripts, from one whose turns are the marks of texts, in the order of the line."""
        chosen, rejected = len(found.chosen.roles), len(found.rejected.roles) - found.boundary
        is_chosen_first = layout.slots[0].part == "chosen"
        of_chosen = [mark(number + (0 if is_chosen_first else rejected)) for number in range(chosen)]
        of_rejected = [mark(number + (chosen if is_chosen_first else 0)) for number in range(rejected)]
        turns = {
            "chosen": (found.chosen.roles, of_chosen),
            "rejected": (found.rejected.roles, [*of_chosen[: found.boundary], *of_rejected]),
        }
        marked = {
            slot.column: "\n\n".join(
                f"{found.names[role].decode()} {text}" for role, text in zip(*turns[slot.part], strict=True)
            )
            for slot in layout.slots
        }
        return template_of(layout.record, {**layout.record, **marked}, self._mapping)


@dataclass(frozen=True, slots=True)
class _Divided:
    """Transcripts of the same speakers, whose prompt is the turns before a boundary."""

    names: tuple[bytes, bytes]
    boundary: int
    chosen: _Column
    rejected: _Column

    def begin_answers_with_name(self, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether a speaker's name is what an answer begins with: that makes a further turn of it."""
        found = np.zeros(len(self.chosen.starts), dtype=np.bool_)
        for texts in (self.chosen, self.rejected):
            starts, stops = (one[:, self.boundary] for one in texts.turns(0, self.names))
            heads = _after_space(codes, starts, stops)
            for name in self.names:
                found |= begin_with(codes, heads, name)
        return found


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turns without the white space around them, a row for each line; unclear where there may be more of it."""

    starts: Offsets
    stops: Offsets
    unclear: NDArray[np.bool_]

    def part(self, first: int) -> "_Turns":
        return _Turns(self.starts[:, first:], self.stops[:, first:], self.unclear[:, first:])


def _names(lines: ScannedLines, names: tuple[bytes, bytes], heads: Offsets) -> tuple[_Names, Offsets]:
    """The names at the beginnings of texts and behind line breaks; and those with white space before them."""
    breaks = lines.escaped[lines.codes.take(lines.escaped, mode="clip") == ord("n")]
    behind = breaks + 1
    users, assistants = (behind[begin_with(lines.codes, behind, name)] for name in names)
    offsets = np.concatenate([users, heads, assistants])
    is_assistant = np.arange(len(offsets)) >= len(users) + len(heads)
    order = np.argsort(offsets, kind="stable")
    order = order[np.diff(offsets[order], prepend=-1) > 0]  # most texts begin with a line break
    after = _after_space(lines.codes, behind, np.full(len(behind), len(lines.codes)))
    after = after[after > behind]
    named = np.concatenate([after[begin_with(lines.codes, after, name)] for name in names])
    # Line breaks are white space as well: what follows the last of them is found already.
    doubtful = np.sort(named[behind.take(np.searchsorted(behind, named), mode="clip") != named])
    return _Names(names, offsets[order], is_assistant[order]), doubtful


def _has_any(offsets: Offsets, begins: Offsets, ends: Offsets) -> NDArray[np.bool_]:
    """Whether one of some offsets, which are in order, lies in each span."""
    return np.searchsorted(offsets, begins) < np.searchsorted(offsets, ends)


def _alike(names: _Names, spans: list[tuple[Offsets, Offsets]]) -> Iterator[tuple[Offsets, _Column, _Column]]:
    """Lines with the same turns: their places, and their transcripts."""
    firsts = [names.numbers_from(starts) for starts, _ in spans]
    counts = [names.numbers_from(stops) - first for (_, stops), first in zip(spans, firsts, strict=True)]
    short = (counts[0] <= _MOST_TURNS) & (counts[1] <= _MOST_TURNS)
    places = np.flatnonzero(short)
    firsts, counts = [one[places] for one in firsts], [one[places] for one in counts]
    roles = [names.roles(*one).tolist() for one in zip(firsts, counts, strict=True)]
    kinds: dict[tuple[int, int], list[int]] = {}
    for place, kind in enumerate(zip(*roles, strict=True)):
        kinds.setdefault(kind, []).append(place)
    for found in kinds.values():
        mine = np.array(found)
        texts = []
        for (starts, stops), first, count in zip(spans, firsts, counts, strict=True):
            numbers = first[mine][:, None] + np.arange(int(count[mine[0]]))
            roles_of = tuple(names.is_assistant[numbers[0]].tolist())
            texts.append(_Column(starts[places[mine]], stops[places[mine]], names.offsets[numbers], roles_of))
        yield places[mine], texts[0], texts[1]


def _boundaries(data: bytes, chosen: _Column, rejected: _Column) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The number of the turn with which the answers begin, and the lines for which it is that one.

    It is the assistant's last turn up to whose name, and with it, the two transcripts are the same.
    """
    left = np.ones(len(chosen.starts), dtype=np.bool_)
    for turn in range(min(len(chosen.roles), len(rejected.roles)) - 1, 0, -1):
        if not chosen.roles[turn] or chosen.roles[: turn + 1] != rejected.roles[: turn + 1]:
            continue
        lengths = chosen.names[:, turn] - chosen.starts
        same = left & (lengths == rejected.names[:, turn] - rejected.starts)
        places = np.flatnonzero(same)
        spans = zip(
            chosen.starts[places].tolist(), rejected.starts[places].tolist(), lengths[places].tolist(), strict=True
        )
        same[places] = [data[one : one + length] == data[other : other + length] for one, other, length in spans]
        left &= ~same
        if same.any():
            yield turn, same


def _equal(data: bytes, chosen: _Turns, rejected: _Turns) -> NDArray[np.bool_]:
    """For each line whether all turns of its answers are equal."""
    found = (chosen.stops - chosen.starts == rejected.stops - rejected.starts).all(axis=1)
    for place in np.flatnonzero(found).tolist():
        spans = (one[place].tolist() for one in (chosen.starts, chosen.stops, rejected.starts, rejected.stops))
        found[place] = all(data[start:stop] == data[begin:end] for start, stop, begin, end in zip(*spans, strict=True))
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


def _stripped(lines: ScannedLines, starts: Offsets, stops: Offsets) -> _Turns:
    """Turns without the white space of ASCII around them."""
    codes = lines.codes
    shape = starts.shape
    begins, ends = _after_space(codes, starts.ravel(), stops.ravel()), stops.ravel().copy()
    moved = np.flatnonzero(begins < ends)
    while len(moved):
        last = ends[moved] - 1
        is_space = codes[last] == ord(" ")
        # A backslash before a letter begins an escape unless it is escaped itself.
        maybe = np.flatnonzero(_SPACE_ESCAPES[codes[last]] & (codes[last - 1] == ord("\\")))
        escapes = lines.escaped.take(np.searchsorted(lines.escaped, last[maybe]), mode="clip") == last[maybe]
        step = is_space.astype(np.int64)
        step[maybe[escapes]] = 2
        ends[moved] -= step
        moved = moved[(step > 0) & (begins[moved] < ends[moved])]
    unclear = _is_wide_space(codes, begins) | _is_wide_space(codes, ends - 2) | _is_wide_space(codes, ends - 3)
    return _Turns(begins.reshape(shape), ends.reshape(shape), unclear.reshape(shape))


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
