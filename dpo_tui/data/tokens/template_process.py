"""Chat templates that are compiled and rendered in a child process, for commands, the app and the worker.

A template is a program of the model's author. Jinja's sandbox keeps it from files and processes, not from loops and
gigabytes, and in this process nothing could end it. One child serves all templates of this process: it starts with the
first and ends with the process, and a template that held it takes it along.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.tokens.chat_template import (
    SECONDS,
    ChatTemplate,
    Conversation,
    RenderError,
    TemplateLimitError,
)
from dpo_tui.data.tokens.template_child import Definition, write_request
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.errors import DataError
from dpo_tui.processes.json_child import ChildError, JsonChild

_MOST_OPENED = 200
"""Templates that one child keeps; the check before a start makes variants of one to find a remedy."""
_numbers = count()


class _TemplateChild(JsonChild):
    """The child, and the templates that it has opened."""

    def __init__(self) -> None:
        super().__init__("dpo_tui.data.tokens.template_child", "rendering with the chat template")
        self.opened: dict[int, frozenset[str]] = {}
        self.owner = os.getpid()
        self._answers = self.messages()

    def ask(self, request: Any, place: str) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            TemplateLimitError: the template took too much time or memory.
            DataError: the child has ended.
        """
        assert self._process.stdin is not None  # noqa: S101 (asked for in the constructor)
        try:
            write_request(self._process.stdin, request)  # type: ignore[arg-type]
        except RecursionError:
            return {"error": "the conversation is nested too deeply"}
        except OSError:
            pass  # it has ended: there is no answer either
        try:
            answer = next(self._answers, None)
            if answer is None:
                # The kernel ended it: its time was up, and it took no exception.
                if self.wait() == -signal.SIGPROF:
                    raise TemplateLimitError(place, "time")
                raise self.died()
        except ChildError as error:
            raise DataError(f"{place}: {error.message}", hint=error.hint) from error
        if "limit" in answer:
            raise TemplateLimitError(place, answer["limit"])
        return answer


class _SharedChild:
    """The one child of this process, started when it is asked for and not there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _TemplateChild | None = None

    def ask(self, template: "GuardedTemplate", request: tuple[Any, ...] | None) -> dict[str, Any]:
        """Open a template if it is not open, send a request about it, and return the answer; see `_TemplateChild`."""
        with self._lock:
            child = self._running()
            try:
                if template.number not in child.opened:
                    answer = child.ask(("open", template.number, template.definition), template.place)
                    if "error" in answer:
                        return answer
                    child.opened[template.number] = frozenset(answer["variables"])
                if request is None:
                    return {"variables": child.opened[template.number]}
                return child.ask(request, template.place)
            except BaseException:
                # After an interruption an answer may be on its way, which would be taken for that of the next request.
                self._close()
                raise

    def close(self) -> None:
        """End the child, from any thread; whoever waits for an answer gets an error."""
        child = self._child
        if child is not None and child.owner == os.getpid():
            child.end()

    def _running(self) -> _TemplateChild:
        child = self._child
        if child is not None and child.owner == os.getpid():
            if child._process.poll() is None and len(child.opened) < _MOST_OPENED:
                return child
            self._close()
        self._child = _TemplateChild()  # a process that was forked has a child of its own
        return self._child

    def _close(self) -> None:
        if self._child is not None and self._child.owner == os.getpid():
            self._child.close()
        self._child = None


_shared = _SharedChild()
atexit.register(_shared.close)


class GuardedTemplate(ChatTemplate):
    """A chat template that is rendered in the child; see :class:`ChatTemplate`.

    Args:
        source: the jinja text.
        special_tokens: the variables of special tokens.
        place: whose template it is, for errors.
        for_tools: the jinja text for conversations with tools, where it is another.
        time: that ``strftime_now`` tells; None for that of the clock.
    """

    def __init__(
        self,
        source: str,
        special_tokens: dict[str, str],
        place: str,
        *,
        for_tools: str | None = None,
        time: datetime | None = None,
    ) -> None:
        self.place = place
        self.number = next(_numbers)
        self._time = time
        super().__init__(source, special_tokens, for_tools=for_tools)

    def _compile(self, clock: Callable[[], datetime]) -> None:
        """Nothing is compiled in this process."""

    @property
    def definition(self) -> Definition:
        """What the child makes the template of."""
        return self.source, self.for_tools, self.special_tokens, self._time, SECONDS

    @property
    def variables(self) -> frozenset[str]:
        """Names that the template looks up and nobody has to pass.

        Raises:
            RenderError: it is not valid.
        """
        found: frozenset[str] = self._ask(None)["variables"]
        return found

    def open(self) -> None:
        """Compile the template in the child.

        Raises:
            RenderError: it is not valid.
            TemplateLimitError: compiling it takes too much time or memory.
        """
        self._ask(None)

    def with_defaults(self, values: Mapping[str, Any]) -> "GuardedTemplate":
        """Return the template with other defaults of its variables."""
        if not values:
            return self
        for_tools = None if self.for_tools is None else with_defaults(self.for_tools, values)
        source = with_defaults(self.source, values)
        return GuardedTemplate(source, self.special_tokens, self.place, for_tools=for_tools, time=self._time)

    def at(self, time: datetime) -> "GuardedTemplate":
        """Return the template at another time."""
        return GuardedTemplate(self.source, self.special_tokens, self.place, for_tools=self.for_tools, time=time)

    def render(
        self, messages: list[Message], *, tools: list[dict[str, Any]] | None = None, add_generation_prompt: bool = False
    ) -> str:
        """Render a conversation.

        Raises:
            RenderError: the template raised an error.
            TemplateLimitError: it takes too much time or memory.
        """
        return self.render_all([(messages, tools, add_generation_prompt)])[0]

    def render_all(self, conversations: Sequence[Conversation]) -> list[str]:
        """Render several conversations; see :meth:`render`."""
        texts: list[str] = self._ask(("render", self.number, list(conversations), True))["texts"]
        return texts

    def refusal(self, conversations: Sequence[Conversation]) -> Exception | None:
        """Return the first error that rendering some conversations raises."""
        try:
            self._ask(("render", self.number, list(conversations), False))
        except (RenderError, DataError) as error:
            return error
        return None

    def _ask(self, request: tuple[Any, ...] | None) -> dict[str, Any]:
        answer = _shared.ask(self, request)
        if "error" in answer:
            raise RenderError(answer["error"])
        return answer
