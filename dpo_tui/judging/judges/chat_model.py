"""A language model that is asked questions: loaded on this machine, or behind an endpoint."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from dpo_tui.errors import UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.answer_sources.local_model import load_generator
from dpo_tui.judging.endpoint.bounded_calls import bounded_calls
from dpo_tui.judging.endpoint.chat_endpoint import JUDGE_KEY, ChatEndpoint
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.processes.torch_tool import TorchTool

MAX_REPLY_TOKENS = 512
CONCURRENCY = 8
"""Questions that an endpoint is asked at a time."""
_BATCH = 8
"""Questions that a model on this machine is asked in one request: its batch."""


@dataclass(frozen=True)
class ModelReply:
    """Reply to one question.

    Attributes:
        number: of the question, from 0.
        text: what the model said.
        cut: whether the limit of tokens ended it.
    """

    number: int
    text: str
    cut: bool


class ChatModel(Protocol):
    """A model that answers questions.

    Attributes:
        name: as records and reports name it.
    """

    name: str

    def ask(self, questions: Sequence[str], max_tokens: int = MAX_REPLY_TOKENS) -> Iterator[ModelReply]:
        """Yield the reply to each question, without chance, in their order.

        Raises:
            DpoTuiError: a question got no reply; the replies to those that had begun were yielded before.
        """


class EndpointModel:
    """A model behind an endpoint, as :class:`ChatModel`."""

    def __init__(self, endpoint: ChatEndpoint) -> None:
        self.name = f"model {endpoint.model}"
        self._endpoint = endpoint

    def ask(self, questions: Sequence[str], max_tokens: int = MAX_REPLY_TOKENS) -> Iterator[ModelReply]:
        """Yield the replies; see :class:`ChatModel`."""

        def one(question: tuple[int, str]) -> ModelReply:
            number, text = question
            reply = self._endpoint.ask([{"role": "user", "content": text}], max_tokens=max_tokens, temperature=0)
            return ModelReply(number, reply.text, reply.cut)

        for _, reply in bounded_calls(one, list(enumerate(questions)), CONCURRENCY, in_order=True):
            yield reply


class LocalModel:
    """A model in a ``generate`` child, where it stays loaded, as :class:`ChatModel`."""

    def __init__(self, tool: TorchTool, name: str) -> None:
        self.name = f"model {name}"
        self._tool = tool

    def ask(self, questions: Sequence[str], max_tokens: int = MAX_REPLY_TOKENS) -> Iterator[ModelReply]:
        """Yield the replies; see :class:`ChatModel`."""
        for start in range(0, len(questions), _BATCH):
            batch = list(enumerate(questions[start : start + _BATCH], start=start))
            request = {
                "do": "answers",
                "prompts": [{"id": number, "messages": [{"role": "user", "content": text}]} for number, text in batch],
                "max_new_tokens": max_tokens,
            }
            # Read to its end before anything is yielded: replies that nobody took would answer the next request.
            messages = [message for message in self._tool.ask(request) if message["kind"] == "answer"]
            yield from (ModelReply(one["id"], one["text"], one["cut"]) for one in messages)


@contextmanager
def _endpoint_model(choice: JudgeChoice) -> Iterator[ChatModel]:
    with ChatEndpoint(
        choice.target, choice.endpoint_model, key_variable=JUDGE_KEY, allow_http=choice.allow_http
    ) as endpoint:
        yield EndpointModel(endpoint)


@contextmanager
def _local_model(choice: JudgeChoice) -> Iterator[ChatModel]:
    with TorchTool("generate", environment=tool_environment()) as tool:
        load_generator(tool, choice.target)
        yield LocalModel(tool, choice.target)


_CHAT_MODELS: dict[str, Callable[[JudgeChoice], AbstractContextManager[ChatModel]]] = {
    "endpoint": _endpoint_model,
    "model": _local_model,
}


def open_chat_model(choice: JudgeChoice) -> AbstractContextManager[ChatModel]:
    """Open the model of a choice.

    Raises:
        UsageError: its kind is no model that talks, or its endpoint cannot be used.
        ChildError: it cannot be loaded.
    """
    if choice.kind not in _CHAT_MODELS:
        raise UsageError(f"a judge of the kind {choice.kind} cannot be asked in words", hint="name a model that talks")
    return _CHAT_MODELS[choice.kind](choice)
