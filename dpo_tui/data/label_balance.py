"""Balance of desirable and undesirable answers, in numbers and in words."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dpo_tui.data.pairs.hold_out_by_prompt import prompt_key
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.stored.views import as_stored, different_rows
from dpo_tui.strategies.kto import BALANCE, weights_of

FEW_OF_A_LABEL = 50
"""With fewer answers of one label the loss has little to tell it by. Ours: no rule is known."""


LABELS = "labels: "
"""How every sentence about the labels begins."""


@dataclass(frozen=True)
class LabelBalance:
    """How many answers there are of each label.

    Attributes:
        desirable: answers to learn.
        undesirable: answers to avoid.
        repeated: answers that are exact copies of earlier ones, label included.
        conflicting: answers to a prompt that have both labels in different rows.
    """

    desirable: int
    undesirable: int
    repeated: int = 0
    conflicting: int = 0

    @staticmethod
    def of(rows: Sequence[LabelledAnswer], seed: int = 0) -> "LabelBalance":
        """Count the labels of some answers.

        Args:
            rows: the answers.
            seed: of the keys of prompts, which are kept beside stored answers.
        """
        if (stored := as_stored(rows)) is not None:
            contents, with_labels = different_rows(stored, partial(prompt_key, seed=seed), seed)
            desirable = int(stored.labels.sum())
            return LabelBalance(desirable, len(rows) - desirable, len(rows) - with_labels, with_labels - contents)
        desirable = sum(row.desirable for row in rows)
        labels: dict[bytes, set[bool]] = {}
        repeated = 0
        for row in rows:
            text = json.dumps([row.prompt, row.completion], sort_keys=True).encode()
            # Not by the text itself, which would be held of every row.
            seen = labels.setdefault(hashlib.blake2b(text, digest_size=16).digest(), set())
            repeated += row.desirable in seen
            seen.add(row.desirable)
        conflicting = sum(len(seen) > 1 for seen in labels.values())
        return LabelBalance(desirable, len(rows) - desirable, repeated, conflicting)

    @property
    def count_sentence(self) -> str:
        """How many answers have each label, in words."""
        return f"{LABELS}{self.desirable:,} desirable and {self.undesirable:,} undesirable answers"

    def sentences(self, settings: Mapping[str, Any]) -> list[str]:
        """Return what is to be said about the labels: their numbers first, then what is doubtful.

        Args:
            settings: with ``desirable_weight`` and ``undesirable_weight``.
        """
        return [self.count_sentence, *filter(None, [self._imbalance(settings), self._few(), self._conflicts()])]

    def _imbalance(self, settings: Mapping[str, Any]) -> str:
        if not self.desirable or not self.undesirable:
            return ""
        weights = weights_of(settings)
        share = self.undesirable / self.desirable
        ratio = weights[0] / weights[1] / share
        # Rounded as in TRL, so that 999 to 1,000 is balanced.
        if BALANCE[0] <= round(ratio, 2) <= round(BALANCE[1], 2):
            return ""
        low, high = (bound * weights[1] * share for bound in BALANCE)
        lowest, highest = (weights[0] / (bound * share) for bound in reversed(BALANCE))
        return (
            f"labels: weight × count of desirable to undesirable answers is {ratio:.2f}:1, and TRL advises 1:1 to 4:3: "
            f"set desirable_weight from {low:.3g} to {high:.3g}, or undesirable_weight from {lowest:.3g} to "
            f"{highest:.3g}, not both"
        )

    def _few(self) -> str:
        fewest = min(self.desirable, self.undesirable)
        if fewest >= FEW_OF_A_LABEL:
            return ""
        which = "desirable" if self.desirable <= self.undesirable else "undesirable"
        return f"labels: only {fewest:,} answers are {which}; collect more, so that they can be told from the others"

    def _conflicts(self) -> str:
        if not self.conflicting:
            return ""
        return f"labels: {self.conflicting:,} answers are desirable in one row and undesirable in another"
