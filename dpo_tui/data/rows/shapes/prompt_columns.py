"""The columns that every shape has in common: prompt, system message, tools, and the prefix of the answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import column_names
from dpo_tui.data.rows.column_shapes import ColumnMapping, Record
from dpo_tui.data.rows.messages import json_type_name, parse_cell
from dpo_tui.data.rows.text_lists import list_of

# The columns that datasets use, the more specific names first.
PROMPT_COLUMNS = (
    "prompt",
    "question",
    "instruction",
    "query",
    "input",
    "context",
    "conversations",
    "conversation",
    "messages",
    "trajectory",
    "problem",
    "user_prompt",
    "user_message",
)
_SYSTEM_COLUMNS = ("system", "system_prompt", "system_message", "system_instruction")
# The keys under which a question that is an object has its text: WebGPT's comparisons have `full_text`.
_TEXT_KEYS = ("full_text", "text", "content", "question", "prompt", "instruction")
_PAIR = 2


class PromptParts(NamedTuple):
    """The values of the common columns of one record."""

    prompt: Any
    system: Any
    tools: Any
    prefix: str | None


@dataclass(frozen=True, slots=True)
class PromptColumns:
    """The names of the common columns; None where there is no such column.

    Args:
        prompt: the prompt.
        system: the system message.
        tools: the function schemas.
        subject: Alpaca's `input`: the text that the task in `instruction` is about. The prompt is both.
        history: earlier turns as pairs of question and answer (ms-swift, LLaMA-Factory).
        prefix: the beginning that both answers share.
    """

    prompt: str | None
    system: str | None = None
    tools: str | None = None
    subject: str | None = None
    history: str | None = None
    prefix: str | None = None

    @classmethod
    def of(
        cls, record: Record, mapping: ColumnMapping, *, more: Iterable[str] = (), taken: Iterable[str] = ()
    ) -> "PromptColumns":
        """Find the columns.

        Args:
            record: one of the records.
            mapping: the names that the user set.
            more: further names that the prompt may have in this shape.
            taken: columns that hold answers, and so no prompt.
        """
        names = column_names({name: None for name in record if name not in set(taken)})
        prompt = names.find((*PROMPT_COLUMNS, *more), mapping.prompt)
        history = names.find(("history",))
        if history is not None and record[history] is not None and list_of(record[history]) is None:
            history = None  # a text is no list of turns
        return cls(
            prompt=prompt,
            system=names.find(_SYSTEM_COLUMNS, mapping.system),
            tools=names.find(("tools",)),
            subject=names.find(("input",)) if prompt and prompt == names.find(("instruction",)) else None,
            history=history if history != prompt else None,
            prefix=mapping.prefix,
        )

    def _with_other_texts(self, prompt: str, row: Record) -> Any:
        if prompt.startswith("{") and '"full_text"' in prompt and isinstance(question := parse_cell(prompt), dict):
            return _text_in(question)
        if self.subject and isinstance(subject := row.get(self.subject), str) and subject:
            prompt = f"{prompt}\n\n{subject}"
        return _with_history(prompt, row.get(self.history), self.history) if self.history else prompt

    @property
    def named(self) -> dict[str, str]:
        """The column of each part, to be shown to the user."""
        parts = {"prompt": self.prompt, "system": self.system, "tools": self.tools, "subject": self.subject}
        parts |= {"history": self.history, "prefix": self.prefix}
        return {part: name for part, name in parts.items() if name is not None}

    @property
    def is_prompt_alone(self) -> bool:
        """Whether there is a prompt and no other of these columns."""
        return list(self.named) == ["prompt"]

    def read(self, row: Record) -> PromptParts:
        """The values of one record.

        Raises:
            Unreadable: the record has no column of the prefix, or its value is not text.
        """
        prompt = row.get(self.prompt) if self.prompt else None
        tools = row.get(self.tools) if self.tools else None
        if isinstance(prompt, str):
            prompt = self._with_other_texts(prompt, row)
        elif isinstance(prompt, dict) and isinstance(prompt.get("messages"), list):
            # OpenAI's preference files keep the messages and the tools together under `input`.
            tools = prompt.get("tools") or tools
            prompt = prompt["messages"]
        elif isinstance(prompt, dict) and "role" not in prompt and "from" not in prompt:
            prompt = _text_in(prompt)
        system = row.get(self.system) if self.system else None
        return PromptParts(prompt, system, tools, _prefix_of(row, self.prefix) if self.prefix else None)


def _text_in(question: dict[str, Any]) -> Any:
    return next((question[key] for key in _TEXT_KEYS if isinstance(question.get(key), str)), question)


def _prefix_of(row: Record, name: str) -> str | None:
    if name not in row:
        raise Unreadable("missing-field", f"there is no column `{name}`, which prefix_field names")
    value = row[name]
    if value is not None and not isinstance(value, str):
        raise Unreadable("missing-field", f"`{name}` is {json_type_name(value)}, not text")
    return value or None


def _with_history(prompt: str, history: Any, name: str) -> Any:
    """The prompt after its earlier turns, as messages; the prompt itself where there are none.

    Raises:
        Unreadable: the history is a list of something else than pairs of texts.
    """
    turns = list_of(history)
    if not turns:
        return prompt
    messages = []
    for turn in turns:
        if isinstance(turn, dict) and "role" in turn:
            messages.append(turn)
        elif isinstance(turn, list) and len(turn) == _PAIR and all(isinstance(text, str) for text in turn):
            messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
        else:
            raise Unreadable("missing-field", f"`{name}` holds a turn that is no pair of question and answer")
    return [*messages, {"role": "user", "content": prompt}]
