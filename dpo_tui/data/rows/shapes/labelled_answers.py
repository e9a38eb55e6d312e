"""Two answers and what says which is better: a label, a score for each, or a position in their list."""

import math
from typing import Any

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import ColumnNames, PairedColumns, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, UnclearColumnError, shape
from dpo_tui.data.rows.messages import parse_cell
from dpo_tui.data.rows.shapes.better_answer import (
    CERTAIN_LABELS,
    LIKELY_LABELS,
    PreferredAnswer,
    better_answer,
    is_tie,
    label_note,
    may_mark_ties,
)
from dpo_tui.data.rows.shapes.prompt_columns import PromptColumns
from dpo_tui.data.rows.text_lists import ANSWER_LISTS, answer_of, conversations_of, list_of

_POSITIONS = (
    "choice",
    "chosen",
    "best",
    "better",
    "preferred",
    "selected",
    "winner",
    "best_response",
    "preference",
    "label",
)
_PAIR = 2


@shape("choice")
def two_answers(record: Record, mapping: ColumnMapping) -> Binding | None:
    """A column for each answer, and a label or two scores (PKU-SafeRLHF, SHP, Chatbot Arena, HelpSteer, WebGPT)."""
    names = column_names(record)
    answers = names.answers
    if answers is None:
        return None
    label, scores = _verdict_columns(names, answers, mapping)
    if label is None and scores is None:
        return None
    taken = (answers.first, answers.second) if mapping.prompt is None else ()
    prompts = PromptColumns.of(record, mapping, more=("history",), taken=taken)
    flags = tuple(name for name in names.names if name != label and may_mark_ties(name) and "tie" in name.lower())
    is_arena = scores is not None and "winner" in terms_of(scores.first)

    def read(row: Record) -> tuple[RawPair]:
        if tie := next((name for name in flags if is_tie(name, row.get(name))), None):
            raise Unreadable("tie", f"`{tie}` calls the answers equally good")
        verdict = better_answer(row, label, answers) if label else _by_scores(row, scores)
        prompt, system, tools, prefix = prompts.read(row)
        pair = (row.get(answers.first), row.get(answers.second))
        if (turns := conversations_of(prompt, pair, certain=is_arena)) is not None:
            prompt, pair = turns[0], turns[1:]
        margin = _margin(row, scores, verdict) if verdict.margin is None else verdict.margin
        return (RawPair(prompt, pair[verdict.better], pair[1 - verdict.better], system, tools, margin, prefix),)

    verdicts = {"label": label} if label else {}
    if scores:
        verdicts["scores"] = f"{scores.first}, {scores.second}"
    score_names = (scores.first, scores.second) if scores else ()
    return Binding(
        "choice",
        {**prompts.named, "chosen": answers.first, "rejected": answers.second, **verdicts},
        read,
        used=frozenset(
            {answers.first, answers.second, *prompts.named.values(), *score_names, *flags, *filter(None, [label])}
        ),
        notes=_notes(names, answers, label),
        by_names=True,
    )


@shape("choice-list")
def answers_and_position(record: Record, mapping: ColumnMapping) -> Binding | None:
    """A list of answers and the position of the best one (OpenAI's comparisons of summaries)."""
    names = column_names(record)
    name, label = names.find(ANSWER_LISTS), names.find(_POSITIONS, mapping.label)
    answers = list_of(record.get(name)) if name else None
    if name is None or label is None or answers is None or len(answers) < _PAIR:
        return None
    if isinstance(record.get(label), bool) or number_of(record.get(label)) is None:
        return None
    worst = names.find(("rejected",)) if label == names.find(("chosen",)) else None
    info = names.find(("info",)) if mapping.prompt is None else None
    is_summary = info is not None and _summary_prompt(record.get(info)) is not None
    prompts = PromptColumns.of(record, mapping, taken=(name, label))
    prompt_name = info if is_summary and info else prompts.prompt
    if prompt_name is None:
        return None

    def read(row: Record) -> list[RawPair]:
        prompt, system, tools, prefix = prompts.read(row)
        if is_summary:
            prompt = _summary_prompt(row.get(prompt_name))
        found = list_of(row.get(name)) or []
        best = _position(row.get(label), len(found), name, label)
        texts = [answer_of(item, name) for item in found]
        if worst is not None:
            texts = [texts[best], texts[_position(row.get(worst), len(found), name, worst)]]
            best = 0
        others = (text for number, text in enumerate(texts) if number != best)
        return [RawPair(prompt, texts[best], other, system, tools, None, prefix) for other in others]

    columns = {"chosen": f"{name}[]", "rejected": f"{name}[]", "label": f"{label}, {worst}" if worst else label}
    notes = [f"`{label}` is read as a position in `{name}`, counted from 0"]
    if is_summary:
        notes.append(f"the prompt is made of the post in `{info}` as Stiennon et al. (2020) do: it ends with TL;DR:")
    return Binding(
        "choice",
        {**prompts.named, "prompt": prompt_name, **columns},
        read,
        used=frozenset({name, label, prompt_name, worst or label, *prompts.named.values()}),
        notes=tuple(notes),
    )


def _verdict_columns(
    names: ColumnNames, answers: PairedColumns, mapping: ColumnMapping
) -> tuple[str | None, PairedColumns | None]:
    """The label and the scores of two answers; a label that might mean something else counts without scores only."""
    scores = names.scores(answers.side)
    if mapping.label is not None:
        label = names.find((), mapping.label)
        return label, scores if label else None
    label = names.find(CERTAIN_LABELS)
    if label is None and scores is None:
        label = names.find(LIKELY_LABELS)
    return label, scores


def _notes(names: ColumnNames, answers: PairedColumns, label: str | None) -> tuple[str, ...]:
    if label is None:
        return ()
    found = (names.find((name,)) for name in (*CERTAIN_LABELS, *LIKELY_LABELS))
    others = [name for name in dict.fromkeys(found) if name is not None and name != label]
    notes = [label_note(label, answers)]
    if others:
        notes.append(f'`{label}` says which answer is better; label_field = "{others[0]}" takes that column instead')
    return tuple(filter(None, notes))


def _by_scores(row: Record, scores: PairedColumns | None) -> PreferredAnswer:
    assert scores is not None  # noqa: S101 (there is a label or there are scores)
    first, second = _number(row, scores.first), _number(row, scores.second)
    if first == second:
        raise Unreadable("tie", f"`{scores.first}` and `{scores.second}` are equal: no answer is better")
    return PreferredAnswer(int(second > first))


def _number(row: Record, name: str) -> float:
    value = row.get(name)
    number = number_of(value)
    if number is None or math.isnan(number):
        shown = "NaN" if number is not None else "empty" if value in {None, ""} else "not a number"
        raise Unreadable("missing-field", f"`{name}` is {shown}: it should say how good an answer is")
    return number


def _margin(row: Record, scores: PairedColumns | None, verdict: PreferredAnswer) -> float | None:
    if scores is None:
        return None
    numbers = number_of(row.get(scores.first)), number_of(row.get(scores.second))
    better, worse = numbers[verdict.better], numbers[1 - verdict.better]
    return None if better is None or worse is None else better - worse


def _position(value: Any, count: int, name: str, label: str) -> int:
    number = number_of(value)
    if is_tie(label, value):
        raise Unreadable("tie", f"`{label}` calls the answers equally good")
    if number is None or not number.is_integer() or number < 0:
        raise Unreadable("missing-field", f"`{label}` names no answer in `{name}`")
    if number >= count:
        raise UnclearColumnError(
            f"`{label}` is {int(number)}, and `{name}` has {count} answers: its values are read as positions counted "
            "from 0. Count from 0 in all rows, or make a column for each answer"
        )
    return int(number)


def _summary_prompt(value: Any) -> str | None:
    """The prompt of a summary, in the form of Stiennon et al. (2020); None if it is no post or article."""
    info = parse_cell(value) if isinstance(value, str) else value
    if not isinstance(info, dict):
        return None
    body = next((info[key] for key in ("post", "article", "text") if isinstance(info.get(key), str)), None)
    if body is None:
        return None
    heads = (("SUBREDDIT: r/", info.get("subreddit")), ("TITLE: ", info.get("title")))
    parts = [f"{head}{value}" for head, value in heads if isinstance(value, str) and value]
    return "\n\n".join([*parts, f"POST: {body}", "TL;DR:"])
