"""Which sampled answers can become part of a pair, and why the others cannot."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from dpo_tui.improve.answer_features import is_refusal
from dpo_tui.judging.answer_sources.answer_source import SampledAnswer

EMPTY, CUT, REFUSAL, DUPLICATE = "empty", "cut by the token limit", "refusal", "duplicate"


@dataclass
class UsableAnswers:
    """The answers of a round that are judged.

    Attributes:
        answers: of each prompt, by its id, in the order of their numbers.
        dropped: how many answers were left out, by the reason.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def usable_answers(answers: Iterable[SampledAnswer]) -> UsableAnswers:
    """Leave out answers that teach the wrong thing.

    An answer that the token limit has cut shows where it was cut and not how good it is; of two equal answers one says
    all; a refusal is mostly the better answer to a judge of harmlessness and the worse to any other, so that pairs with
    it teach to refuse everything, or nothing.
    """
    found = UsableAnswers()
    for one in sorted(answers, key=lambda answer: answer.number):
        earlier = found.answers.setdefault(one.id, [])
        if reason := _reason(one, earlier):
            found.dropped[reason] += 1
        else:
            earlier.append(one.text)
    return found


def _reason(one: SampledAnswer, earlier: list[str]) -> str:
    if not one.text.strip():
        return EMPTY
    if one.cut:
        return CUT
    if is_refusal(one.text):
        return REFUSAL
    return DUPLICATE if one.text in earlier else ""
