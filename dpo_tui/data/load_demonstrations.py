"""Read demonstrations for supervised fine-tuning (SFT)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dpo_tui.data.load_pairs import tie_notes, usable_turns
from dpo_tui.data.load_rows import load_rows
from dpo_tui.data.pairs.pair import Message, RowProblem, Unreadable, pair_of
from dpo_tui.data.rows.column_use import reading_notes, unused_notes
from dpo_tui.data.rows.label_values import undesirable_by
from dpo_tui.data.rows.messages import decoded_messages, json_type_name, messages_of
from dpo_tui.data.rows.prompt_and_answers import tools_of
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import Progress, Source
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.stored.reading_cache import Reading, read_or_recall


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One conversation, or one text, to train on with the language modelling loss.

    Args:
        row: number of the source row, from 1.
        messages: the conversation; empty for plain text.
        text: plain text that is trained on without a chat template; None for a conversation.
        tools: function schemas that the chat template gets, if the source has any.
    """

    row: int
    messages: list[Message]
    text: str | None = None
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class LoadedDemonstrations:
    """The usable demonstrations of a dataset; the other fields are those of ``LoadedPairs``."""

    rows: Sequence[Demonstration]
    format: str
    total: int
    dropped: list[RowProblem]
    sha256: str
    notes: list[str] = field(default_factory=list)
    sources: list[SourceRows] = field(default_factory=list)
    places: RowPlaces = field(default_factory=lambda: RowPlaces([], []))


def load_demonstrations(source: Source, progress: Progress | None = None) -> LoadedDemonstrations:
    """Read a dataset of demonstrations: conversations, prompt and completion, plain text, or preference pairs.

    Of preference pairs the prompt and the chosen answer are used.

    Args:
        source: where it is.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: it cannot be read, or no row of it can be used; the message shows what was found.
    """
    return read_or_recall(source, progress, LoadedDemonstrations, Demonstration, partial(_read, source))


def _read(source: Source, reading: Reading[Demonstration]) -> LoadedDemonstrations:
    recogniser = Recogniser(source.mapping)
    formats: Counter[str] = Counter()

    def demonstrations_of(number: int, row: Row) -> list[Demonstration]:
        name, demonstration = _demonstration(number, row, recogniser)
        if isinstance(row, dict) and name != "preference pairs" and (label := undesirable_by(row)) is not None:
            recogniser.notes[
                f"`{label}` calls the answer undesirable, and it is trained on like the others; "
                'strategy = "kto" tells them apart'
            ] += 1
        formats[name] += 1
        return [demonstration]

    loaded = load_rows(source, reading, recogniser, demonstrations_of)
    names = ", ".join(name for name, _ in formats.most_common())
    return LoadedDemonstrations(
        rows=loaded.items,
        format=names,
        total=loaded.total,
        dropped=loaded.dropped,
        sha256=loaded.sha256,
        notes=[
            *loaded.notes,
            *tie_notes(loaded.dropped, loaded.total),
            *reading_notes(recogniser.notes),
            *unused_notes(recogniser.columns.unused, demonstrations=True),
        ],
        sources=loaded.sources,
        places=loaded.places,
    )


def _demonstration(number: int, row: Any, recogniser: Recogniser) -> tuple[str, Demonstration]:
    """The name of a row's format, and the demonstration in it; the recogniser takes note of the columns."""
    if isinstance(row, Unreadable):
        raise row.fresh()
    if not isinstance(row, dict):
        raise Unreadable("missing-field", f"the row is {json_type_name(row)}, not an object with columns")
    if "chosen" in row or (recogniser.mapping.chosen or "") in row:
        pair = pair_of(number, usable_turns(row, recogniser)[0])
        return "preference pairs", Demonstration(number, [*pair.prompt, *pair.chosen], None, pair.tools)
    tools = tools_of(row.get("tools"))
    for name in ("messages", "conversations", "conversation"):
        value = decoded_messages(row.get(name))
        if isinstance(value, list):
            messages = messages_of(value, name)
            if not any(_is_answer(message) for message in messages):
                raise Unreadable("empty-answer", f"`{name}` has no answer of the assistant")
            recogniser.columns.add(row, frozenset({name, "tools"}))
            return name, Demonstration(number, messages, None, tools)
    prompt_column = next((name for name in ("prompt", "instruction", "question") if name in row), None)
    answer_column = next((name for name in ("completion", "response", "output", "answer") if name in row), None)
    if prompt_column and answer_column:
        prompt = _messages(row[prompt_column], "user", prompt_column)
        if prompt_column == "instruction" and isinstance(row.get("input"), str) and row["input"]:
            prompt[-1] = {**prompt[-1], "content": f"{prompt[-1]['content'] or ''}\n\n{row['input']}"}
        completion = _messages(row[answer_column], "assistant", answer_column)
        if not completion or not (completion[-1].get("tool_calls") or (completion[-1]["content"] or "").strip()):
            raise Unreadable("empty-answer", f"`{answer_column}` is empty")
        read = {prompt_column, answer_column, "tools"} | ({"input"} if prompt_column == "instruction" else set())
        recogniser.columns.add(row, frozenset(read))
        return f"{prompt_column} and {answer_column}", Demonstration(number, [*prompt, *completion], None, tools)
    if isinstance(row.get("text"), str):
        if not row["text"].strip():
            raise Unreadable("empty-answer", "`text` is empty")
        recogniser.columns.add(row, frozenset({"text"}))
        return "text", Demonstration(number, [], row["text"])
    found = ", ".join(list(row)[:8])
    raise Unreadable("missing-field", f"there are no messages, prompt and completion, or text (columns: {found})")


def _is_answer(message: Message) -> bool:
    return message["role"] == "assistant" and bool(message["content"] or message.get("tool_calls"))


def _messages(value: Any, role: str, column: str) -> list[Message]:
    """The messages in a column; a text is one message of the given role."""
    value = decoded_messages(value)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        return messages_of(value, column)
    raise Unreadable("missing-field", f"`{column}` is {json_type_name(value)}, not text or messages")
