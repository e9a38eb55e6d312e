"""The registry of shapes: which columns of a dataset hold the prompt and the two answers.

A shape is one small function, registered by :func:`shape`. It looks at the names of the columns and at one record, and
returns either None or a :class:`Binding` that reads such records. The first shape that does not return None is used, so
they are defined in the order in which they are tried. What the values are (text, messages, transcripts) is decided by
:mod:`dpo_tui.data.rows.record_to_pairs`, so every shape works with every kind of value.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Unreadable

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
)
CHOSEN_COLUMNS = (
    "chosen",
    "chosen_response",
    "response_chosen",
    "preferred_output",
    "preferred",
    "accepted",
    "response_j",
)
REJECTED_COLUMNS = (
    "rejected",
    "rejected_response",
    "response_rejected",
    "non_preferred_output",
    "dispreferred",
    "response_k",
)
# Columns of the answers' scores, the chosen one's first.
_SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)


class RawPair(NamedTuple):
    """The values of one pair as the record holds them: text, messages, or anything else."""

    prompt: Any
    chosen: Any
    rejected: Any
    system: Any = None
    tools: Any = None
    margin: float | None = None


class ColumnMapping(NamedTuple):
    """Column names that the user set; None leaves the choice to the shapes."""

    prompt: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    system: str | None = None


Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """How to read the pairs of records that have certain columns.

    Args:
        shape: the name of the shape that made it.
        columns: the column that holds each part of a pair, to be shown to the user.
        read: returns the raw pairs of a record, or raises Unreadable.
        only_columns: the columns of prompt, chosen and rejected; None when any other column matters as well.
    """

    shape: str
    columns: dict[str, str]
    read: Callable[[Record], Iterable[RawPair]] = field(repr=False)
    only_columns: tuple[str, str, str] | None = None


Shape = Callable[[Record, ColumnMapping], Binding | None]
SHAPES: dict[str, Shape] = {}


def shape(name: str) -> Callable[[Shape], Shape]:
    """Register a shape under a name; shapes are tried in the order of registration."""

    def register(function: Shape) -> Shape:
        SHAPES[name] = function
        return function

    return register


def bind(record: Record, mapping: ColumnMapping) -> Binding:
    """Find the shape that fits a record.

    Raises:
        Unreadable: none does; the message names the columns that are there and those that are missing.
    """
    for bind_shape in SHAPES.values():
        binding = bind_shape(record, mapping)
        if binding is not None:
            return binding
    raise Unreadable("missing-field", _missing(record))


@shape("columns")
def _columns(record: Record, mapping: ColumnMapping) -> Binding | None:
    """A column for each answer, and usually one for the prompt: most preference sets."""
    chosen = _column(record, mapping.chosen, CHOSEN_COLUMNS)
    rejected = _column(record, mapping.rejected, REJECTED_COLUMNS)
    if chosen is None or rejected is None:
        return None
    prompt = _column(record, mapping.prompt, PROMPT_COLUMNS)
    system = _column(record, mapping.system, ("system", "system_prompt"))
    columns = {"chosen": chosen, "rejected": rejected}
    if prompt is not None:
        columns = {"prompt": prompt, **columns}
    if system is not None:
        columns["system"] = system
    tools = "tools" if "tools" in record else None
    if tools:
        columns["tools"] = tools
    # Alpaca's form has the task in `instruction` and the text that it is about in `input`: the prompt is both.
    subject = "input" if prompt == "instruction" and isinstance(record.get("input"), str) else None
    if subject:
        columns["subject"] = subject
    scores = next((names for names in _SCORE_COLUMNS if names[0] in record and names[1] in record), None)
    # OpenAI's preference files keep the messages and the tools together under `input`.
    nested = prompt == "input" and isinstance(record["input"], dict)

    def read(row: Record) -> tuple[RawPair]:
        prompt_value = row.get(prompt) if prompt else None
        tools_value = row.get(tools) if tools else None
        if nested and isinstance(prompt_value, dict):
            tools_value = prompt_value.get("tools") or tools_value
            prompt_value = prompt_value.get("messages")
        if subject and row.get(subject):
            prompt_value = f"{prompt_value}\n\n{row[subject]}"
        system_value = row.get(system) if system else None
        margin = _margin(row, scores)
        return (RawPair(prompt_value, row.get(chosen), row.get(rejected), system_value, tools_value, margin),)

    simple = prompt is not None and not (system or tools or subject or nested or scores)
    return Binding("columns", columns, read, (prompt, chosen, rejected) if simple and prompt else None)


@shape("output-list")
def _output_list(record: Record, mapping: ColumnMapping) -> Binding | None:
    """LLaMA-Factory's older form: `output` (or `responses`) is a list of the better and the worse answer."""
    prompt = _column(record, mapping.prompt, PROMPT_COLUMNS)
    for name in ("output", "answer", "responses"):
        value = record.get(name)
        if prompt and isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):  # noqa: PLR2004
            subject = "input" if prompt == "instruction" else None

            def read(
                row: Record, name: str = name, prompt: str = prompt, subject: str | None = subject
            ) -> Iterable[RawPair]:
                answers = row.get(name)
                if not isinstance(answers, list) or len(answers) != 2:  # noqa: PLR2004 (a pair has two)
                    raise Unreadable("missing-field", f"`{name}` does not hold two answers")
                prompt_value = row.get(prompt or "")
                if subject and row.get(subject):
                    prompt_value = f"{prompt_value}\n\n{row[subject]}"
                return (RawPair(prompt_value, answers[0], answers[1], row.get("system")),)

            return Binding("output-list", {"prompt": prompt, "chosen": f"{name}[0]", "rejected": f"{name}[1]"}, read)
    return None


@shape("choice")
def _choice(record: Record, mapping: ColumnMapping) -> Binding | None:
    """Two numbered answers and a column that says which is better (PKU-SafeRLHF, SHP, Chatbot Arena)."""
    prompt = _column(record, mapping.prompt, (*PROMPT_COLUMNS, "history"))
    forms = (
        ("response_0", "response_1", "better_response_id", {0: 0, 1: 1}),
        ("human_ref_A", "human_ref_B", "labels", {1: 0, 0: 1}),
        ("response_a", "response_b", "winner", {"a": 0, "model_a": 0, "b": 1, "model_b": 1}),
        ("conversation_a", "conversation_b", "winner", {"a": 0, "model_a": 0, "b": 1, "model_b": 1}),
    )
    for first, second, label, meaning in forms:
        if first in record and second in record and label in record:
            columns = {"chosen": first, "rejected": second, "label": label}
            if prompt:
                columns = {"prompt": prompt, **columns}

            def read(
                row: Record,
                first: str = first,
                second: str = second,
                label: str = label,
                meaning: dict[Any, int] = meaning,
            ) -> Iterable[RawPair]:
                value = row.get(label)
                better = meaning.get(value) if isinstance(value, (int, str)) else None
                if better is None:
                    raise Unreadable("no-clear-winner", f"`{label}` names neither answer as the better one")
                answers = (row.get(first), row.get(second))
                return (RawPair(row.get(prompt) if prompt else None, answers[better], answers[1 - better]),)

            return Binding("choice", columns, read)
    return None


@shape("ranking")
def _ranking(record: Record, mapping: ColumnMapping) -> Binding | None:
    """Several answers with a rank or a score (Nectar, UltraFeedback before it was binarized)."""
    prompt = _column(record, mapping.prompt, PROMPT_COLUMNS)
    for name in ("answers", "completions", "responses"):
        value = record.get(name)
        if not (prompt and isinstance(value, list) and value and all(isinstance(one, dict) for one in value)):
            continue
        first: Record = value[0]
        text = _column(first, None, ("answer", "response", "text", "content", "completion"))
        order = _column(first, None, ("rank", "overall_score", "fine-grained_score", "score", "rating"))
        if text is None or order is None:
            continue

        def read(row: Record, name: str = name, text: str = text, order: str = order) -> Iterable[RawPair]:
            return _ranked_pairs(row.get(prompt or ""), row.get(name), text, order)

        columns = {"prompt": prompt, "chosen": f"{name}[].{text}", "rejected": f"{name}[].{text}"}
        return Binding("ranking", {**columns, "order": f"{name}[].{order}"}, read)
    return None


@shape("unpaired")
def _unpaired(record: Record, mapping: ColumnMapping) -> Binding | None:
    """KTO data: one answer with a thumb up or down. DPO compares two answers, so no row can be used."""
    answer = _column(record, None, ("completion", "response", "answer", "messages", "conversations"))
    label = next((name for name in ("label", "kto_tag", "thumbs_up") if isinstance(record.get(name), bool)), None)
    if answer is None or label is None:
        return None

    def read(_row: Record) -> Iterable[RawPair]:
        raise Unreadable(
            "missing-field",
            f"one answer with a verdict (`{answer}`, `{label}`) is KTO data; DPO needs two answers to one prompt",
        )

    return Binding("unpaired", {"completion": answer, "label": label}, read)


def _ranked_pairs(prompt: Any, answers: Any, text: str, order: str) -> list[RawPair]:
    """Every pair of answers whose ranks differ, best first: all k(k-1)/2 of them, as InstructGPT (2022, §3.5) does."""
    if not isinstance(answers, list):
        raise Unreadable("missing-field", "there is no list of answers")
    ranked = []
    for answer in answers:
        value = answer.get(order) if isinstance(answer, dict) else None
        try:
            ranked.append((float(value), answer.get(text)))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise Unreadable("missing-field", f"an answer has no number under `{order}`") from None
    ranked.sort(key=lambda item: item[0], reverse=order != "rank")  # rank 1 is the best, a score of 10 is
    pairs = [RawPair(prompt, better[1], worse[1]) for better, worse in combinations(ranked, 2) if better[0] != worse[0]]
    if not pairs:
        raise Unreadable("no-clear-winner", "all answers have the same rank")
    return pairs


def _margin(row: Record, names: tuple[str, str] | None) -> float | None:
    """The chosen answer's score minus the rejected one's."""
    if names is None:
        return None
    better, worse = row.get(names[0]), row.get(names[1])
    return better - worse if isinstance(better, (int, float)) and isinstance(worse, (int, float)) else None


def _column(record: Record, set_by_user: str | None, names: Sequence[str]) -> str | None:
    """The column that the user set, or else the first of the usual names, if the record has it."""
    if set_by_user is not None:
        return set_by_user if set_by_user in record else None
    return next((name for name in names if name in record), None)


def _missing(record: Record) -> str:
    """Which answer columns a record lacks, and which columns it has."""
    if not record:
        return "the row has no columns"
    has_chosen = next((name for name in CHOSEN_COLUMNS if name in record), None)
    has_rejected = next((name for name in REJECTED_COLUMNS if name in record), None)
    found = ", ".join(list(record)[:8]) + (", …" if len(record) > 8 else "")  # noqa: PLR2004 (what fits a line)
    if has_chosen and not has_rejected:
        return f"`rejected` is missing (columns: {found})"
    if has_rejected and not has_chosen:
        return f"`chosen` is missing (columns: {found})"
    return f"`chosen` and `rejected` are missing (columns: {found})"
