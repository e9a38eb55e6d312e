"""Lists in a record's columns: answers, numbers, and the turns of a conversation, also as JSON text."""

import re
from typing import Any

from dpo_tui.data.pairs.pair import Message, Unreadable
from dpo_tui.data.rows.column_names import column_names
from dpo_tui.data.rows.messages import is_messages, json_type_name, parse_cell

TEXT_KEYS = ("answer", "response", "text", "content", "completion", "output", "generation", "summary")
"""The keys under which an answer that is an object has its text."""
ANSWER_LISTS = (
    *("summaries", "responses", "answers", "completions", "outputs", "generations", "candidates", "options"),
    "replies",
)
"""Columns that hold a list of answers."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_TURN_LIST_STARTS = ('["', "['", "[null", "[None", "[]")


def list_of(value: Any) -> list[Any] | None:
    """The list that a value is, or that its text holds in JSON; None for anything else."""
    found = parse_cell(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    return found if isinstance(found, list) else None


def text_key(answer: dict[str, Any]) -> str | None:
    """The key under which an answer has its text."""
    return column_names(answer).find(TEXT_KEYS)


def answer_of(item: Any, column: str) -> Any:
    """The answer that an element of a list is: text, messages, or an object with either.

    Raises:
        Unreadable: it is an object without a text.
    """
    if not isinstance(item, dict) or is_messages([item]):
        return item
    key = text_key(item)
    if key is None:
        raise Unreadable("missing-field", f"an answer in `{column}` is an object without a text")
    return item[key]


def conversations_of(
    prompt: Any, answers: tuple[Any, Any], *, certain: bool = True
) -> tuple[list[Message], list[Message], list[Message]] | None:
    """A prompt and two conversations that are given as lists of texts, one a turn (Chatbot Arena's 55k).

    The user's turns are common to both; from the second one on they belong to the conversations.

    Args:
        prompt: the user's turns, or a text that holds their list.
        answers: the answers to them, of both sides.
        certain: whether texts that look like such lists are some; otherwise texts that are no lists of one length stay.

    Returns:
        None if these are no such lists.

    Raises:
        Unreadable: they are lists, but of other lengths, or with a turn that is no text.
    """
    values = (prompt, *answers)
    if not all(isinstance(value, list) or may_be_turns(value) for value in values):
        return None
    turns, first, second = (list_of(value) for value in values)
    if not certain and not _have_one_length(turns, first, second):
        return None
    if turns is None or first is None or second is None:
        raise Unreadable("bad-json", "prompt and answers look like lists of turns as JSON text, but cannot be parsed")
    if any(map(is_messages, (turns, first, second))):
        return None
    if not len(turns) == len(first) == len(second) or not turns:
        lengths = f"{len(turns)}, {len(first)} and {len(second)}"
        raise Unreadable("missing-field", f"prompt and answers are lists of {lengths} turns")
    for text in (*turns, *first, *second):
        if not isinstance(text, str):
            check = "empty-answer" if text is None else "missing-field"
            raise Unreadable(check, f"a turn is {json_type_name(text)}, not text")
        if _SURROGATE.search(text):
            raise Unreadable("bad-json", "a turn holds half of a surrogate pair, which is no character")
    later = [{"role": "user", "content": text} for text in turns[1:]]
    conversations = [_answered(answers, later) for answers in (first, second)]
    return [{"role": "user", "content": turns[0]}], conversations[0], conversations[1]


def _answered(answers: list[str], later: list[Message]) -> list[Message]:
    messages: list[Message] = []
    for number, text in enumerate(answers):
        messages += later[number - 1 : number] if number else []
        messages.append({"role": "assistant", "content": text})
    return messages


def _have_one_length(*lists: list[Any] | None) -> bool:
    known = [found for found in lists if found]
    same = len(known) == len(lists) and len(set(map(len, known))) == 1
    return same and all(isinstance(text, str) for found in known for text in found)


def may_be_turns(value: Any) -> bool:
    """Whether a value may be the text of a list of turns: the cheap test before it is parsed."""
    return isinstance(value, str) and value.lstrip().startswith(_TURN_LIST_STARTS) and value.rstrip().endswith("]")
