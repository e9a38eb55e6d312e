"""Read demonstrations for supervised fine-tuning, the first of two stages."""

from dataclasses import dataclass, field
from typing import Any

from dpo_tui.data.load_pairs import DroppedRows, numbered_rows, raise_if_unusable, sha256_of, usable_turns
from dpo_tui.data.pairs.pair import Message, RowProblem, Unreadable, pair_of
from dpo_tui.data.rows.messages import describe, messages_of
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import Progress, Source


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One conversation to imitate.

    Args:
        row: the row of the source, from 1.
        messages: the conversation; empty if the source gave plain text.
        text: plain text to continue as it is, or None.
        tools: function schemas for the chat template, if there are any.
    """

    row: int
    messages: list[Message]
    text: str | None = None
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class LoadedDemonstrations:
    """Every usable demonstration; the fields are those of LoadedPairs."""

    rows: list[Demonstration]
    format: str
    total: int
    dropped: list[RowProblem]
    sha256: str
    notes: list[str] = field(default_factory=list)


def load_demonstrations(source: Source, progress: Progress | None = None) -> LoadedDemonstrations:
    """Read a dataset of demonstrations: conversations, prompt and completion, plain text, or preference pairs.

    Of preference pairs the prompt and the chosen answer are used.

    Raises:
        DataError: it cannot be read, or no row of it can be used.
    """
    files = locate(source, progress)
    recogniser = Recogniser(source.mapping)
    kept: list[Demonstration] = []
    dropped: list[RowProblem] = []
    notes: list[str] = []
    formats: dict[str, int] = {}
    total = 0
    example: tuple[int, Any] | None = None
    for number, row in numbered_rows(files, source.max_rows, recogniser, notes):
        total += 1
        if example is None and not isinstance(row, Unreadable):
            example = (number, row)
        try:
            name, demonstration = _demonstration(number, row, recogniser)
        except Unreadable as problem:
            dropped.append(RowProblem(number, problem.check, problem.message))
            continue
        formats[name] = formats.get(name, 0) + 1
        kept.append(demonstration)
    raise_if_unusable(source.location, total, len(kept), DroppedRows.of(dropped), example)
    names = sorted(formats, key=lambda name: -formats[name])
    return LoadedDemonstrations(kept, ", ".join(names), total, dropped, sha256_of(files), notes)


def _demonstration(number: int, row: Any, recogniser: Recogniser) -> tuple[str, Demonstration]:
    if isinstance(row, Unreadable):
        raise row
    if not isinstance(row, dict):
        raise Unreadable("missing-field", f"the row is {describe(row)}, not an object with columns")
    tools = row.get("tools") if isinstance(row.get("tools"), list) else None
    if "chosen" in row or (recogniser.mapping.chosen or "") in row:
        pair = pair_of(number, usable_turns(row, recogniser)[0])
        return "preference pairs", Demonstration(number, [*pair.prompt, *pair.chosen], None, pair.tools)
    for name in ("messages", "conversations", "conversation"):
        if isinstance(row.get(name), list):
            messages = messages_of(row[name], name)
            if not any(one["role"] == "assistant" and (one["content"] or one.get("tool_calls")) for one in messages):
                raise Unreadable("empty-answer", f"`{name}` has no answer of the assistant")
            return name, Demonstration(number, messages, None, tools)
    asked = next((one for one in ("prompt", "instruction", "question") if one in row), None)
    answer = next((one for one in ("completion", "response", "output", "answer") if one in row), None)
    if asked and answer:
        prompt = _messages(row[asked], "user", asked)
        if asked == "instruction" and isinstance(row.get("input"), str) and row["input"]:
            prompt[-1] = {**prompt[-1], "content": f"{prompt[-1]['content']}\n\n{row['input']}"}
        completion = _messages(row[answer], "assistant", answer)
        if not completion or not completion[-1]["content"].strip():
            raise Unreadable("empty-answer", f"`{answer}` is empty")
        return f"{asked} and {answer}", Demonstration(number, [*prompt, *completion], None, tools)
    if isinstance(row.get("text"), str):
        if not row["text"].strip():
            raise Unreadable("empty-answer", "`text` is empty")
        return "text", Demonstration(number, [], row["text"])
    found = ", ".join(list(row)[:8])
    raise Unreadable("missing-field", f"there are no messages, prompt and completion, or text (columns: {found})")


def _messages(value: Any, role: str, name: str) -> list[Message]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        return messages_of(value, name)
    raise Unreadable("missing-field", f"`{name}` is {describe(value)}, not text or messages")
