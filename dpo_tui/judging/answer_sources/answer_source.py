"""Who answers prompts, what is asked, and what an answer is."""

from dataclasses import dataclass, field
from typing import Any

from dpo_tui.data.pairs.pair import Message


@dataclass(frozen=True)
class AnswerSource:
    """Who answers: a model on this machine, or one behind an endpoint.

    Attributes:
        model: hub id, folder, or ``run:FOLDER`` for the result of a run; empty for an endpoint.
        url: of an OpenAI-compatible endpoint, up to and including ``/v1``.
        endpoint_model: what the endpoint calls its model.
        allow_http: whether plain http to another machine is accepted.
        concurrency: requests that are under way at a time at an endpoint.
        settings: of a model on this machine, as [model] of a config has them: revision, chat template, 4-bit weights.
    """

    model: str = ""
    url: str = ""
    endpoint_model: str = ""
    allow_http: bool = False
    concurrency: int = 8
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the model, as records name it."""
        return self.model or self.endpoint_model


@dataclass(frozen=True)
class AnswerRequest:
    """One answer that is wanted.

    Attributes:
        id: of the prompt.
        number: of the answer among those to the same prompt, from 0.
        messages: the conversation before it.
    """

    id: str
    number: int
    messages: list[Message]


@dataclass(frozen=True)
class SampledAnswer:
    """One sampled answer.

    Attributes:
        id: of the prompt.
        number: of the answer among those to the same prompt.
        text: without white space around it.
        cut: whether it was ended by the limit of tokens.
        tokens: of the answer.
        tokens_are_words: whether ``tokens`` is a count of words, because the endpoint counted nothing.
    """

    id: str
    number: int
    text: str
    cut: bool
    tokens: int
    tokens_are_words: bool = False
