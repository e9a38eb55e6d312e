"""Render chat templates exactly as transformers does, without importing it.

The scan counts the tokens that training will see, in a process that must start fast, so it cannot import the torch
stack. What transformers does to render a template is little and is repeated here: a jinja2 sandbox with its options,
filters and globals (``transformers/utils/chat_template_utils.py``, 5.23). ``tests/data/tokens/test_pair_lengths.py``
compares the two on real templates.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings, TokenizerSettings, read_object
from dpo_tui.errors import DataError

DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, for models without a chat template. The end-of-text token after an answer ends generation with tokenizers to
which ``<|im_end|>`` is ordinary text."""

_FOR_TOOLS = "tool_use"
"""Name of the template that transformers takes for conversations with tools, where a model has several."""
_PASSED = ("messages", "tools", "documents", "add_generation_prompt")
_REASONING = ("reasoning_content", "thinking", "reasoning")


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
        self._template = _compile(source, clock)
        self._template_for_tools = self._template if for_tools is None else _compile(for_tools, clock)

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
            jinja2.TemplateError: the template raised an error, for instance because roles do not alternate.
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


def load_template(folder: Path, settings: TemplateSettings | None = None) -> tuple[ChatTemplate, bool]:
    """Load the chat template of a model folder.

    Args:
        folder: of the model.
        settings: of the run.

    Returns:
        The template, and whether it is the model's own or that of the settings; if not, it is DEFAULT_CHAT_TEMPLATE.

    Raises:
        DataError: a file cannot be read, or the template is not valid jinja.
    """
    import jinja2

    settings = settings or TemplateSettings()
    special = TokenizerSettings(folder, settings).special_tokens
    source, for_tools = _sources(folder)
    try:
        if settings.file:
            source, for_tools = Path(settings.file).read_text(encoding="utf-8"), None
    except (OSError, ValueError) as error:
        raise DataError(f"chat_template = {settings.file}: cannot be read: {error}") from error
    try:
        found = ChatTemplate(source or DEFAULT_CHAT_TEMPLATE, special, for_tools=for_tools)
        return found.with_defaults(settings.defaults), source is not None
    except (jinja2.TemplateError, RecursionError) as error:
        place = settings.file or folder
        raise DataError(
            f"the chat template of {place} cannot be read: {error}",
            hint='correct it, or give another one: chat_template = "FILE.jinja"',
        ) from error


def _sources(folder: Path) -> tuple[str | None, str | None]:
    """The model's template, and the one for conversations with tools where there is another."""
    file = folder / "chat_template.jinja"
    template = read_object(folder / "chat_template.json").get("chat_template")
    template = template or read_object(folder / "tokenizer_config.json").get("chat_template")
    if file.is_file():
        template = file.read_text(encoding="utf-8")
    named: dict[Any, Any] = {}
    if isinstance(template, list):  # several templates, each with a name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    more = folder / "additional_chat_templates" / f"{_FOR_TOOLS}.jinja"
    for_tools = more.read_text(encoding="utf-8") if more.is_file() else named.get(_FOR_TOOLS)
    return (
        template if isinstance(template, str) else None,
        for_tools if isinstance(for_tools, str) else None,
    )


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
    """Render prompt, prompt and chosen, prompt and rejected, as TRL does; or return why that fails."""
    try:
        return (
            template.render(pair.prompt, tools=pair.tools, add_generation_prompt=True),
            template.render(pair.prompt + pair.chosen, tools=pair.tools),
            template.render(pair.prompt + pair.rejected, tools=pair.tools),
        )
    except Exception as error:
        return _reason(error)


def render_or_none(
    template: ChatTemplate, messages: list[Message], tools: Any = None, *, add_generation_prompt: bool = False
) -> str | None:
    """Render a conversation; None where the template cannot."""
    try:
        return template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
    except Exception:
        return None


def unrenderable(
    template: ChatTemplate,
    messages: list[Message],
    tools: list[dict[str, Any]] | None,
    *,
    add_generation_prompt: bool = False,
) -> Unrenderable | None:
    """Return why a template cannot render a conversation; None where it can."""
    try:
        template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
    except Exception as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> Unrenderable:
    """The first line of an error.

    A template is a program of the model's author: it may raise anything that Python can, such as a division by zero or
    the sandbox's OverflowError for a long range. So callers catch every exception.
    """
    return Unrenderable((str(error).splitlines() or [type(error).__name__])[0])
