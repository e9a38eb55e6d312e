"""Separate the prompt from the answers, whatever their values are: text, messages, transcripts, whole conversations."""

from typing import Any

from dpo_tui.data.pairs.pair import Message, Turns, Unreadable
from dpo_tui.data.rows.messages import exchanges_of, is_messages, json_type_name, messages_of
from dpo_tui.data.rows.text_lists import text_key
from dpo_tui.data.rows.transcript import is_transcript, parse_prompt, split_transcripts

_COMPARED = ("role", "content", "tool_calls")
# The roles that begin a conversation.
_OPENING_ROLES = frozenset({"user", "system", "developer"})


def separated(
    prompt: str | list[Message] | None, chosen: str | list[Message] | None, rejected: str | list[Message] | None
) -> Turns:
    """Separate the prompt from answers that repeat it, and make both answers the same kind of value."""
    if chosen is None or rejected is None:
        lacking = "`chosen`" if chosen is None else "`rejected`"
        raise Unreadable("missing-field", f"{lacking} is missing or null")
    if isinstance(chosen, list) != isinstance(rejected, list):  # one is text, the other messages: both become messages
        chosen = [{"role": "assistant", "content": chosen}] if isinstance(chosen, str) else chosen
        rejected = [{"role": "assistant", "content": rejected}] if isinstance(rejected, str) else rejected
    if prompt is None or prompt == []:
        return _with_implicit_prompt(chosen, rejected)
    if isinstance(prompt, str) and is_transcript(prompt):
        prompt = parse_prompt(prompt)
    if isinstance(chosen, str) or isinstance(rejected, str):
        if isinstance(prompt, list) and isinstance(chosen, str):
            prompt = _without_ending(prompt, [{"role": "assistant", "content": chosen}])
        return Turns(prompt, chosen, rejected)
    return _with_message_answers(prompt, chosen, rejected)


def _with_implicit_prompt(chosen: str | list[Message], rejected: str | list[Message]) -> Turns:
    """Take the messages that both answers begin with as the prompt: TRL's "implicit prompt"."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not is_transcript(chosen):
            raise Unreadable("missing-field", "there is no prompt column, and the answers are no transcripts")
        return Turns(*split_transcripts(chosen, rejected))
    assert isinstance(chosen, list)  # noqa: S101 (the caller made both the same kind)
    assert isinstance(rejected, list)  # noqa: S101 (likewise)
    shared = _repeated_length(chosen, rejected)
    # Each answer keeps at least one message, also when one conversation is the beginning of the other.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    if shared <= 0:
        raise Unreadable("missing-field", "there is no prompt: chosen and rejected do not begin with the same message")
    return Turns(chosen[:shared], chosen[shared:], rejected[shared:])


def _with_message_answers(prompt: str | list[Message], chosen: list[Message], rejected: list[Message]) -> Turns:
    """Leave out the prompt from answers that repeat it, as UltraFeedback's do; others begin with the assistant.

    What is called the prompt may itself go on to an answer, as the ``messages`` column of UltraFeedback does. The
    prompt is then the part of it with which both answers begin.
    """
    if isinstance(prompt, str):
        repeats = chosen and rejected and chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant"
        return _with_implicit_prompt(chosen, rejected) if repeats else Turns(prompt, chosen, rejected)
    shared = min(_repeated_length(prompt, chosen), _repeated_length(prompt, rejected))
    # Each answer keeps at least one message.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    start = max(shared, 0)
    # Where a turn of the user comes next, the prompt differs from the conversations before their answers begin.
    if all(answer[start:] and answer[start]["role"] in _OPENING_ROLES for answer in (chosen, rejected)):
        return _with_implicit_prompt(chosen, rejected)
    if shared > 0:
        return Turns(prompt[:shared], chosen[shared:], rejected[shared:])
    return Turns(_without_ending(prompt, chosen), chosen, rejected)


def _without_ending(prompt: list[Message], answer: list[Message]) -> list[Message]:
    """The prompt without an answer that it ends with: the model would read what it has to learn."""
    start = len(prompt) - len(answer)
    return (
        prompt[:start] if answer and start > 0 and _repeated_length(prompt[start:], answer) == len(answer) else prompt
    )


def _repeated_length(left: list[Message], right: list[Message]) -> int:
    """How many messages two conversations have in common at their beginning.

    Role, content and tool calls are compared, whatever other keys the messages have.
    """
    count = 0
    for one, other in zip(left, right, strict=False):
        if any(one.get(key) != other.get(key) for key in _COMPARED):
            break
        count += 1
    return count


def text_or_messages(value: Any, column: str) -> str | list[Message] | None:
    """Normalise the value of one column: text stays text, messages get ``role`` and ``content``."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            return messages_of(value["messages"], column)
        if "role" in value or "from" in value:
            return messages_of([value], column)
        key = text_key(value)
        if key is not None and not isinstance(value[key], dict):
            return text_or_messages(value[key], column)
    if isinstance(value, list):
        if not value:
            return None if column == "prompt" else []
        if is_messages(value):
            return messages_of(value, column)
        if (exchanges := exchanges_of(value)) is not None:
            return exchanges
        if len(value) == 1 and isinstance(value[0], str):
            return str(value[0])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # "2+2?" answered with 4: a CSV or JSON writer took the quotes off
    raise Unreadable("missing-field", f"`{column}` is {json_type_name(value)}, not text or messages")


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Function schemas for the chat template; some datasets keep them as JSON text."""
    if isinstance(value, str) and value.strip():
        import orjson

        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise Unreadable("bad-json", "`tools` is text that is not JSON") from None
    if not value:
        return None
    if isinstance(value, list) and all(isinstance(tool, dict) for tool in value):
        return value
    raise Unreadable("missing-field", "`tools` is not a list of function schemas")
