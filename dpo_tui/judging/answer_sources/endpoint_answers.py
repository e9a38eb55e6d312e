"""Answers of a model behind an OpenAI-compatible endpoint, some requests at a time."""

import hashlib
from collections.abc import Iterator, Sequence

from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource, SampledAnswer
from dpo_tui.judging.endpoint.bounded_calls import bounded_calls
from dpo_tui.judging.endpoint.chat_endpoint import ANSWERS_KEY, ChatEndpoint


def endpoint_answers(
    source: AnswerSource,
    requests: Sequence[AnswerRequest],
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
) -> Iterator[SampledAnswer]:
    """Yield the answers; see :func:`dpo_tui.judging.answer_sources.sample_answers.sample_answers`."""
    with ChatEndpoint(
        source.url,
        source.endpoint_model,
        key_variable=ANSWERS_KEY,
        option="--answers-from",
        allow_http=source.allow_http,
    ) as endpoint:

        def one(request: AnswerRequest) -> SampledAnswer:
            reply = endpoint.ask(
                request.messages,
                max_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=request_seed(seed, request),
            )
            words = len(reply.text.split())
            return SampledAnswer(
                request.id,
                request.number,
                reply.text,
                reply.cut,
                words if reply.tokens is None else reply.tokens,
                tokens_are_words=reply.tokens is None,
            )

        for _, answer in bounded_calls(one, requests, source.concurrency):
            yield answer


def request_seed(seed: int, request: AnswerRequest) -> int:
    """Return a seed of 31 bits of its own for each answer: with one seed, all answers to a prompt would be the same."""
    digest = hashlib.blake2b(f"{seed} {request.id} {request.number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
