"""From the raw values of a pair to its turns, whatever kind each value is: text, messages, or a whole transcript."""

from typing import Any

from dpo_tui.data.pairs.pair import Message, Turns, Unreadable
from dpo_tui.data.rows.messages import describe, is_messages, messages_of
from dpo_tui.data.rows.shapes import Raw
from dpo_tui.data.rows.transcript import is_transcript, parse_prompt, split_transcripts


def compose(raw: Raw) -> Turns:
    """Build the turns of one pair.

    Raises:
        Unreadable: a part is missing or is of a kind that cannot be one.
    """
    prompt, chosen, rejected = raw.prompt, raw.chosen, raw.rejected
    if type(prompt) is str and type(chosen) is str and type(rejected) is str and not raw.system and not raw.tools:
        if not is_transcript(prompt):
            return Turns(prompt, chosen, rejected, None, None, raw.margin)
        return Turns(parse_prompt(prompt), chosen.strip(), rejected.strip(), None, None, raw.margin)
    system = raw.system if isinstance(raw.system, str) and raw.system.strip() else None
    turns = _turns(_value(prompt, "prompt"), _value(chosen, "chosen"), _value(rejected, "rejected"))
    if system and not isinstance(turns.prompt, str) and turns.prompt and turns.prompt[0]["role"] == "system":
        system = None
    return Turns(*turns[:3], system, _tools(raw.tools), raw.margin)


def kind_of(raw: Raw) -> str:
    """Name the format of a pair's values, as the report prints it."""
    prompt, chosen = raw.prompt, raw.chosen
    if prompt is None or prompt == []:
        if isinstance(chosen, str):
            return "transcripts with an implicit prompt"
        return "conversational, implicit prompt"
    if isinstance(prompt, list):
        style = "conversational"
        if prompt and isinstance(prompt[0], dict) and "from" in prompt[0]:
            style = "ShareGPT ranking"
        return style
    if isinstance(chosen, str):
        return "transcript prompt" if isinstance(prompt, str) and is_transcript(prompt) else "standard"
    return "text prompt, message answers"


def _turns(
    prompt: str | list[Message] | None, chosen: str | list[Message] | None, rejected: str | list[Message] | None
) -> Turns:
    if chosen is None or rejected is None:
        lacking = "`chosen`" if chosen is None else "`rejected`"
        raise Unreadable("missing-field", f"{lacking} is missing or null")
    if isinstance(chosen, list) != isinstance(rejected, list):  # one is text, the other messages: both become messages
        chosen = [{"role": "assistant", "content": chosen}] if isinstance(chosen, str) else chosen
        rejected = [{"role": "assistant", "content": rejected}] if isinstance(rejected, str) else rejected
    if prompt is None or prompt == []:
        return _implicit(chosen, rejected)
    if isinstance(prompt, str) and is_transcript(prompt):
        prompt = parse_prompt(prompt)
    if isinstance(chosen, str) or isinstance(rejected, str):
        return Turns(prompt, chosen, rejected)
    return _with_message_answers(prompt, chosen, rejected)


def _implicit(chosen: str | list[Message], rejected: str | list[Message]) -> Turns:
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not is_transcript(chosen):
            raise Unreadable("missing-field", "there is no prompt column, and the answers are no transcripts")
        return Turns(*split_transcripts(chosen, rejected))
    assert isinstance(chosen, list)  # noqa: S101 (the caller made both the same kind)
    assert isinstance(rejected, list)  # noqa: S101
    shared = _shared(chosen, rejected)
    # An answer needs at least one message of its own: with one answer inside the other, the prompt ends before it.
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    if shared <= 0:
        raise Unreadable("missing-field", "there is no prompt: chosen and rejected do not begin with the same message")
    return Turns(chosen[:shared], chosen[shared:], rejected[shared:])


def _with_message_answers(prompt: str | list[Message], chosen: list[Message], rejected: list[Message]) -> Turns:
    """Answers that are message lists may repeat the prompt (UltraFeedback) or begin with the assistant."""
    if isinstance(prompt, str):
        repeats = chosen and rejected and chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant"
        return _implicit(chosen, rejected) if repeats else Turns(prompt, chosen, rejected)
    size = len(prompt)
    if len(chosen) > size and len(rejected) > size and _same(chosen[:size], prompt) and _same(rejected[:size], prompt):
        return Turns(prompt, chosen[size:], rejected[size:])
    return Turns(prompt, chosen, rejected)


def _shared(left: list[Message], right: list[Message]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _same(left: list[Message], right: list[Message]) -> bool:
    return all(
        one["role"] == other["role"] and one["content"] == other["content"]
        for one, other in zip(left, right, strict=True)
    )


def _value(value: Any, what: str) -> str | list[Message] | None:
    """Normalise one value: text stays text, any spelling of messages becomes messages."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            return messages_of(value["messages"], what)
        if "role" in value or "from" in value:
            return messages_of([value], what)
        if isinstance(value.get("content") or value.get("text"), str):
            return str(value.get("content") or value.get("text"))
    if isinstance(value, list):
        if not value:
            return None if what == "prompt" else []
        if is_messages(value):
            return messages_of(value, what)
        if len(value) == 1 and isinstance(value[0], str):
            return str(value[0])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # "2+2?" answered with 4: a CSV or JSON writer took the quotes off
    raise Unreadable("missing-field", f"`{what}` is {describe(value)}, not text or messages")


def _tools(value: Any) -> list[dict[str, Any]] | None:
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
