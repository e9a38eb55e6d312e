"""From rows to a batch of pairs: whole columns where rows are three texts, else the recogniser."""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.text_column import TextColumn
from dpo_tui.data.checks.unusual_characters import unusual_rows
from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Turns, Unreadable, text_of
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.rows.shapes import Record
from dpo_tui.data.rows.transcript import FIRST_LETTERS, is_transcript
from dpo_tui.data.scan.columnar_decoder import ColumnarDecoder, Columns, MixedColumnsError
from dpo_tui.data.source.json_lines import Row, parse_block, parse_row

BLANK = np.uint32(1 << 31)
"""The flag of a row that is no row."""
KEPT_MESSAGES = 3


@dataclass
class PairBatch:
    """A batch and what else its rows gave.

    Args:
        batch: the pairs.
        flags: one number a row, with the bits of the checks that left it out, or BLANK.
        messages: the reasons of a few rows, by check.
    """

    batch: PairColumns
    flags: NDArray[np.uint32]
    messages: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plain:
    """Rows that were taken whole: where they are, and their texts."""

    places: NDArray[np.int64]
    texts: tuple[TextColumn, TextColumn, TextColumn]


_NONE_PLAIN = _Plain(np.zeros(0, dtype=np.int64), (TextColumn.of([]), TextColumn.of([]), TextColumn.of([])))


_FIRST_LETTER = itemgetter(slice(0, 1))


class PairBatcher:
    """Gathers the pairs of rows with one recogniser.

    Args:
        recogniser: understands rows and counts their formats.
        checks: the registered checks.
    """

    def __init__(self, recogniser: Recogniser, checks: dict[str, Check]) -> None:
        self.recogniser = recogniser
        self._checks = checks
        self._typed = ColumnarDecoder(recogniser)

    def lines(self, data: bytes) -> PairBatch:
        """Gather the pairs of whole JSON lines."""
        suspected = unusual_rows(data)
        try:
            plain = self._plain_lines(data, suspected.ends)
        except MixedColumnsError:
            gathered = self.rows(parse_block(data))
        else:
            ends = suspected.ends.tolist()
            gathered = self._gather(len(ends), plain, lambda at: parse_row(data[ends[at - 1] if at else 0 : ends[at]]))
        gathered.batch.unusual = suspected
        return gathered

    def rows(self, found: list[Row]) -> PairBatch:
        """Gather the pairs of rows that are parsed already."""
        return self._gather(len(found), self._plain_rows(found), found.__getitem__)

    def _gather(self, count: int, plain: _Plain, row_at: Callable[[int], Row]) -> PairBatch:
        flags = np.zeros(count, dtype=np.uint32)
        if len(plain.places) == count:
            return PairBatch(PairColumns(plain.places, *plain.texts), flags)
        others = np.ones(count, dtype=bool)
        others[plain.places] = False
        rows_of = plain.places.tolist()
        texts: tuple[list[str], list[str], list[str]] = ([], [], [])
        turns: dict[int, Turns] = {}
        messages: dict[str, list[tuple[int, str]]] = {}
        for at in np.flatnonzero(others).tolist():
            row = row_at(at)
            if row is None:
                flags[at] = BLANK
                continue
            try:
                kept = usable_turns(row, self.recogniser)
            except Unreadable as problem:
                flags[at] |= np.uint32(1 << self._checks[problem.check].bit)
                if len(messages.setdefault(problem.check, [])) < KEPT_MESSAGES:
                    messages[problem.check].append((at, problem.message))
                continue
            for one in kept:
                if type(one.chosen) is not str or type(one.prompt) is not str or one.margin is not None:
                    turns[len(rows_of)] = one
                rows_of.append(at)
                asked = text_of(one.prompt)
                texts[0].append(f"{one.system}\n\n{asked}" if one.system else asked)
                texts[1].append(text_of(one.chosen))
                texts[2].append(text_of(one.rejected))
        prompt, chosen, rejected = (
            TextColumn.joined([one, TextColumn.of(more)]) for one, more in zip(plain.texts, texts, strict=True)
        )
        batch = PairColumns(np.array(rows_of, dtype=np.int64), prompt, chosen, rejected, turns)
        return PairBatch(batch, flags, messages)

    def _plain_lines(self, data: bytes, ends: NDArray[np.int64]) -> _Plain:
        places, kept = [], []
        record, before = None, 0
        for columns in self._typed.take(data, ends):
            usable = _usable(columns)
            places.append(usable[0] + before)
            kept.append(usable[1])
            before += len(columns.prompts)
            record = columns.record
        found = np.concatenate(places)
        if record is not None:
            self.recogniser.count_rows(record, len(found))
        prompts, chosens, rejecteds = map(TextColumn.joined, zip(*kept, strict=True))
        return _Plain(found, (prompts, chosens, rejecteds))

    def _plain_rows(self, found: list[Row]) -> _Plain:
        """Take whole columns of those rows that are three texts and nothing more."""
        first = next((row for row in found if type(row) is dict), None)
        columns = self.recogniser.only_columns(first) if type(first) is dict else None
        if columns is None or type(first) is not dict:
            return _NONE_PLAIN
        width = len(first)
        places = list(range(len(found)))
        if set(map(type, found)) != {dict} or set(map(len, cast("list[Record]", found))) != {width}:
            places = [at for at, row in enumerate(found) if type(row) is dict and len(row) == width]
        records = cast("list[Record]", found if len(places) == len(found) else [found[at] for at in places])
        try:
            texts = [list(map(itemgetter(name), records)) for name in columns]
        except KeyError:
            return _NONE_PLAIN
        if {kind for column in texts for kind in set(map(type, column))} != {str}:
            return _NONE_PLAIN
        kept, usable = _usable(Columns(first, *map(TextColumn.of, texts)))
        self.recogniser.count_rows(first, len(kept))
        return _Plain(np.array(places, dtype=np.int64)[kept], usable)


def _usable(columns: Columns) -> tuple[NDArray[np.int64], tuple[TextColumn, TextColumn, TextColumn]]:
    """Leave those rows to the recogniser that need something done: blanks, equal answers, transcripts."""
    prompts, chosens, rejecteds = columns.prompts, columns.chosens, columns.rejecteds
    odd: set[int] = set()
    for column in (prompts, chosens, rejecteds):
        if not column.lengths.all() or any(map(str.isspace, column.texts)):
            odd.update(at for at, text in enumerate(column.texts) if not text or text.isspace())
    firsts = map(_FIRST_LETTER, prompts.texts)
    odd.update(at for at, first in enumerate(firsts) if first in FIRST_LETTERS and is_transcript(prompts.texts[at]))
    same = np.flatnonzero(chosens.hashes == rejecteds.hashes).tolist()
    odd.update(at for at in same if chosens.texts[at] == rejecteds.texts[at])
    if not odd:
        return np.arange(len(prompts)), (prompts, chosens, rejecteds)
    kept = np.array([at for at in range(len(prompts)) if at not in odd], dtype=np.int64)
    return kept, (prompts.at(kept), chosens.at(kept), rejecteds.at(kept))
