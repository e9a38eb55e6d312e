"""Search the rows of a dataset of any size: for a text, or for the next row that a check flags."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.labelled_answer import LabelledTurns, labelled_answer_of
from dpo_tui.data.pairs.pair import Turns, Unreadable, text_of
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.row_index import RowIndex
from dpo_tui.data.source.json_lines import Row


def turns_of(row: Row, recogniser: Recogniser) -> list[Turns] | Unreadable | None:
    """The pairs of a row, why it has none, or None for a blank line."""
    if row is None:
        return None
    try:
        return usable_turns(row, recogniser)
    except Unreadable as problem:
        return problem.fresh()


def labelled_turns_of(row: Row, recogniser: Recogniser) -> list[LabelledTurns]:
    """The labelled answers of a row that holds no pair; none where it holds no such answer either."""
    if row is None or isinstance(row, Unreadable):
        return []
    try:
        found = recogniser.answers(row)
        for one in found:
            labelled_answer_of(1, one)  # raises for an empty one
        return found
    except Unreadable:
        return []


def search(
    index: RowIndex, recogniser: Recogniser, query: str, *, start: int = 1, backwards: bool = False
) -> Iterator[int]:
    """Rows whose prompt or answers contain a text, in any case; of a row that cannot be used, the reason is searched.

    Args:
        index: the rows.
        recogniser: finds the pairs in a row.
        query: the text, literally.
        start: the row to begin with, from 1.
        backwards: search towards the first row.

    Yields:
        Row numbers, as they are found; stop iterating to stop searching.
    """
    wanted = query.casefold()
    if not wanted:
        return
    numbers = range(start, 0, -1) if backwards else range(start, index.count + 1)
    for number in numbers:
        found = turns_of(index.row(number), recogniser)
        if found is None:
            continue
        if isinstance(found, Unreadable):
            if wanted in found.message.casefold():
                yield number
            continue
        if any(wanted in text_of(part).casefold() for turns in found for part in turns[:3]):
            yield number


def next_flagged(flags: Path, bit: int, after: int, *, backwards: bool = False) -> int | None:
    """The nearest row after (or before) a row that a check flags, both counted from 1; None if there is none.

    Args:
        flags: the file that `dpo_tui.data.scan.scan_cache.cached_flags` returns.
        bit: the bit of the check.
        after: the row to start at; it is not looked at itself.
        backwards: look for an earlier row.
    """
    import numpy as np

    stored: Any = np.memmap(flags, dtype=np.uint32, mode="r")
    step = 1 << 20
    at = after if not backwards else after - 1
    while 0 <= at < len(stored) if not backwards else at > 0:
        low, high = (at, min(at + step, len(stored))) if not backwards else (max(at - step, 0), at)
        found = np.flatnonzero(stored[low:high] & np.uint32(1 << bit))
        if len(found):
            return int(low + (found[-1] if backwards else found[0])) + 1
        at = high if not backwards else low
    return None
