"""Find the rows in which some words stand, in a file of any size."""

from collections.abc import Iterator

from dpo_tui.data.pairs.pair import Unreadable, text_of
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.scan.row_index import RowIndex, turns_of


def search(
    index: RowIndex, recogniser: Recogniser, words: str, *, start: int = 1, backwards: bool = False
) -> Iterator[int]:
    """Rows whose prompt or answers contain the words, upper and lower case alike; bad rows are searched as they are.

    Args:
        index: the rows.
        recogniser: understands them.
        words: what to look for, literally.
        start: the row to begin with, from 1.
        backwards: go towards the first row.

    Yields:
        Row numbers, as they are found; stop taking them to stop searching.
    """
    wanted = words.casefold()
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
