"""A batch of pairs as columns of text, with the values that several checks need computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.byte_prefilter import UnusualRows
from dpo_tui.data.pairs.pair import Turns

SIMILAR = 0.6
"""Below this similarity of characters no check looks at a pair of short answers: they are different texts (in both real
files 99.6 % of the pairs are below it)."""
SHORT = 240
"""Characters up to which answers that differ in some words are compared."""
SAME_LENGTH = 0.75
"""The shorter of two such answers has at least this share of the other's characters."""
NEARLY_THE_SAME = 0.85
"""From this similarity on two answers are the same text but for a word or two, however long they are."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of texts with their lengths and hashes.

    Both are computed when the column is made: that is cheapest while the texts are still in the processor's cache.

    Args:
        texts: in order.
        lengths: characters of each.
        hashes: Python's own hash of each; equal between processes that share PYTHONHASHSEED.
    """

    texts: list[str]
    lengths: NDArray[np.int64]
    hashes: NDArray[np.int64]

    @classmethod
    def of(cls, values: list[str]) -> "TextColumn":
        """Make a column of some texts."""
        count = len(values)
        return cls(
            values,
            np.fromiter(map(len, values), dtype=np.int64, count=count),
            np.fromiter(map(hash, values), dtype=np.int64, count=count),
        )

    @classmethod
    def concatenate(cls, columns: Sequence["TextColumn"]) -> "TextColumn":
        """Put columns one below the other."""
        if len(columns) == 1:
            return columns[0]
        none = np.zeros(0, dtype=np.int64)
        return cls(
            list(chain.from_iterable(column.texts for column in columns)),
            np.concatenate([none, *(column.lengths for column in columns)]),
            np.concatenate([none, *(column.hashes for column in columns)]),
        )

    def take(self, indexes: NDArray[np.int64]) -> "TextColumn":
        """The texts at some indexes, as `numpy.take` does."""
        return TextColumn(
            [self.texts[index] for index in indexes.tolist()], self.lengths[indexes], self.hashes[indexes]
        )

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class PairColumns:
    """Some hundreds or thousands of usable pairs.

    Args:
        rows: the row of each pair, counted from the beginning of the chunk.
        prompt: their prompts, each after its system message.
        chosen: the preferred answers.
        rejected: the other answers.
        turns: the messages of those pairs that are not plain text, by index.
        unusual: the rows whose bytes may hold unusual characters; None if the bytes were not searched.
    """

    rows: NDArray[np.int64]
    prompt: TextColumn
    chosen: TextColumn
    rejected: TextColumn
    turns: dict[int, Turns] = field(default_factory=dict)
    unusual: UnusualRows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def prompts(self) -> list[str]:
        """The texts of the prompts."""
        return self.prompt.texts

    @property
    def chosens(self) -> list[str]:
        """The texts of the preferred answers."""
        return self.chosen.texts

    @property
    def rejecteds(self) -> list[str]:
        """The texts of the other answers."""
        return self.rejected.texts

    @property
    def prompt_lengths(self) -> NDArray[np.int64]:
        """Characters of each prompt."""
        return self.prompt.lengths

    @property
    def chosen_lengths(self) -> NDArray[np.int64]:
        """Characters of each chosen answer."""
        return self.chosen.lengths

    @property
    def rejected_lengths(self) -> NDArray[np.int64]:
        """Characters of each rejected answer."""
        return self.rejected.lengths

    @cached_property
    def margins(self) -> dict[int, float]:
        """The margin of each pair whose source has scores, by its index; NaN where a score is."""
        return {index: turns.margin for index, turns in self.turns.items() if turns.margin is not None}

    @cached_property
    def similarity(self) -> NDArray[np.float32]:
        """Normalised Levenshtein similarity of the two answers' characters, 0 where it is too low to matter.

        Too low is below SIMILAR, and below NEARLY_THE_SAME if one of them is longer than SHORT: the lower the bound,
        the more a comparison of long texts costs. Answers of different lengths differ in more than a word.
        """
        found = np.zeros(len(self), dtype=np.float32)
        shorter = np.minimum(self.chosen_lengths, self.rejected_lengths)
        longer = np.maximum(self.chosen_lengths, self.rejected_lengths)
        bounds = (
            (longer <= SHORT, SIMILAR, SAME_LENGTH),
            (longer > SHORT, NEARLY_THE_SAME, NEARLY_THE_SAME),
        )
        for which, least, ratio in bounds:
            # The distance is at least the difference of the lengths, so most pairs need no comparison at all.
            near = np.flatnonzero(which & (shorter >= ratio * longer))
            if len(near):
                found[near] = self._similarity_of(near.tolist(), least)
        return found

    def _similarity_of(self, indexes: list[int], least: float) -> NDArray[np.float32]:
        from rapidfuzz import process
        from rapidfuzz.distance import Levenshtein

        return process.cpdist(
            [self.chosens[index] for index in indexes],
            [self.rejecteds[index] for index in indexes],
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=least,
            dtype=np.float32,
            workers=1,  # the scan is parallel by chunks already
        )

    def candidates(self, kind: Literal["controls", "tokens", "foreign", "double_encoded"]) -> list[int]:
        """Indexes of the pairs that may hold such characters; all of them if the bytes were not searched."""
        if self.unusual is None:
            return list(range(len(self)))
        rows: NDArray[np.int64] = getattr(self.unusual, kind)
        if not len(rows) or not len(self):
            return []
        is_candidate = np.zeros(max(int(rows[-1]), int(self.rows.max())) + 1, dtype=bool)
        is_candidate[rows] = True
        return np.flatnonzero(is_candidate[self.rows]).tolist()

    def texts_at(self, index: int) -> tuple[str, str, str]:
        """Prompt, chosen and rejected of one pair."""
        return self.prompts[index], self.chosens[index], self.rejecteds[index]
