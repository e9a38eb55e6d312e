"""What a set of answers looks like: length, refusals, repetition, formatting. A judge may reward these by mistake."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

_NOT = r"(?:can['’]t|cannot|can not|won['’]t|will not|am (?:not able|unable)|['’]m (?:not able|unable)|must decline)"
_VERBS = (
    r"(?:help|assist|provide|answer|fulfil|fulfill|comply|do|discuss|create|give|support|engage|share|write|generate)"
)
_REFUSAL = re.compile(
    rf"(?:(?:i['’]?m|i am)?\s*(?:really |so |very )?(?:sorry|afraid)|i apologi[sz]e)[^.!?\n]{{0,40}}\bi\s*{_NOT}"
    rf"|(?:unfortunately,?\s+)?i\s*{_NOT}\s+(?:to\s+)?{_VERBS}\b"
    rf"|as an ai\b[^.!?\n]{{0,60}}\bi\s*(?:{_NOT}|do not|don['’]t)",
    re.IGNORECASE,
)
"""The openings of answers that refuse, in English. An apology alone is none: "I'm sorry to hear that" may be help."""
_FORMATTED = re.compile(r"^\s*(?:[-*•]\s+\S|\d{1,2}[.)]\s+\S|#{1,6}\s+\S|```)|\*\*\S", re.MULTILINE)
"""Markdown: list items, headings, fences, bold."""
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_GRAM = 4
"""Words of a sequence whose repetition counts."""
_LEAST_WORDS = 12
"""Shorter answers have too few sequences to repeat one."""


@dataclass(frozen=True)
class AnswerFeatures:
    """Means over a set of answers.

    Attributes:
        answers: how many there are.
        words: mean length in words.
        characters: mean length in characters.
        refusals: share that begin with a refusal, in English.
        repetition: mean share of an answer's sequences of four words that have stood in it before.
        formatted: share with lists, headings, bold or code in Markdown.
        cut: share that the token limit has cut.
    """

    answers: int
    words: float
    characters: float
    refusals: float
    repetition: float
    formatted: float
    cut: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def is_refusal(text: str) -> bool:
    """Whether an answer begins by refusing, in English."""
    return _REFUSAL.match(text.lstrip()) is not None


def repetition(text: str) -> float:
    """Return the share of sequences of four words that have stood before in the text, 0 to 1.

    It is 1 - distinct/all, the "seq-rep-4" of Welleck et al. (2020, arXiv 1908.04319), there on tokens.
    """
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) < _LEAST_WORDS:
        return 0.0
    grams = [tuple(words[start : start + _GRAM]) for start in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def features_of(answers: Sequence[str], cut: Sequence[bool]) -> AnswerFeatures | None:
    """Return the means over answers; None of none.

    Args:
        answers: the answers.
        cut: whether the token limit has cut each.
    """
    if not answers:
        return None
    return AnswerFeatures(
        len(answers),
        fmean(len(_WORD.findall(text)) for text in answers),
        fmean(map(len, answers)),
        fmean(map(is_refusal, answers)),
        fmean(map(repetition, answers)),
        fmean(_FORMATTED.search(text) is not None for text in answers),
        fmean(cut),
    )
