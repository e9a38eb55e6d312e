"""A judge that gives scores: comparisons follow from them, and no answer is scored twice."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dpo_tui.errors import DpoTuiError
from dpo_tui.judging.judges.judge import AnswerToScore, Comparison
from dpo_tui.judging.preference_pairs import AnswerPair

ScoreInOrder = Callable[[Sequence[AnswerToScore]], Iterator[float]]
"""Scores different answers: yields one number for each, in their order, as they come."""


class ScoringJudge:
    """Judge by scores; see :class:`dpo_tui.judging.judges.judge.Judge`.

    A score is kept for as long as the judge is open, so that an answer that stands in several pairs has one score, also
    where the scorer is not deterministic.

    Args:
        name: as records and reports name it.
        score_in_order: scores answers that have no score yet.
        max_answer_chars: characters of each answer that are scored; 0 for all of them.
    """

    gives_scores = True

    def __init__(self, name: str, score_in_order: ScoreInOrder, max_answer_chars: int = 0) -> None:
        self.name = name
        self._score_in_order = score_in_order
        self._most = max_answer_chars or None
        self._scores: dict[bytes, float] = {}

    def score(self, answers: Sequence[AnswerToScore]) -> Iterator[tuple[AnswerToScore, float]]:
        """Yield each answer with its score, in their order.

        Raises:
            DpoTuiError: the scorer failed, or a score is not a finite number.
        """
        seen = [replace(one, answer=one.answer[: self._most]) for one in answers]
        keys = [_key(one) for one in seen]
        unscored = {key: one for key, one in zip(keys, seen, strict=True) if key not in self._scores}
        coming = iter(zip(unscored, self._checked(list(unscored.values())), strict=True))
        for answer, key in zip(answers, keys, strict=True):
            while key not in self._scores:
                scored, value = next(coming)
                self._scores[scored] = value
            yield answer, self._scores[key]
        # To its end, where a scorer says that it failed after all.
        for scored, value in coming:
            self._scores[scored] = value

    def compare(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[AnswerPair, Comparison]]:
        """Yield each pair with the side of the higher score; equal scores are a tie.

        Raises:
            DpoTuiError: the scorer failed, or a score is not a finite number.
        """
        sides = [AnswerToScore(pair.id, pair.prompt, answer) for pair in pairs for answer in (pair.left, pair.right)]
        scores = (value for _, value in self.score(sides))
        for pair in pairs:
            left, right = next(scores), next(scores)
            yield (
                pair,
                Comparison("left" if left > right else "right" if right > left else "tie", {"scores": [left, right]}),
            )
        for _ in scores:
            pass

    def _checked(self, answers: list[AnswerToScore]) -> Iterator[float]:
        if not answers:
            return
        for answer, value in zip(answers, self._score_in_order(answers), strict=True):
            if not math.isfinite(value):
                raise DpoTuiError(
                    f"{self.name} gave {value} as the score of an answer to prompt {answer.id}",
                    hint="a score is a finite number; verdicts so far are kept",
                )
            yield value


def _key(answer: AnswerToScore) -> bytes:
    text = json.dumps([answer.messages, answer.answer], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
