"""An endpoint that is slow, busy, broken or hostile: what is tried again, what is refused, and where the key goes."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.judging.endpoint import chat_endpoint
from dpo_tui.judging.endpoint.chat_endpoint import ANSWERS_KEY, JUDGE_KEY, ChatEndpoint, ChatReply, EndpointError
from tests.support.chat_server import ChatServer, Raw, chat_server, text_of

ASKED = [{"role": "user", "content": "Why?"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in (JUDGE_KEY, ANSWERS_KEY):
        monkeypatch.delenv(name, raising=False)
    with chat_server(lambda text: f" {text} Because. ") as found:
        yield found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts, which pass at once."""
    seen: list[float] = []
    real = chat_endpoint._wait_seconds

    def wait_seconds(attempt: int, retry_after: float | None) -> float:
        seen.append(real(attempt, retry_after))
        return 0.0

    monkeypatch.setattr(chat_endpoint, "_wait_seconds", wait_seconds)
    return seen


def ask(server: ChatServer, **options: float) -> ChatReply:
    with ChatEndpoint(server.url, "m", key_variable=JUDGE_KEY) as endpoint:
        return endpoint.ask(ASKED, max_tokens=99, **options)


def test_one_question_gives_one_reply_with_its_size(server: ChatServer) -> None:
    assert ask(server, temperature=0, seed=3) == ChatReply("Why? Because.", cut=False, tokens=15)
    expected = {"model": "m", "messages": ASKED, "max_tokens": 99, "temperature": 0, "seed": 3}
    assert (server.paths, server.bodies) == (["/v1/chat/completions"], [expected])
    assert "Authorization" not in server.headers[0]
    server.responses = [Raw(body=text_of("half", finish_reason="length", usage=False))]
    assert ask(server) == ChatReply("half", cut=True, tokens=None)


def test_a_model_that_thought_until_its_tokens_ended_said_nothing_and_was_cut(server: ChatServer) -> None:
    server.responses = [Raw(body=b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}')]
    assert ask(server) == ChatReply("", cut=True, tokens=None)


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(server: ChatServer, waits: list[float]) -> None:
    server.responses = [Raw(500), Raw(503), Raw(body=b"{", length=99), Raw(502), Raw(504)]
    assert ask(server).text == "Why? Because."
    assert len(server.bodies) == 6
    assert all(0.75 * 2**number <= seconds <= 1.25 * 2**number for number, seconds in enumerate(waits))


def test_a_rate_limit_is_obeyed_within_a_minute(server: ChatServer, waits: list[float]) -> None:
    server.responses = [Raw(429, {"Retry-After": "7"}), Raw(429, {"Retry-After": "86400"}), Raw(429)]
    assert ask(server).text == "Why? Because."
    assert waits[:2] == [7, 60]
    assert 3 <= waits[2] <= 5


def test_it_is_given_up_in_the_end_and_says_how_to_go_on(server: ChatServer, waits: list[float]) -> None:
    server.responses = [Raw(503, body=b"\x1b[31mloading the model\x1b[0m")] * 20
    with pytest.raises(EndpointError) as refused:
        ask(server)
    assert "HTTP status 503 Service Unavailable (tried 6 times): loading the model" in refused.value.message
    assert server.url in refused.value.message
    assert "the same command goes on" in (refused.value.hint or "")
    assert len(server.bodies) == 6


def test_nothing_is_asked_again_once_the_endpoint_is_closed(server: ChatServer) -> None:
    server.responses = [Raw(503)] * 20
    endpoint = ChatEndpoint(server.url, "m", key_variable=JUDGE_KEY)
    endpoint._closed.set()
    with pytest.raises(EndpointError):
        endpoint.ask(ASKED, max_tokens=9)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(server: ChatServer, waits: list[float], status: int) -> None:
    server.responses = [Raw(status, body=b'{"error": "no such model"}')]
    with pytest.raises(EndpointError, match="no such model") as refused:
        ask(server)
    assert waits == []
    assert (f"${JUDGE_KEY}" in (refused.value.hint or "")) == (status in (401, 403))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"<html>hello</html>", "no JSON: '<html>hello</html>'"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "no choices"),
        (b"[1]", "no choices"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": {}}', "no choices"),
        (b'{"choices": [{"message": null}]}', "no choices"),
        (b'{"choices": [{"message": {"content": null}}]}', "is NoneType and not text"),
        (b'{"choices": [{"message": {"content": ["x"]}}]}', "is list and not text"),
        (b"\xff\xfe" + bytes(range(32)), "no JSON"),
        (b"x" * (5 << 20), "longer than 4,194,304 bytes"),
    ],
)
def test_a_malformed_or_huge_reply_is_refused_in_words(
    server: ChatServer, waits: list[float], body: bytes, why: str
) -> None:
    server.responses = [Raw(body=body)]
    with pytest.raises(EndpointError, match="did not answer") as refused:
        ask(server)
    assert why in refused.value.message
    assert "\x1b" not in refused.value.message
    assert waits == []


@pytest.mark.parametrize("usage", [b'{"completion_tokens": true}', b'{"completion_tokens": -1}', b"[]", b'"x"'])
def test_a_count_of_tokens_that_is_none_is_passed_over(server: ChatServer, usage: bytes) -> None:
    server.responses = [Raw(body=b'{"choices": [{"message": {"content": "x"}}], "usage": ' + usage + b"}")]
    assert ask(server).tokens is None


def test_the_key_goes_to_its_own_endpoint_and_nowhere_else(
    server: ChatServer, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to where it redirects, not to the endpoint of the other task, and not into a message that repeats it."""
    monkeypatch.setenv(JUDGE_KEY, " hunter2\n")
    ask(server)
    assert server.headers[0]["Authorization"] == "Bearer hunter2"
    with ChatEndpoint(server.url, "m", key_variable=ANSWERS_KEY) as other:
        other.ask(ASKED, max_tokens=9)
    assert "Authorization" not in server.headers[1]
    with chat_server(lambda text: text) as elsewhere:
        server.responses = [Raw(307, {"Location": f"{elsewhere.url}/chat/completions"})]
        with pytest.raises(EndpointError, match="it redirects to"):
            ask(server)
        assert elsewhere.paths == []
    server.responses = [Raw(401, body=b"Incorrect API key provided: hunter2")]
    with pytest.raises(EndpointError, match="Incorrect API key provided: …") as refused:
        ask(server)
    assert "hunter2" not in str(refused.value)


KEY = "sk-0123456789abcdef0123456789"


@pytest.mark.parametrize(
    "response",
    [
        Raw(401, body=f"<b>{KEY}</b>".encode()),
        Raw(401, body=f'"{KEY[:9]}\0{KEY[9:]}"'.encode()),
        Raw(401, body=KEY.encode() * 16 + KEY[:20].encode()),
        Raw(200, body=f"You sent {KEY}".encode()),
        Raw(200, body=b" " * 985 + KEY.encode()),
        Raw(200, body=f'{{"error": "{KEY}"}}'.encode()),
        Raw(200, body=text_of(f"A is better, {KEY}.")),
        Raw(302, {"Location": f"https://elsewhere.example/{KEY}/v1"}),
        Raw(302, {"Location": f"https://{KEY}@elsewhere.example/v1?key={KEY}"}),
    ],
)
def test_a_server_that_repeats_the_key_gets_it_into_no_message_and_no_answer(
    server: ChatServer, waits: list[float], monkeypatch: pytest.MonkeyPatch, response: Raw
) -> None:
    monkeypatch.setenv(JUDGE_KEY, KEY)
    server.responses = [response]
    with pytest.raises(EndpointError) as refused:
        ask(server)
    assert KEY[:12] not in str(refused.value)
    assert waits == []


def test_the_words_of_a_status_may_repeat_the_key(monkeypatch: pytest.MonkeyPatch, server: ChatServer) -> None:
    monkeypatch.setenv(JUDGE_KEY, KEY)
    monkeypatch.setattr(BaseHTTPRequestHandler, "responses", {401: (f"No such key: {KEY}", "")})
    server.responses = [Raw(401)]
    with pytest.raises(EndpointError, match="No such key: …") as refused:
        ask(server)
    assert KEY not in str(refused.value)


def test_an_answer_may_have_a_word_that_somebody_took_as_a_key(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local servers are given keys such as EMPTY."""
    monkeypatch.setenv(JUDGE_KEY, "EMPTY")
    server.responses = [Raw(body=text_of("The list is EMPTY."))]
    assert ask(server).text == "The list is EMPTY."


def test_a_proxy_that_cannot_be_used_is_no_fault_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "foo://user:hunter2@host:1")
    with pytest.raises(UsageError, match="the proxy that HTTPS_PROXY") as refused:
        ChatEndpoint("https://judge/v1", "m", key_variable=JUDGE_KEY)
    assert "expected an address" not in refused.value.message
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["hunter2\r\nX-Other: 1", "hunter2\x00", "schlüssel-hunter2"])
def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    if "\x00" in key:
        monkeypatch.setattr(chat_endpoint.os, "environ", {JUDGE_KEY: key})
    else:
        monkeypatch.setenv(JUDGE_KEY, key)
    with pytest.raises(UsageError, match=f"{JUDGE_KEY} holds characters") as refused:
        ChatEndpoint("https://judge/v1", "m", key_variable=JUDGE_KEY)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000/v1", "expected an address such as"),
        ("ftp://judge/v1", "expected an address such as"),
        ("", "expected an address such as"),
        ("http://judge/v1", "plain http to another machine"),
        ("https://user:hunter2@judge/v1", "user name or password"),
        ("https://judge/v1?api-key=hunter2", "has no query"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_is_asked(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        ChatEndpoint(url, "m", key_variable=JUDGE_KEY)
    assert "hunter2" not in str(refused.value)
    assert ("--allow-http" in (refused.value.hint or "")) == ("plain" in message)


def test_plain_http_elsewhere_is_possible_where_it_is_asked_for() -> None:
    ChatEndpoint("http://node7:8000/v1", "m", key_variable=JUDGE_KEY, allow_http=True).close()


def test_errors_are_of_the_one_family() -> None:
    assert issubclass(EndpointError, DpoTuiError)
