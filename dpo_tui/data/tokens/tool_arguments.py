r"""Arguments of tool calls that are JSON text, as OpenAI writes them, for chat templates that encode arguments.

Many templates write ``tool_call.arguments | tojson``. A text comes out of that encoded a second time, as
``"{\"city\": …}"``, and the model would learn to write it so. Others take both forms, or only text.
"""

import json
from dataclasses import replace
from typing import Any

from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.data.tokens.chat_template import ChatTemplate, render_or_none
from dpo_tui.text.plain_documents import parse_json

# Arguments that no template contains, and a text that cannot be mistaken for something else once it is encoded again.
_ARGUMENTS = {"probe": "probe"}
_ENCODED_TWICE = json.dumps(json.dumps(_ARGUMENTS))[1:-1]


def with_pair_arguments_for(template: ChatTemplate, pairs: list[Pair]) -> list[Pair]:
    """Return pairs with arguments as the template takes them; see :func:`with_arguments_for`."""
    parts = [messages for pair in pairs for messages in (pair.prompt, pair.chosen, pair.rejected)]
    fitted = with_arguments_for(template, parts)
    if fitted is parts:
        return pairs
    return [
        replace(pair, prompt=prompt, chosen=chosen, rejected=rejected)
        for pair, prompt, chosen, rejected in zip(pairs, fitted[::3], fitted[1::3], fitted[2::3], strict=True)
    ]


def with_arguments_for(template: ChatTemplate, conversations: list[list[Message]]) -> list[list[Message]]:
    """Return conversations with arguments decoded where the template would encode their text again.

    A template that takes JSON text gets the text as the file has it, and a conversation without any is returned itself.
    """
    if not any(map(_has_argument_text, conversations)) or not needs_objects(template):
        return conversations
    return [_decoded(messages) for messages in conversations]


def needs_objects(template: ChatTemplate) -> bool:
    """Whether a template encodes arguments that are text already, or can render objects only."""
    as_text = _rendered_call(template, json.dumps(_ARGUMENTS))
    if as_text is None:
        return _rendered_call(template, _ARGUMENTS) is not None
    return _ENCODED_TWICE in as_text


def _rendered_call(template: ChatTemplate, arguments: Any) -> str | None:
    # Nine letters and digits: some templates take no other id.
    call = {"id": "probe0001", "type": "function", "function": {"name": "probe", "arguments": arguments}}
    chat: list[Message] = [
        {"role": "user", "content": "probe"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    return render_or_none(template, chat)


def _has_argument_text(messages: list[Message]) -> bool:
    return any(isinstance(_function_of(call).get("arguments"), str) for message in messages for call in _calls(message))


def _decoded(messages: list[Message]) -> list[Message]:
    if not _has_argument_text(messages):
        return messages
    return [
        {**message, "tool_calls": [_with_object(call) for call in calls]} if (calls := _calls(message)) else message
        for message in messages
    ]


def _with_object(call: Any) -> Any:
    """A call whose arguments are decoded if they are the text of a JSON object; other text is left as it is."""
    function = _function_of(call)
    try:
        arguments = parse_json(function.get("arguments", ""))
    except (TypeError, ValueError):
        return call
    if not isinstance(arguments, dict):
        return call
    changed = {**function, "arguments": arguments}
    return {**call, "function": changed} if function is not call else changed


def _calls(message: Message) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _function_of(call: Any) -> dict[str, Any]:
    """What holds name and arguments: ``function`` of a call, or the call itself, which templates take as well."""
    if not isinstance(call, dict):
        return {}
    function = call.get("function")
    return function if isinstance(function, dict) else call
