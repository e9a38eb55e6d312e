"""Check that a chat template writes everything that conversations hold: texts, tool calls, schemas of tools."""

from collections import Counter
from collections.abc import Hashable, Sequence

from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.tokens import template_findings as findings
from dpo_tui.data.tokens.chat_template import ChatTemplate
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.data.tokens.template_probes import (
    TrainedText,
    without_spaces,
    writes_calls,
    writes_content,
    writes_tools,
)

_OF_A_PLACE = 8
"""Messages of one role at one kind of place that are rendered with a probe: a template treats them alike."""

Rendered = tuple[TrainedText, int, Sequence[str]]
"""A conversation, the characters of its shared prompt, and its whole text with each answer."""


def content_findings(template: ChatTemplate, rendered: Sequence[Rendered]) -> list[TemplateFinding]:
    """Return what of some conversations a template leaves out."""
    return [
        *_left_out(template, rendered),
        *_changed_answers(template, rendered),
        *_alike(rendered),
        *_tools(template, [text for text, _, _ in rendered if text.tools]),
    ]


def _left_out(template: ChatTemplate, rendered: Sequence[Rendered]) -> list[TemplateFinding]:
    seen: Counter[Hashable] = Counter()
    dropped: Counter[str] = Counter()
    of: Counter[str] = Counter()
    calls = calls_dropped = empty = 0
    for text, _, _ in rendered:
        for number, answer in enumerate(text.answers):
            messages = [*text.prompt, *answer]
            # The messages of the prompt are the same with the second answer.
            for index in range(0 if number == 0 else len(text.prompt), len(messages)):
                message = messages[index]
                whose = _whose(message)
                place = (whose, index == 0, index == len(messages) - 1, messages[index - 1].get("role"))
                seen[place] += 1
                if seen[place] > _OF_A_PLACE:
                    continue
                written = writes_content(template, messages, index, text.tools)
                if written is not None:
                    of[whose] += 1
                    dropped[whose] += not written
                if message.get("tool_calls") and writes_calls(template, messages, index, text.tools) is not None:
                    calls += 1
                    if not writes_calls(template, messages, index, text.tools):
                        calls_dropped += 1
                        empty += index >= len(text.prompt) and not str(message.get("content") or "").strip()
    if of and dropped == of:
        return [findings.no_message(of.total())]
    result = [findings.content_left_out(count, of[whose], whose) for whose, count in dropped.items() if count]
    if calls_dropped:
        result.append(findings.calls_left_out(calls_dropped, calls, empty))
    return result


def _whose(message: Message) -> str:
    role = str(message.get("role"))
    return f"{role} messages with tool calls" if message.get("tool_calls") else f"{role} messages"


def _changed_answers(template: ChatTemplate, rendered: Sequence[Rendered]) -> list[TemplateFinding]:
    """Answers that a template takes a part of out, although it writes the place that they have."""
    answers = changed = empty = 0
    for text, shared, whole in rendered:
        for answer, one in zip(text.answers, whole, strict=True):
            content = answer[-1].get("content") if answer else None
            if not isinstance(content, str) or not content.strip() or answer[-1].get("tool_calls"):
                continue
            answers += 1
            trained = without_spaces(one[shared:])
            # The prompt may have the beginning of it, such as <think>.
            if without_spaces(content) in trained or without_spaces(content) in without_spaces(one):
                continue
            if not writes_content(template, [*text.prompt, *answer], len(text.prompt) + len(answer) - 1, text.tools):
                continue  # a finding of its own
            changed += 1
            empty += not trained
    result = []
    if changed > empty:
        result.append(findings.reasoning_left_out(changed - empty, answers))
    if empty:
        result.append(findings.empty_answers(empty, answers))
    return result


def _alike(rendered: Sequence[Rendered]) -> list[TemplateFinding]:
    """Pairs whose difference a template leaves out: their loss is log 2 whatever the model does."""
    pairs = [whole for _, _, whole in rendered if len(whole) > 1]
    count = sum(whole[0] == whole[1] for whole in pairs)
    return [findings.alike_answers(count, len(pairs))] if count else []


def _tools(template: ChatTemplate, texts_with_tools: Sequence[TrainedText]) -> list[TemplateFinding]:
    found = [writes_tools(template, text.prompt, text.tools) for text in texts_with_tools[:_OF_A_PLACE] if text.tools]
    known = [one for one in found if one is not None]
    ignored = known.count(False)
    return [findings.tools_left_out(ignored, len(known))] if ignored else []
