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
LIST_STARTS = frozenset("[ \t\r\n")
"""The characters that a list in JSON can begin with."""
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
        Unreadable: an item is no message, its role is unknown, its content is not text, or its function call has no
            name.
    """
    return [_message_of(item, column) for item in value]


def exchanges_of(value: list[Any]) -> list[Message] | None:
    """Turn Capybara's list of exchanges, ``{"input", "output"}`` each, into messages; the last may have no output.

    Returns:
        None where the list is none of exchanges.
    """
    # Parquet leaves out an output that is null.
    if not all(isinstance(item, dict) and {"input"} <= item.keys() <= {"input", "output"} for item in value):
        return None
    turns = [(role, item.get(key)) for item in value for role, key in (("user", "input"), ("assistant", "output"))]
    if turns and turns[-1][1] is None:
        turns.pop()
    if not turns or not all(isinstance(text, str) for _, text in turns):
        return None
    return [{"role": role, "content": text} for role, text in turns]


def _message_of(item: Any, column: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable("missing-field", f"`{column}` holds {json_type_name(item)} where a message should be")
    role = item.get("role") or item.get("from")
    known_role = ROLES.get(role.lower()) if isinstance(role, str) else None
    if known_role is None:
        raise Unreadable("role-order", f"`{column}` has a message with the role {_shortened(repr(role))}")
    is_call = str(role).lower() == "function_call"
    calls = _function_calls(item, column, is_call=is_call)
    message: Message = {"role": known_role, "content": None if is_call else _content_of(item, column, known_role)}
    # Chat templates never see a key of a message that is null: transformers drops it.
    message |= {key: value for key, value in item.items() if key not in _BASIC_KEYS and value is not None}
    if calls:
        message.pop("function_call", None)
        message["tool_calls"] = calls
    return message


def _function_calls(item: dict[str, Any], column: str, *, is_call: bool) -> list[dict[str, Any]]:
    """The calls of a ShareGPT turn ``function_call``, or of OpenAI's older key of that name, as ``tool_calls``."""
    if is_call:
        found = item.get("content") if item.get("value") is None else item.get("value")
        found = parse_cell(found) if isinstance(found, str) else found
    else:
        found = item.get("function_call")
        if not found or item.get("tool_calls"):
            return []
    calls = []
    for call in found if isinstance(found, list) and found else [found]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise Unreadable("missing-field", f"`{column}` has a function call that is not an object with a name")
        function = {"name": call["name"], "arguments": call.get("arguments", {})}
        calls.append({"type": "function", "function": function})
    return calls


def _content_of(item: dict[str, Any], column: str, role: str) -> str | None:
    content = item.get("content")
    if content is None:
        content = item.get("value")
    if isinstance(content, str):
        return content
    if content is None:
        # To a template no content and empty content are two things; it also decides about an empty system message.
        if item.get("tool_calls") or item.get("function_call") or role in {"system", "developer"}:
            return None
        raise Unreadable("missing-field", f"`{column}` has a message without `content`")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
        raise Unreadable("missing-field", f"`{column}` has a message with images or other parts that are not text")
    raise Unreadable("missing-field", f"`{column}` has a message whose content is {json_type_name(content)}, not text")


def may_be_messages(text: str) -> bool:
    """Whether a text may be a list of messages: the cheap test before :func:`decoded_messages` parses it."""
    return text[:1] in LIST_STARTS and text.lstrip()[:1] == "[" and ("role" in text or "from" in text)


def decoded_messages(value: Any) -> Any:
    """The list of messages that a text holds, in JSON or as Python's ``repr``; any other value unchanged."""
    if isinstance(value, str) and may_be_messages(value):
        parsed = parse_cell(value)
        if is_messages(parsed):
            return parsed
    return value


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
