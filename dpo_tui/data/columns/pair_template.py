"""How the conversations of a pair are put together from the texts of a line, for all lines that are read alike.

To find out, the recogniser reads a record that has a mark in place of each text, and the marks are looked for in the
pair that it makes. So there is one description of how rows are read, and this is none.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from dpo_tui.data.columns.line_layout import LineLayout
from dpo_tui.data.pairs.pair import Message, Unreadable, pair_of, reason_unusable
from dpo_tui.data.rows.column_shapes import ColumnMapping, Record
from dpo_tui.data.rows.pair_run import PairKind
from dpo_tui.data.rows.record_to_pairs import Recogniser

_MARK = re.compile(rb"<(\d+)>")
Piece = bytes | int
"""A part of a JSON text that all lines have, or the number of the text that each line has there."""


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """The JSON texts of a pair's conversations, in pieces.

    Args:
        kind: of the rows.
        conversations: the pieces of prompt, chosen and rejected answer.
    """

    kind: PairKind
    conversations: tuple[tuple[Piece, ...], ...]


def mark(number: int) -> str:
    """What stands for a text: it is not blank, and begins neither a list nor a transcript."""
    return f"<{number}>"


def template_of_layout(
    layout: LineLayout, equal: Iterable[tuple[int, int]], mapping: ColumnMapping
) -> PairTemplate | None:
    """The template of the lines of a layout.

    Args:
        layout: a layout with slots.
        equal: the slots whose texts are equal, by pairs of their numbers; all others are taken to be different.
        mapping: the columns that the user named.

    Returns:
        None for lines that the recogniser has to read.
    """
    numbers = list(range(len(layout.slots)))
    for one, other in equal:
        numbers = [numbers[one] if number == numbers[other] else number for number in numbers]
    record: Record = {**layout.record}
    for number, slot in zip(numbers, layout.slots, strict=True):
        if slot.message is None:
            record[slot.column] = mark(number)
            continue
        messages: list[Any] = list(record[slot.column])
        messages[slot.message] = {**messages[slot.message], slot.key: mark(number)}
        record[slot.column] = messages
    return template_of(layout.record, record, mapping)


def template_of(record: Record, marked: Record, mapping: ColumnMapping) -> PairTemplate | None:
    """The template of the pair that a record gives, None where it does not give one of plain messages.

    Args:
        record: of the rows.
        marked: the record with a :func:`mark` in place of each text.
        mapping: the columns that the user named.
    """
    recogniser = Recogniser(mapping)
    try:
        found = recogniser.pairs(marked)
    except Unreadable:
        return None
    if len(found) != 1 or recogniser.notes or reason_unusable(found[0]) is not None:
        return None
    pair = pair_of(0, found[0])
    conversations = (pair.prompt, pair.chosen, pair.rejected)
    if pair.tools or not all(map(_is_plain, conversations)):
        return None
    (name,) = islice(recogniser.formats, 1)
    return PairTemplate(PairKind(record, name, pair), tuple(map(_pieces, conversations)))


def _is_plain(messages: list[Message]) -> bool:
    """Whether each message has a role and a text, in this order, and nothing else."""
    return all([*one] == ["role", "content"] and {*map(type, one.values())} == {str} for one in messages)


def _pieces(messages: list[Message]) -> tuple[Piece, ...]:
    parts = _MARK.split(orjson.dumps(messages, option=orjson.OPT_SORT_KEYS))
    return tuple(int(part) if at % 2 else part for at, part in enumerate(parts))
