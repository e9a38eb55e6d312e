"""Rows as the cells of an Arrow table: messages and tools as JSON text, so that no column type adds keys or nulls.

A cell gives back exactly what went into it, or is not made (:class:`UnstorableError`).
"""

import json
from collections.abc import Hashable
from typing import Any

import orjson

Message = dict[str, Any]
# No text of a dataset begins so: the ASCII record separator.
MARK = "\x1emessages "
"""Before the JSON text of messages."""
PLAIN_MARK = "\x1eplain "
"""The same for messages of a role and a text: their keys are sorted in the cell, and are in the usual order outside."""
_EXACT = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_KEYS = ["role", "content"]


class UnstorableError(Exception):
    """A value that JSON does not give back as it was, such as a date in a column of Parquet."""


def messages_cell(messages: list[Message]) -> str:
    """The cell of a conversation.

    Raises:
        UnstorableError: JSON would change it.
    """
    if plain_shape(messages, []):
        try:
            return PLAIN_MARK + orjson.dumps(messages, option=orjson.OPT_SORT_KEYS).decode()
        except TypeError:  # half of a surrogate pair
            pass
    return MARK + json_cell(messages)


def json_cell(value: Any) -> str:
    """The JSON text of a value, which is that value again when parsed.

    Raises:
        UnstorableError: JSON would change it.
    """
    try:
        text = orjson.dumps(value, option=_EXACT).decode()
        if "null" not in text or json.loads(text) == value:  # NaN is written as null
            return text
    except TypeError:
        pass
    try:
        text = json.dumps(value)  # half of a surrogate pair, or a whole number beyond 64 bits
        if json.loads(text) == value:
            return text
    except (TypeError, ValueError) as error:
        raise UnstorableError(str(error)) from error
    raise UnstorableError("JSON does not give it back as it was")


def messages_of_cell(cell: str) -> list[Message]:
    """The conversation of a cell."""
    if cell.startswith(PLAIN_MARK):
        found = orjson.loads(cell[len(PLAIN_MARK) :])
        return [{"role": one["role"], "content": one["content"]} for one in found]
    messages: list[Message] = json.loads(cell[len(MARK) :])
    return messages


def plain_shape(messages: list[Message], shape: list[tuple[str, bool] | None]) -> bool:
    """Whether each message has a role and a text, in this order, and nothing else.

    Args:
        messages: a conversation.
        shape: gets its part of :func:`row_shape`.
    """
    for one in messages:
        if len(one) != 2 or [*one] != _KEYS:  # noqa: PLR2004
            return False
        role, content = one.values()
        if type(role) is not str or type(content) is not str:
            return False
        shape.append((role, not content or content.isspace()))
    shape.append(None)
    return True


def row_shape(tools: list[dict[str, Any]] | None, *conversations: list[Message]) -> Hashable:
    """What the success of rendering depends on: the roles of conversations, and which messages are empty.

    One row of each shape is rendered, since rendering a million of them takes minutes. None for rows with tools or with
    messages of more than a role and a text: each of them is rendered.
    """
    if tools:
        return None
    shape: list[tuple[str, bool] | None] = []
    for messages in conversations:
        for message in messages:
            content = message.get("content")
            if len(message) != 2 or type(content) is not str:  # noqa: PLR2004 (role and content)
                return None
            shape.append((message["role"], not content or content.isspace()))
        shape.append(None)
    return tuple(shape)
