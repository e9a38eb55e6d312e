"""The running counts of a scan, chunk after chunk."""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.rows.column_use import ColumnUse
from dpo_tui.data.scan.chunk_scanner import BUCKETS, ChunkStats
from dpo_tui.data.scan.pair_batcher import BLANK, MESSAGES_A_CHECK
from dpo_tui.data.tokens.length_histogram import LengthHistogram

LISTED_ROWS = 100
"""How many rows a report lists for each check."""


class Totals:
    """The counts of the rows that were read so far; memory does not grow with their number.

    Attributes:
        rows: rows that are not blank.
        lines: all rows including blank lines; the number of the last row.
        usable: pairs that can be used.
        counts: how many rows have each bit of the flags.
        first_rows: the first LISTED_ROWS rows, from 1, that have each bit.
        messages: for each check, a few rows (from 1) that cannot be used, with the reason.
        notes: what was unusual about the files.
        reading: how columns were read and what was left out of rows, in words, with the number of rows.
        unclear: contradictions between rows that make all of them doubtful, with the number of rows.
        columns: which columns were read.
        distinct_prompts: different prompts; known at the end only.
        characters: lengths of prompts, chosen and rejected answers.
        sampled: pairs in which refusals and openings were counted.
        chosen_refusals: refusals among their chosen answers.
        rejected_refusals: refusals among their rejected answers.
        chosen_longer: pairs whose chosen answer is the longer one.
        rejected_longer: pairs whose rejected answer is the longer one.
    """

    def __init__(self, bits: int) -> None:
        self.rows = 0
        self.lines = 0
        self.usable = 0
        self.distinct_prompts = 0
        self.counts = [0] * bits
        self.first_rows: list[list[int]] = [[] for _ in range(bits)]
        self.messages: dict[str, list[tuple[int, str]]] = {}
        self.formats: Counter[str] = Counter()
        self.evidence: dict[str, dict[str, str]] = {}
        self.notes: list[str] = []
        self.reading: Counter[str] = Counter()
        self.unclear: Counter[str] = Counter()
        self.columns = ColumnUse()
        self.characters = {"prompt": LengthHistogram(), "chosen": LengthHistogram(), "rejected": LengthHistogram()}
        self.sampled = 0
        self.chosen_refusals = 0
        self.rejected_refusals = 0
        self.chosen_longer = 0
        self.rejected_longer = 0
        self._difference = 0.0
        self._difference_squared = 0.0
        self._openings = np.zeros(BUCKETS, dtype=np.int64)
        self._opening_texts: dict[int, str] = {}

    def add(self, part: ChunkStats) -> None:
        """Add the results of the next chunk."""
        self._add_flags(part.flags)
        self.rows += int((part.flags != BLANK).sum())
        self.usable += len(part.prompts)
        for name, lengths in zip(("prompt", "chosen", "rejected"), part.lengths, strict=True):
            self.characters[name].add(lengths)
        self._add_lengths(part.lengths[1], part.lengths[2])
        self.sampled += part.sampled
        self.chosen_refusals += part.refusals[0]
        self.rejected_refusals += part.refusals[1]
        self._openings += part.openings
        for bucket, text in part.opening_texts.items():
            self._opening_texts.setdefault(bucket, text)
        self.formats.update(part.formats)
        for name, columns in part.evidence.items():
            self.evidence.setdefault(name, columns)
        for check, found in part.messages.items():
            first = self.messages.setdefault(check, [])
            first += [(row + self.lines + 1, text) for row, text in found[: MESSAGES_A_CHECK - len(first)]]
        self.notes += [note for note in part.notes if note not in self.notes]
        self.reading.update(part.reading)
        self.unclear.update(part.unclear)
        self.columns.merge(*part.columns)
        self.lines += len(part.flags)

    def add_flagged(self, bit: int, rows: NDArray[np.int64]) -> None:
        """Add rows, counted from 0 and in order, that were flagged by the comparison of all rows."""
        self.counts[bit] += len(rows)
        self.first_rows[bit] = sorted({*self.first_rows[bit], *(rows[:LISTED_ROWS] + 1).tolist()})[:LISTED_ROWS]

    def length_effect(self) -> float | None:
        """Cohen's d of the paired difference of log lengths, above 0 if chosen ones are longer; None if undefined."""
        if self.usable < 2:  # noqa: PLR2004 (a spread needs two)
            return None
        mean = self._difference / self.usable
        variance = self._difference_squared / self.usable - mean * mean
        return mean / math.sqrt(variance) if variance > 1e-12 else None  # noqa: PLR2004 (rounding of a zero)

    def most_common_opening(self) -> tuple[int, str]:
        """The most common opening of prompts: its count and its text.

        Two openings share a bucket in one of BUCKETS cases, which is too rare to matter for a share.
        """
        top = int(np.argmax(self._openings))
        return int(self._openings[top]), self._opening_texts.get(top, "")

    def _add_flags(self, flags: NDArray[np.uint32]) -> None:
        present = int(np.bitwise_or.reduce(flags)) if len(flags) else 0
        for bit in range(len(self.counts)):
            if present >> bit & 1:
                rows = np.flatnonzero(flags & np.uint32(1 << bit))
                self.counts[bit] += len(rows)
                missing = LISTED_ROWS - len(self.first_rows[bit])
                if missing > 0:
                    self.first_rows[bit] += (rows[:missing] + (self.lines + 1)).tolist()

    def _add_lengths(self, chosen: NDArray[np.int32], rejected: NDArray[np.int32]) -> None:
        difference = np.log((chosen + 1) / (rejected + 1))
        # Sums of x and x²: enough for mean and standard deviation at the end.
        self._difference += float(difference.sum())
        self._difference_squared += float((difference * difference).sum())
        self.chosen_longer += int((chosen > rejected).sum())
        self.rejected_longer += int((chosen < rejected).sum())
