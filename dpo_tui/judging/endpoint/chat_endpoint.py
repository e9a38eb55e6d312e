"""An OpenAI-compatible endpoint (vLLM, llama.cpp, Ollama, a hosted one): one question, one reply, with retries."""

import json
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.http_post import JsonPoster, PostError, shown_address
from dpo_tui.text.printable import printable

JUDGE_KEY = "DPO_TUI_JUDGE_KEY"
"""Environment variable with the API key of the endpoint that judges."""
ANSWERS_KEY = "DPO_TUI_ANSWERS_KEY"
"""Environment variable with the API key of the endpoint that answers: another one, since it may be another host's."""
KEY_VARIABLES = (JUDGE_KEY, ANSWERS_KEY)
_TIMEOUT_SECONDS = 120.0
_ATTEMPTS = 6
_FIRST_WAIT = 1.0
"""Seconds before the second attempt; doubled before each further one: 31 s in all."""
_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is asked again after these."""
_SHOWN = 200
_READ = 1000
"""Bytes of a body from which these are taken."""
_SHORTEST_PART = 4
"""Characters of the beginning of a key that are left out where the end of a text cuts it."""
_SECRET = 16
"""Characters from which on a key does not stand in an answer by chance."""


class EndpointError(DpoTuiError):
    """An endpoint did not answer, or not in the way that OpenAI's API does."""


@dataclass(frozen=True)
class ChatReply:
    """What the model said.

    Attributes:
        text: without white space around it.
        cut: whether it was ended by the limit of tokens.
        tokens: number of its tokens as the endpoint counts them; None where it does not.
    """

    text: str
    cut: bool
    tokens: int | None


class ChatEndpoint:
    """A model at an endpoint; usable from several threads. Use it as a context manager.

    Args:
        url: up to and including ``/v1``.
        model: its name at the endpoint.
        key_variable: environment variable with the API key; without it none is sent.
        option: of the command line that gave the address, for error messages.
        allow_http: accept plain http to another machine.

    Raises:
        UsageError: the address, the name of the model or the key cannot be used.
    """

    def __init__(
        self, url: str, model: str, *, key_variable: str, option: str = "--endpoint", allow_http: bool = False
    ) -> None:
        if not model:
            raise UsageError(f"{option}: the name of the model at the endpoint is missing")
        if "?" in url:
            raise UsageError(
                f"{option}: the address of an endpoint has no query: addresses are written down, and it may hold a key",
                hint=f"set the API key in ${key_variable}",
            )
        self.model = model
        self.shown = shown_address(url)
        self._key_variable = key_variable
        self._headers = _authorization(key_variable)
        self._key = os.environ.get(key_variable, "").strip()
        self._closed = threading.Event()
        try:
            self._poster = JsonPoster(
                f"{url.rstrip('/')}/chat/completions", timeout=_TIMEOUT_SECONDS, allow_http=allow_http
            )
        except ValueError as error:
            hint = "--allow-http accepts that" if "plain http" in str(error) else None
            raise UsageError(
                f"{option}: {error}; expected an address such as http://localhost:8000/v1", hint=hint
            ) from None
        except PostError as error:
            raise UsageError(f"{option}: {error}", hint="NO_PROXY names hosts that are reached without it") from None

    def ask(self, messages: Sequence[Message], *, max_tokens: int, **options: Any) -> ChatReply:
        """Send a conversation and return the model's reply to it.

        What may pass by itself is tried again: no connection, no answer in time, a rate limit (after the time for which
        the server asks, a minute at most), an error of the server.

        Args:
            messages: the conversation.
            max_tokens: longest reply.
            **options: further fields of the request: temperature, top_p, seed.

        Raises:
            EndpointError: there is no reply after all attempts, or none that can be read.
        """
        body = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, **options}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._checked(_read_reply(self._poster.post(body, headers=self._headers), self._key))
            except PostError as error:
                if not error.transient or attempt == _ATTEMPTS or self._closed.is_set():
                    raise self._error(error, attempt) from None
                self._closed.wait(_wait_seconds(attempt, error.retry_after))
            except ValueError as error:
                raise self._error(error, attempt) from None
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections; threads that wait for a further attempt give up."""
        self._closed.set()
        self._poster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _error(self, error: Exception, attempts: int) -> EndpointError:
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        said = f": {_shown(error.body, self._key)}" if isinstance(error, PostError) and error.body else ""
        status = error.status if isinstance(error, PostError) else None
        hint = "what it has answered so far is kept; the same command goes on with the rest"
        if status in (401, 403):
            hint = f"set the API key of this endpoint in ${self._key_variable}; {hint}"
        # The server chooses a part of every error: the words of its status, the target of a redirect.
        told = _without_key(str(error), self._key)
        return EndpointError(f"{self.shown}: the endpoint did not answer: {told}{tried}{said}", hint=hint)

    def _checked(self, reply: ChatReply) -> ChatReply:
        """Refuse a reply with the key in it: replies are kept, and may become training data.

        A short key, such as the ``EMPTY`` that local servers are given, is an ordinary word.
        """
        if len(self._key) >= _SECRET and self._key in reply.text:
            raise ValueError("its reply has the API key in it that it was sent, and is not kept")
        return reply


def _authorization(key_variable: str) -> dict[str, str]:
    key = os.environ.get(key_variable, "").strip()
    if not key:
        return {}
    # Checked here: the HTTP library would quote the whole header in its error.
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"${key_variable} holds characters that no API key has", hint="set it again, as one line")
    return {"Authorization": f"Bearer {key}"}


def _wait_seconds(attempt: int, retry_after: float | None) -> float:
    if retry_after is not None:
        return min(retry_after, _LONGEST_WAIT)
    # Spread, so that threads that failed together do not come back together.
    return float(_FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311 - no secret


def _read_reply(body: bytes, key: str = "") -> ChatReply:
    """Read a response of /chat/completions.

    Args:
        body: of the response.
        key: left out of messages.

    Raises:
        ValueError: it has another form; the message says what is missing.
    """
    beginning = _shown(body[:_READ].decode("utf-8", "replace"), key)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"its reply is no JSON: {beginning!r}") from None
    try:
        choice = document["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"its reply has no choices[0].message.content: {beginning!r}") from None
    cut = choice.get("finish_reason") == "length"
    if text is None and cut:
        text = ""  # of a reasoning model whose tokens ended while it thought
    if not isinstance(text, str):
        raise ValueError(f"choices[0].message.content of its reply is {type(text).__name__} and not text")
    usage = document.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    counted = tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else None
    return ChatReply(text.strip(), cut, counted)


def _shown(body: str, key: str) -> str:
    """The beginning of a body for a message, without the key: servers may repeat what they were sent."""
    # Again once it is printable: characters that cannot be shown may stand within the key.
    return _without_key(printable(_without_key(body, key), single_line=True), key)[:_SHOWN]


def _without_key(text: str, key: str) -> str:
    """Put an ellipsis in the place of a key, also of one that the end of the text cuts."""
    if not key:
        return text
    text = text.replace(key, "…")
    for length in range(len(key) - 1, _SHORTEST_PART - 1, -1):
        if text.endswith(key[:length]):
            return text[:-length] + "…"
    return text
