"""Chat messages as people write them, made into ``role``/``content`` messages."""

import ast
from typing import Any

from dpo_tui.data.pairs.pair import Message, Unreadable

# The names that ShareGPT, LLaMA-Factory, OpenAssistant and others give to the three parties.
ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
_RENAMED = frozenset({"role", "content", "from", "value"})
# A table cell that holds a longer Python literal is not parsed: no dataset needs it, and a hostile one could.
_LONGEST_LITERAL = 1_000_000


def is_messages(value: Any) -> bool:
    """Whether a value is a list of chat messages, in either spelling."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in value)
    )


def messages_of(value: list[Any], what: str) -> list[Message]:
    """Turn a list of messages in either spelling into ``role``/``content`` messages.

    Args:
        value: a list of ``{"role", "content"}`` or ``{"from", "value"}`` objects.
        what: the field that it came from, for the error.

    Raises:
        Unreadable: an item is no message, its role is unknown, or its content is not text.
    """
    return [_message_of(item, what) for item in value]


def _message_of(item: Any, what: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable("missing-field", f"`{what}` holds {_kind(item)} where a message should be")
    role = item.get("role") or item.get("from")
    known = ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise Unreadable("role-order", f"`{what}` has a message with the role {_short(role)}")
    message: Message = {"role": known, "content": _content_of(item, what)}
    for key, extra in item.items():
        if key not in _RENAMED and extra is not None:  # Parquet spells an absent key as null
            message[key] = extra
    return message


def _content_of(item: dict[str, Any], what: str) -> str:
    content = item.get("content")
    if content is None:
        content = item.get("value")
    if isinstance(content, str):
        return content
    if content is None:
        if item.get("tool_calls"):
            return ""
        raise Unreadable("missing-field", f"`{what}` has a message without `content`")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
        raise Unreadable("missing-field", f"`{what}` has a message with images or other parts that are not text")
    raise Unreadable("missing-field", f"`{what}` has a message whose content is {_kind(content)}, not text")


def literal(cell: str) -> Any:
    """Read a table cell that holds JSON, or a list as Python prints it; any other text is returned as it is."""
    start = cell.lstrip()[:1]
    if start not in {"[", "{"}:
        return cell
    import orjson

    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        if len(cell) > _LONGEST_LITERAL:
            return cell
    try:
        value = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return cell
    return value if isinstance(value, (list, dict)) else cell


def describe(value: Any) -> str:
    """Name the kind of a JSON value in words."""
    return _kind(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {str: "text", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else repr(value)[:40] + "…"  # noqa: PLR2004 (a word, not a setting)
