"""Renderings that show what a chat template does with a conversation: probes in place of its texts, names and calls."""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.data.tokens.chat_template import ChatTemplate, render_or_none

MOST_SAMPLED = 48
"""Conversations that the checks render; a few hundred renderings take about a tenth of a second."""
_MOST_COMPARED = 2000
"""Rows that are looked at for kinds of conversations, spread over the data."""
_OF_A_KIND = 4
# Letters and digits only: nothing in it is trimmed, escaped, split or taken for a tag.
PROBE = "qz7probe"


@dataclass(frozen=True, slots=True)
class TrainedText:
    """One conversation that is trained on: a prompt, and an answer to it or two."""

    prompt: list[Message]
    answers: tuple[list[Message], ...]
    tools: list[dict[str, Any]] | None

    @property
    def messages(self) -> Iterator[Message]:
        """All messages."""
        yield from self.prompt
        for answer in self.answers:
            yield from answer


def trained_text(row: Pair | Demonstration | LabelledAnswer) -> TrainedText | None:
    """Return what the template gets of a row; None for text that is trained on without one."""
    if isinstance(row, Pair):
        return TrainedText(row.prompt, (row.chosen, row.rejected), row.tools)
    if isinstance(row, LabelledAnswer):
        return TrainedText(row.prompt, (row.completion,), row.tools)
    return None if row.text is not None else TrainedText(row.messages[:-1], (row.messages[-1:],), row.tools)


def sample_of(rows: Sequence[Pair | Demonstration | LabelledAnswer]) -> list[TrainedText]:
    """Choose conversations to render: some of every kind of roles, calls and tools, the others spread over the data."""
    spread = rows[:: max(1, len(rows) // _MOST_COMPARED)]
    found = [text for row in spread if (text := trained_text(row)) is not None]
    kinds: dict[Hashable, int] = {}
    chosen: dict[int, TrainedText] = {}
    for number, text in enumerate(found):
        kind = _kind(text)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= _OF_A_KIND and len(chosen) < MOST_SAMPLED:
            chosen[number] = text
    step = max(1, len(found) // MOST_SAMPLED)
    for number in range(0, len(found), step):
        if len(chosen) >= MOST_SAMPLED:
            break
        chosen.setdefault(number, found[number])
    return [chosen[number] for number in sorted(chosen)]


def _kind(text: TrainedText) -> Hashable:
    seen = {(str(message.get("role")), bool(message.get("tool_calls")), len(message) > 2) for message in text.messages}  # noqa: PLR2004
    thinks = any("</think>" in str(message.get("content")) for answer in text.answers for message in answer)
    return frozenset(seen), bool(text.tools), thinks


def closing(template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]] | None) -> str | None:
    """Return what the template writes after the last message's text; None where that cannot be seen."""
    last = messages[-1]
    probed = _with_named_calls(last) if last.get("tool_calls") else {**last, "content": PROBE}
    rendered = render_or_none(template, [*messages[:-1], probed], tools)
    if rendered is None or PROBE not in rendered:
        return None
    return rendered.rpartition(PROBE)[2]


def writes_content(template: ChatTemplate, messages: list[Message], index: int, tools: Any) -> bool | None:
    """Whether a template writes the text of a message; None where that cannot be seen."""
    message = messages[index]
    if not isinstance(message.get("content"), str) or not message["content"].strip():
        return None
    probed = [*messages[:index], {**message, "content": PROBE}, *messages[index + 1 :]]
    rendered = render_or_none(template, probed, tools)
    return None if rendered is None else PROBE in rendered


def writes_calls(template: ChatTemplate, messages: list[Message], index: int, tools: Any) -> bool | None:
    """Whether a template writes the calls of a message; None where that cannot be seen."""
    probed = [*messages[:index], _with_named_calls(messages[index]), *messages[index + 1 :]]
    rendered = render_or_none(template, probed, tools)
    return None if rendered is None else PROBE in rendered


def writes_tools(template: ChatTemplate, messages: list[Message], tools: list[dict[str, Any]]) -> bool | None:
    """Whether a template writes the schemas of tools; None where that cannot be seen."""
    probed = [_renamed(tool) for tool in tools]
    rendered = render_or_none(template, messages, probed, add_generation_prompt=True)
    return None if rendered is None else PROBE in rendered


def without_spaces(text: str) -> str:
    """Return a text without white space, which templates trim and add."""
    return re.sub(r"\s+", "", text)


def _with_named_calls(message: Message) -> Message:
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_renamed(call) for call in calls]} if isinstance(calls, list) else message


def _renamed(item: Any) -> Any:
    """A tool or a call with the probe as the name of its function."""
    if not isinstance(item, dict):
        return item
    if isinstance(item.get("function"), dict):
        return {**item, "function": {**item["function"], "name": PROBE}}
    return {**item, "name": PROBE}
