"""The rows of JSON lines that are three plain texts and need no closer look, as columns; the others are named.

A row needs one where it is a tie, has a blank text or two equal answers, or where its prompt is a transcript or holds
messages as text: then it goes through the recogniser by itself.
"""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.pair_columns import TextColumn
from dpo_tui.data.columns.columnar_decoder import ColumnarDecoder, Columns
from dpo_tui.data.rows.messages import LIST_STARTS, may_be_messages
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.text_lists import may_be_turns
from dpo_tui.data.rows.transcript import FIRST_LETTERS, is_transcript

_FIRST_CHARACTER = itemgetter(slice(0, 1))


@dataclass(frozen=True, slots=True)
class PlainRows:
    """The rows that were taken by column: which they are, and their prompts, chosen and rejected answers."""

    rows: NDArray[np.int64]
    columns: tuple[TextColumn, TextColumn, TextColumn]


class PlainLines:
    """Reads lines by column with one recogniser, which counts the rows that were taken.

    Args:
        recogniser: finds the columns of the three texts.

    Attributes:
        width: columns of the lines that were decoded last.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self.width = 0
        self._recogniser = recogniser
        self._decoder = ColumnarDecoder(recogniser)

    def rows(self, data: bytes, ends: NDArray[np.int64]) -> PlainRows:
        """Decode lines by column.

        Raises:
            MixedColumnsError: the lines do not all have the same three text columns.
        """
        rows, usable = [], []
        record, decoded = None, 0
        for columns in self._decoder.decode(data, ends):
            usable_rows, usable_columns = without_special_rows(columns)
            rows.append(usable_rows + decoded)
            usable.append(usable_columns)
            decoded += len(columns.prompts)
            record = columns.record
        plain = np.concatenate(rows)
        if record is not None:
            self._recogniser.count_rows(record, len(plain))
            self.width = len(record)
        prompts, chosens, rejecteds = map(TextColumn.concatenate, zip(*usable, strict=True))
        return PlainRows(plain, (prompts, chosens, rejecteds))


def without_special_rows(columns: Columns) -> tuple[NDArray[np.int64], tuple[TextColumn, TextColumn, TextColumn]]:
    """Drop the rows for the recogniser: ties, blank texts, equal answers, transcripts as prompts, messages as text.

    Returns:
        The indexes of the other rows, and their columns.
    """
    prompts, chosens, rejecteds = columns.prompts, columns.chosens, columns.rejecteds
    special: set[int] = set(columns.ties)
    for column in (prompts, chosens, rejecteds):
        if not column.lengths.all() or any(map(str.isspace, column.texts)):
            special.update(index for index, text in enumerate(column.texts) if not text or text.isspace())
        if not LIST_STARTS.isdisjoint(map(_FIRST_CHARACTER, column.texts)):
            special.update(
                index for index, text in enumerate(column.texts) if may_be_messages(text) or may_be_turns(text)
            )
    # The first character rules out most prompts before a pattern is matched.
    first_characters = map(_FIRST_CHARACTER, prompts.texts)
    special.update(
        index
        for index, first in enumerate(first_characters)
        if (first in FIRST_LETTERS and is_transcript(prompts.texts[index]))
        or (
            first == "{" and '"full_text"' in prompts.texts[index]  # a question of WebGPT, an object as text
        )
    )
    same_hash = np.flatnonzero(chosens.hashes == rejecteds.hashes).tolist()
    special.update(index for index in same_hash if chosens.texts[index] == rejecteds.texts[index])
    if not special:
        return np.arange(len(prompts)), (prompts, chosens, rejecteds)
    usable = np.array([index for index in range(len(prompts)) if index not in special], dtype=np.int64)
    return usable, (prompts.take(usable), chosens.take(usable), rejecteds.take(usable))
