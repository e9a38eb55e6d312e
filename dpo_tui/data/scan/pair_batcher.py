"""Make batches of pairs from rows.

Rows that consist of three plain texts are taken by column, which is several times faster; every other row goes through
the recogniser by itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.byte_prefilter import unusual_rows
from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.pair_columns import PairColumns, TextColumn
from dpo_tui.data.columns.columnar_decoder import Columns, MixedColumnsError
from dpo_tui.data.columns.plain_lines import PlainLines, PlainRows, without_special_rows
from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Turns, Unreadable, text_of
from dpo_tui.data.rows.column_shapes import Record
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.shapes.better_answer import is_tie
from dpo_tui.data.source.json_lines import Row, parse_block, parse_block_with_warnings, parse_row
from dpo_tui.data.source.row_warnings import RowWarning

BLANK = np.uint32(1 << 31)
"""The flag of a blank line, which is no row."""
MESSAGES_A_CHECK = 3
"""Rows that cannot be used whose reason is kept, for each check."""
_FIRST_CHARACTER = itemgetter(slice(0, 1))


@dataclass
class PairBatch:
    """A batch of pairs, and what the rows without a pair gave.

    Args:
        pairs: the usable pairs.
        flags: 32 bits for each row: the bit of the check that made it unusable, or BLANK.
        messages: for each check, a few rows (from 0) that cannot be used or are doubtful, with the reason.
    """

    pairs: PairColumns
    flags: NDArray[np.uint32]
    messages: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


_NO_PLAIN_ROWS = PlainRows(np.zeros(0, dtype=np.int64), (TextColumn.of([]), TextColumn.of([]), TextColumn.of([])))


class PairBatcher:
    """Makes batches of pairs with one recogniser.

    Args:
        recogniser: finds the pairs in a row, and counts the formats of rows.
        checks: the registered checks.
    """

    def __init__(self, recogniser: Recogniser, checks: dict[str, Check]) -> None:
        self.recogniser = recogniser
        self._checks = checks
        self._lines = PlainLines(recogniser)

    def from_lines(self, data: bytes) -> PairBatch:
        """Make a batch from whole JSON lines."""
        unusual = unusual_rows(data)
        try:
            plain = self._lines.rows(data, unusual.ends)
        except MixedColumnsError:
            batch = self.from_rows(parse_block(data)) if self.recogniser.cells else self._with_warnings(data)
        else:
            ends = unusual.ends.tolist()
            batch = self._batch(len(ends), plain, lambda row: parse_row(data[ends[row - 1] if row else 0 : ends[row]]))
            # Rows with three texts and nothing else have four quotes a column; others are parsed for a closer look.
            if unusual.quotes != 4 * self._lines.width * len(ends):
                self._add_warnings(batch, parse_block_with_warnings(data)[1])
        batch.pairs.unusual = unusual
        return batch

    def from_rows(self, found: list[Row], warnings: Iterable[RowWarning] = ()) -> PairBatch:
        """Make a batch from rows that are parsed already.

        Args:
            found: the rows.
            warnings: what is doubtful about them.
        """
        batch = self._batch(len(found), self._plain_rows(found), found.__getitem__)
        self._add_warnings(batch, warnings)
        return batch

    def _with_warnings(self, data: bytes) -> PairBatch:
        return self.from_rows(*parse_block_with_warnings(data))

    def _add_warnings(self, batch: PairBatch, warnings: Iterable[RowWarning]) -> None:
        for warning in warnings:
            batch.flags[warning.row] |= np.uint32(1 << self._checks[warning.check].bit)
            if len(batch.messages.setdefault(warning.check, [])) < MESSAGES_A_CHECK:
                batch.messages[warning.check].append((warning.row, warning.message))

    def _batch(self, count: int, plain: PlainRows, parse: Callable[[int], Row]) -> PairBatch:
        """Put the pairs of plain rows first, and those that the recogniser finds in the other rows after them.

        Args:
            count: how many rows there are.
            plain: the rows that were taken by column.
            parse: returns a row by its number, from 0.
        """
        flags = np.zeros(count, dtype=np.uint32)
        if len(plain.rows) == count:
            return PairBatch(PairColumns(plain.rows, *plain.columns), flags)
        is_other = np.ones(count, dtype=bool)
        is_other[plain.rows] = False
        row_of_pair = plain.rows.tolist()
        texts: tuple[list[str], list[str], list[str]] = ([], [], [])
        turns: dict[int, Turns] = {}
        messages: dict[str, list[tuple[int, str]]] = {}
        for number in np.flatnonzero(is_other).tolist():
            row = parse(number)
            if row is None:
                flags[number] = BLANK
                continue
            try:
                usable = usable_turns(row, self.recogniser)
            except Unreadable as problem:
                flags[number] |= np.uint32(1 << self._checks[problem.check].bit)
                if len(messages.setdefault(problem.check, [])) < MESSAGES_A_CHECK:
                    messages[problem.check].append((number, problem.message))
                continue
            for pair in usable:
                if type(pair.chosen) is not str or type(pair.prompt) is not str or pair.margin is not None:
                    turns[len(row_of_pair)] = pair
                row_of_pair.append(number)
                prompt_text = text_of(pair.prompt)
                texts[0].append(f"{pair.system}\n\n{prompt_text}" if pair.system else prompt_text)
                texts[1].append(text_of(pair.chosen))
                texts[2].append(text_of(pair.rejected))
        prompt, chosen, rejected = (
            TextColumn.concatenate([column, TextColumn.of(more)])
            for column, more in zip(plain.columns, texts, strict=True)
        )
        pairs = PairColumns(np.array(row_of_pair, dtype=np.int64), prompt, chosen, rejected, turns)
        return PairBatch(pairs, flags, messages)

    def _plain_rows(self, found: list[Row]) -> PlainRows:
        """Take those rows by column that have the first row's columns, if these are three texts and nothing more."""
        first = next((row for row in found if type(row) is dict), None)
        columns = self.recogniser.only_columns(first) if type(first) is dict else None
        if columns is None or type(first) is not dict:
            return _NO_PLAIN_ROWS
        width = len(first)
        rows = list(range(len(found)))
        if set(map(type, found)) != {dict} or set(map(len, cast("list[Record]", found))) != {width}:
            rows = [number for number, row in enumerate(found) if type(row) is dict and len(row) == width]
        records = cast("list[Record]", found if len(rows) == len(found) else [found[number] for number in rows])
        try:
            texts = [list(map(itemgetter(name), records)) for name in columns]
        except KeyError:
            return _NO_PLAIN_ROWS
        if {kind for column in texts for kind in set(map(type, column))} != {str}:
            return _NO_PLAIN_ROWS
        ties = self.recogniser.tie_columns(first)
        tied = [number for number, row in enumerate(records) if any(is_tie(name, row.get(name)) for name in ties)]
        prompts, chosens, rejecteds = map(TextColumn.of, texts)
        usable, usable_columns = without_special_rows(Columns(first, prompts, chosens, rejecteds, frozenset(tied)))
        self.recogniser.count_rows(first, len(usable))
        return PlainRows(np.array(rows, dtype=np.int64)[usable], usable_columns)
