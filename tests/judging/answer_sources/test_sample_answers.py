"""Answers from an endpoint: each as it comes, with its size and a seed of its own."""

import threading

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource, SampledAnswer
from dpo_tui.judging.answer_sources.endpoint_answers import request_seed
from dpo_tui.judging.answer_sources.sample_answers import sample_answers
from dpo_tui.judging.endpoint.chat_endpoint import EndpointError
from tests.support.chat_server import Raw, chat_server


def request(key: str, number: int, text: str = "help me") -> AnswerRequest:
    return AnswerRequest(key, number, [{"role": "user", "content": text}])


def sampled(source: AnswerSource, requests: list[AnswerRequest], **options: float) -> list[SampledAnswer]:
    settings = {"temperature": 1.0, "top_p": 0.9, "max_new_tokens": 6, "seed": 1} | options
    return list(sample_answers(source, requests, **settings))  # type: ignore[arg-type]


def test_an_endpoint_is_asked_for_each_answer_with_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_TUI_JUDGE_KEY", "of-the-judge")
    monkeypatch.setenv("DPO_TUI_ANSWERS_KEY", "of-the-answers")
    requests = [request(key, number) for key in "ab" for number in range(3)]
    with chat_server(lambda text: "a reply" if text == "help me" else "") as server:
        found = sampled(AnswerSource(url=server.url, endpoint_model="m"), requests)
    assert {(one.id, one.number) for one in found} == {(one.id, one.number) for one in requests}
    assert set(found) == {SampledAnswer(one.id, one.number, "a repl", True, 6) for one in requests}
    assert len({body["seed"] for body in server.bodies}) == 6
    assert all(0 <= body["seed"] < 1 << 31 for body in server.bodies)
    first = {key: value for key, value in server.bodies[0].items() if key != "seed"}
    messages = [{"role": "user", "content": "help me"}]
    assert first == {"model": "m", "messages": messages, "max_tokens": 6, "temperature": 1.0, "top_p": 0.9}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer of-the-answers"}


def test_a_seed_gives_the_same_seeds_again() -> None:
    assert request_seed(1, request("a", 0)) == request_seed(1, request("a", 0))
    assert len({request_seed(seed, request(key, n)) for seed in (1, 2) for key in "ab" for n in (0, 1)}) == 8


def test_an_endpoint_that_counts_nothing_gives_a_count_of_words_and_says_so() -> None:
    with chat_server(lambda _: "one two") as server:
        server.usage = False
        (found,) = sampled(AnswerSource(url=server.url, endpoint_model="m"), [request("a", 0)], max_new_tokens=99)
    assert (found.tokens, found.tokens_are_words, found.cut) == (2, True, False)


def test_no_more_requests_are_under_way_than_the_source_says() -> None:
    barrier = threading.Barrier(3, timeout=30)

    def reply(_: str) -> str:
        barrier.wait()
        return "x"

    with chat_server(reply) as server:
        source = AnswerSource(url=server.url, endpoint_model="m", concurrency=3)
        assert len(sampled(source, [request(str(number), 0) for number in range(12)])) == 12
        assert server.busiest == 3


def test_answers_that_came_before_a_failure_are_kept() -> None:
    with chat_server(lambda _: "x") as server:
        source = AnswerSource(url=server.url, endpoint_model="m", concurrency=1)
        coming = sample_answers(
            source,
            [request(str(number), 0) for number in range(9)],
            temperature=1.0,
            top_p=1.0,
            max_new_tokens=5,
            seed=1,
        )
        assert next(coming).id == "0"
        server.responses = [Raw(404, body=b"gone")] * 9
        with pytest.raises(EndpointError, match="gone"):
            list(coming)


@pytest.mark.parametrize(
    "source", [AnswerSource(), AnswerSource("m", "http://localhost:1/v1", "m"), AnswerSource(endpoint_model="m")]
)
def test_answers_come_from_one_source(source: AnswerSource) -> None:
    with pytest.raises(UsageError, match="from a model or from an endpoint"):
        sampled(source, [request("a", 0)])
