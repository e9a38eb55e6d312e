"""Pairs side by side, as the checks see them: columns of text, with what several checks need worked out once."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.text_column import TextColumn
from dpo_tui.data.checks.unusual_characters import UnusualRows
from dpo_tui.data.pairs.pair import Turns

SIMILAR = 0.6
"""Below this similarity of characters no check looks at a pair of short answers: they are different texts (in both real
files 99.6 % of the pairs are below it)."""
SHORT = 240
"""Characters up to which answers that differ in some words are looked at."""
SAME_LENGTH = 0.75
"""The shorter of two such answers has at least this share of the other's characters."""
NEARLY_THE_SAME = 0.85
"""From this similarity on two answers are the same text but for a word or two, however long they are."""


@dataclass
class PairColumns:
    """Some hundreds or thousands of usable pairs.

    Args:
        rows: the row of each pair, counted from the beginning of the portion.
        prompt: their prompts; a system message stands before.
        chosen: the preferred answers.
        rejected: the others.
        turns: the turns of those pairs that are not plain text, by index.
        suspicions: the rows whose bytes leave it open that something unusual stands in them; None if nobody looked.
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
        """The texts of the others."""
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
                found[near] = self._compare(near.tolist(), least)
        return found

    def _compare(self, indexes: list[int], least: float) -> NDArray[np.float32]:
        from rapidfuzz import process
        from rapidfuzz.distance import Levenshtein

        return process.cpdist(
            [self.chosens[at] for at in indexes],
            [self.rejecteds[at] for at in indexes],
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=least,
            dtype=np.float32,
            workers=1,
        )

    def suspected(self, of: Literal["controls", "tokens", "foreign"]) -> list[int]:
        """Indexes of the pairs that may hold such characters; all of them if nobody looked."""
        if self.unusual is None:
            return list(range(len(self)))
        rows: NDArray[np.int64] = getattr(self.unusual, of)
        if not len(rows) or not len(self):
            return []
        suspected = np.zeros(max(int(rows[-1]), int(self.rows.max())) + 1, dtype=bool)
        suspected[rows] = True
        return np.flatnonzero(suspected[self.rows]).tolist()

    def texts(self, at: int) -> tuple[str, str, str]:
        """Prompt, chosen and rejected of one pair."""
        return self.prompts[at], self.chosens[at], self.rejecteds[at]
