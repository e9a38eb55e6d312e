"""The interface of all judges: what one is chosen by, what it is given, and what it says.

    with open_judge(JudgeChoice("program", "python score.py")) as judge:
        for pair, comparison in judge.compare(pairs): ...

A judge that gives scores compares by them: the higher score wins, equal scores are a tie. Scores of one judge can be
compared with each other and with nothing else.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import UsageError
from dpo_tui.judging.preference_pairs import AnswerPair

Side = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class JudgeChoice:
    """Which judge is asked; no key is in it, so that it can be kept in a file.

    Attributes:
        kind: ``program``, ``reward-model``, ``own-reward``, ``model``, ``endpoint`` or ``person``.
        target: the command line of a program, hub id or folder of a model or reward model, ``run:FOLDER`` of a run
            whose own reward is asked, address of an endpoint.
        endpoint_model: what the endpoint calls its model.
        rubric: text of the rubric for a judge that is asked in words; empty for the default one.
        allow_http: whether plain http to another machine is accepted.
        max_answer_chars: characters of each answer that the judge sees; 0 for all of them.
    """

    kind: str
    target: str = ""
    endpoint_model: str = ""
    rubric: str = ""
    allow_http: bool = False
    max_answer_chars: int = 0

    def to_document(self) -> dict[str, Any]:
        """Return the choice as a JSON object."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_document(document: object) -> "JudgeChoice":
        """Read what :meth:`to_document` returned.

        Raises:
            UsageError: it is no object, or has a field of another name or type.
        """
        if not isinstance(document, Mapping):
            raise UsageError("the choice of a judge is no JSON object")
        fields = {one.name: one.type for one in dataclasses.fields(JudgeChoice)}
        for name, value in document.items():
            if fields.get(name) is not type(value):
                raise UsageError(f"the choice of a judge has {name!r} as {type(value).__name__}, which cannot be read")
        if "kind" not in document:
            raise UsageError("the choice of a judge names no kind")
        return JudgeChoice(**document)


@dataclass(frozen=True)
class AnswerToScore:
    """One answer to a prompt.

    Attributes:
        id: of the prompt; several answers may have the same.
        messages: the conversation before the answer.
        answer: its text.
    """

    id: str
    messages: list[Message]
    answer: str


@dataclass(frozen=True)
class Comparison:
    """What a judge says of two answers.

    Attributes:
        verdict: the better side, or a tie.
        details: what it rests on, for the records: ``scores`` of left and right; or ``orders``, the replies with the
            left and the right answer shown first, A for the first one shown, C for neither, None without a verdict; or
            ``identical`` where the answers were the same, as far as the judge sees them, and nobody was asked.
    """

    verdict: Side
    details: dict[str, Any] = field(default_factory=dict)


class Judge(Protocol):
    """Something that says which answer is better.

    Attributes:
        name: as records and reports name it, without secrets.
        gives_scores: whether :meth:`score` can be called.
    """

    name: str
    gives_scores: bool

    def score(self, answers: Sequence[AnswerToScore]) -> Iterator[tuple[AnswerToScore, float]]:
        """Yield each answer with its score, higher is better, as they come and in their order.

        Raises:
            UsageError: this judge gives no scores.
            DpoTuiError: the judge failed; what was yielded before counts.
        """

    def compare(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[AnswerPair, Comparison]]:
        """Yield each pair with what the judge says of it, as they come and in their order.

        Raises:
            DpoTuiError: the judge failed; what was yielded before counts.
        """
