"""Render chat templates exactly as transformers does, without importing it.

The scan counts the tokens that training will see, in a process that must start fast, so it cannot import the torch
stack. What transformers does to render a template is little and is repeated here: a jinja2 sandbox with its options,
filters and globals (``transformers/utils/chat_template_utils.py``, 5.23). ``tests/data/tokens/test_pair_lengths.py``
compares the two on real templates.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Message, Pair
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

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """One compiled chat template.

    Args:
        source: the jinja text.
        special_tokens: the variables of special tokens, such as ``bos_token``.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        self.source = source
        self._special = special_tokens
        self._template = _compile(source)

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
        rendered: str = self._template.render(
            messages=chat,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._special,
        )
        return rendered


def load_template(folder: Path) -> tuple[ChatTemplate, bool]:
    """Load the chat template of a model folder.

    Returns:
        The template, and whether it is the model's own; if not, it is DEFAULT_CHAT_TEMPLATE.

    Raises:
        DataError: a file cannot be read, or the template is not valid jinja.
    """
    import jinja2

    config = _json(folder / "tokenizer_config.json")
    source = _source(folder, config)
    try:
        return ChatTemplate(source or DEFAULT_CHAT_TEMPLATE, special_tokens(folder, config)), source is not None
    except jinja2.TemplateError as error:
        raise DataError(f"the chat template of {folder} cannot be read: {error}") from error


def special_tokens(folder: Path, config: dict[str, Any] | None = None) -> dict[str, str]:
    """The special tokens of a tokenizer by name, from its config and the older special_tokens_map.json."""
    named: dict[str, str] = {}
    for settings in (_json(folder / "special_tokens_map.json"), config or _json(folder / "tokenizer_config.json")):
        for name in _SPECIAL:
            value = settings.get(name)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                named[name] = value
    return named


def _source(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = _json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(template, list):  # several templates, each with a name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="Download the model's tokenizer again.") from error
    return loaded if isinstance(loaded, dict) else {}


def _message(message: Message) -> Message:
    """Drop what is None, and give reasoning its standard name, as transformers does before rendering."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def _compile(source: str) -> Any:
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
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


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
    except _template_errors() as error:
        return _reason(error)


def unrenderable(
    template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None
) -> Unrenderable | None:
    """Return why a template cannot render a conversation; None where it can."""
    try:
        template.render(messages, tools=tools)
    except _template_errors() as error:
        return _reason(error)
    return None


def _template_errors() -> tuple[type[Exception], ...]:
    import jinja2  # slow to import, and not every scan counts tokens

    return (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError)


def _reason(error: Exception) -> Unrenderable:
    return Unrenderable((str(error).splitlines() or [type(error).__name__])[0])
