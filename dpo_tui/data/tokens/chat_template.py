"""Render chat templates exactly as transformers does, without importing it.

The scan counts the tokens that training will see, in a process that must start fast, so it cannot import the torch
stack. What transformers does to render a template is little and is repeated here: a jinja2 sandbox with its options,
filters and globals (``transformers/utils/chat_template_utils.py``, 5.23). ``tests/data/tokens/test_pair_lengths.py``
compares the two on real templates.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.errors import DataError
from dpo_tui.processes.limits import Limit

DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, for models without a chat template. The end-of-text token after an answer ends generation with tokenizers to
which ``<|im_end|>`` is ordinary text."""

_PASSED = ("messages", "tools", "documents", "add_generation_prompt")
_REASONING = ("reasoning_content", "thinking", "reasoning")


SECONDS = 10.0
"""Of processor time for one rendering; a conversation of a megabyte takes some hundredths."""
MEMORY = 512 << 20
"""Bytes that one rendering may take."""
MOST_CHARACTERS = 1 << 24
"""Of one rendering, and eight times as many as the conversation has bytes."""
_TOO_MUCH: dict[str, str] = {
    "time": f"takes more than {SECONDS:g} seconds of processor time",
    "memory": f"takes more than {MEMORY >> 20} MB of memory",
    "size": f"makes a text of more than {MOST_CHARACTERS:,} characters",
}


class TemplateLimitError(DataError):
    """A chat template takes more time or memory for a conversation than any that is meant for training.

    It is a program of the model's author; such a one would hold commands, the app and the worker for ever.

    Args:
        place: whose template it is.
        limit: what it takes too much of.
    """

    def __init__(self, place: str, limit: Limit | Literal["size"]) -> None:
        super().__init__(
            f"the chat template of {place} {_TOO_MUCH[limit]} for one conversation",
            hint='Look at the template before you use this model; another one: chat_template = "FILE.jinja"',
        )
        self.place = place
        self.limit: Limit | Literal["size"] = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place, self.limit)  # it passes between the processes of a pool


class RenderError(Exception):
    """A template raised an error; the message is the first line of it."""


Conversation = tuple[list[Message], list[dict[str, Any]] | None, bool]
"""Messages, schemas of tools, and whether to append what begins an answer of the assistant."""


class ChatTemplate:
    """One compiled chat template.

    Args:
        source: the jinja text.
        special_tokens: the variables of special tokens, such as ``bos_token``.
        for_tools: the jinja text for conversations with tools, where it is another.
        clock: tells ``strftime_now`` the time.
    """

    def __init__(
        self,
        source: str,
        special_tokens: dict[str, str],
        *,
        for_tools: str | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self.for_tools = for_tools
        self.special_tokens = special_tokens
        self._compile(clock)

    def _compile(self, clock: Callable[[], datetime]) -> None:
        self._template = _compile(self.source, clock)
        self._template_for_tools = self._template if self.for_tools is None else _compile(self.for_tools, clock)

    @property
    def variables(self) -> frozenset[str]:
        """Names that the template looks up and nobody has to pass, such as ``enable_thinking``."""
        import jinja2.meta

        found = (jinja2.meta.find_undeclared_variables(parse_template(one)) for one in self.sources)
        return frozenset().union(*found) - {*_PASSED, *self.special_tokens}

    def with_defaults(self, values: Mapping[str, Any]) -> "ChatTemplate":
        """Return the template with other defaults of its variables."""
        if not values:
            return self
        for_tools = None if self.for_tools is None else with_defaults(self.for_tools, values)
        return ChatTemplate(with_defaults(self.source, values), self.special_tokens, for_tools=for_tools)

    def at(self, time: datetime) -> "ChatTemplate":
        """Return the template at another time."""
        return ChatTemplate(self.source, self.special_tokens, for_tools=self.for_tools, clock=lambda: time)

    @property
    def sources(self) -> tuple[str, ...]:
        """The jinja text, or both."""
        return (self.source,) if self.for_tools is None else (self.source, self.for_tools)

    def render(
        self, messages: list[Message], *, tools: list[dict[str, Any]] | None = None, add_generation_prompt: bool = False
    ) -> str:
        """Render a conversation.

        Args:
            messages: the conversation.
            tools: the schemas of tools that the model may call.
            add_generation_prompt: append what begins an answer of the assistant.

        Raises:
            Exception: any; the template raised an error, for instance because roles do not alternate.
        """
        chat = [_message(message) for message in messages]
        template = self._template if tools is None else self._template_for_tools
        rendered: str = template.render(
            messages=chat,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self.special_tokens,
        )
        return rendered

    def render_all(self, conversations: Sequence[Conversation]) -> list[str]:
        """Render several conversations; see :meth:`render`."""
        return [self.render(one, tools=tools, add_generation_prompt=begun) for one, tools, begun in conversations]

    def refusal(self, conversations: Sequence[Conversation]) -> Exception | None:
        """Return the first error that rendering some conversations raises; their texts are not kept."""
        try:
            self.render_all(conversations)
        except Exception as error:
            return error
        return None


def _message(message: Message) -> Message:
    """Drop what is None, and give reasoning its standard name, as transformers does before rendering."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def _compile(source: str, clock: Callable[[], datetime]) -> Any:
    return _environment(clock).from_string(source)


def parse_template(source: str) -> Any:
    """Parse a template into jinja's syntax tree.

    Raises:
        jinja2.TemplateError: it is not valid.
    """
    return _environment(datetime.now).parse(source)


def _environment(clock: Callable[[], datetime]) -> Any:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """``{% generation %}`` marks the assistant's tokens for a loss mask, which is not needed: render its body."""

        tags = {"generation"}  # noqa: RUF012 (jinja's own attribute)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: clock().strftime(form)
    return environment


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """Why the chat template cannot render a pair; training leaves such a pair out.

    Args:
        reason: the first line of the template's error.
    """

    reason: str


def render(template: ChatTemplate, pair: Pair) -> tuple[str, str, str] | Unrenderable:
    """Render prompt, prompt and chosen, prompt and rejected, as TRL does; or return why that fails.

    Raises:
        TemplateLimitError: the template takes too much time or memory.
    """
    try:
        prompt, chosen, rejected = template.render_all(pair_conversations(pair))
    except TemplateLimitError:
        raise
    except Exception as error:
        return _reason(error)
    return prompt, chosen, rejected


def pair_conversations(pair: Pair) -> list[Conversation]:
    """What is rendered of a pair: the prompt for generation, and the prompt with each answer."""
    return [
        (pair.prompt, pair.tools, True),
        (pair.prompt + pair.chosen, pair.tools, False),
        (pair.prompt + pair.rejected, pair.tools, False),
    ]


def render_or_none(
    template: ChatTemplate, messages: list[Message], tools: Any = None, *, add_generation_prompt: bool = False
) -> str | None:
    """Render a conversation; None where the template cannot.

    Raises:
        TemplateLimitError: it takes too much time or memory.
    """
    try:
        return template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
    except TemplateLimitError:
        raise
    except Exception:
        return None


def unrenderable(template: ChatTemplate, conversations: Sequence[Conversation]) -> Unrenderable | None:
    """Return why a template cannot render some conversations; None where it can.

    Raises:
        TemplateLimitError: it takes too much time or memory.
    """
    error = template.refusal(conversations)
    if isinstance(error, TemplateLimitError):
        raise error
    return None if error is None else _reason(error)


def first_line(error: Exception) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _reason(error: Exception) -> Unrenderable:
    """Why a template cannot render something.

    A template is a program of the model's author: it may raise anything that Python can, such as a division by zero or
    the sandbox's OverflowError for a long range. So callers catch every exception.
    """
    return Unrenderable(first_line(error))
