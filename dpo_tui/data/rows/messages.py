"""Read chat messages in the spellings that datasets use, as ``role``/``content`` messages."""

import ast
from typing import Any

from dpo_tui.data.pairs.pair import Message, Unreadable

# The roles of ShareGPT, LLaMA-Factory, OpenAssistant and others, each with the role that chat templates know.
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
_BASIC_KEYS = frozenset({"role", "content", "from", "value"})
# Characters. ast.literal_eval needs memory many times the size of its text, and cells are others' data.
_LONGEST_LITERAL = 1_000_000
_SHOWN_CHARACTERS = 40


def is_messages(value: Any) -> bool:
    """Whether a value is a list of chat messages, in either spelling."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in value)
    )


def messages_of(value: list[Any], column: str) -> list[Message]:
    """Turn a list of messages in either spelling into ``role``/``content`` messages.

    Args:
        value: a list of ``{"role", "content"}`` or ``{"from", "value"}`` objects.
        column: where the list came from, for the error.

    Raises:
        Unreadable: an item is no message, its role is unknown, or its content is not text.
    """
    return [_message_of(item, column) for item in value]


def _message_of(item: Any, column: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable("missing-field", f"`{column}` holds {json_type_name(item)} where a message should be")
    role = item.get("role") or item.get("from")
    known_role = ROLES.get(role.lower()) if isinstance(role, str) else None
    if known_role is None:
        raise Unreadable("role-order", f"`{column}` has a message with the role {_shortened(repr(role))}")
    message: Message = {"role": known_role, "content": _content_of(item, column)}
    for key, value in item.items():
        if (
            key not in _BASIC_KEYS and value is not None
        ):  # a Parquet struct has every key in every row, absent ones null
            message[key] = value
    return message


def _content_of(item: dict[str, Any], column: str) -> str:
    content = item.get("content")
    if content is None:
        content = item.get("value")
    if isinstance(content, str):
        return content
    if content is None:
        if item.get("tool_calls"):
            return ""
        raise Unreadable("missing-field", f"`{column}` has a message without `content`")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
        raise Unreadable("missing-field", f"`{column}` has a message with images or other parts that are not text")
    raise Unreadable("missing-field", f"`{column}` has a message whose content is {json_type_name(content)}, not text")


def parse_cell(cell: str) -> Any:
    """Parse the text of a table cell that holds a list or an object, in JSON or as Python's ``repr``.

    Returns:
        Any other text unchanged.
    """
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


def json_type_name(value: Any) -> str:
    """The kind of a parsed JSON value, for messages: ``a list``, ``an object``, ``null``."""
    if value is None:
        return "null"
    names = {str: "text", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
