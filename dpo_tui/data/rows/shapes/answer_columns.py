"""A column for the better answer and one for the worse: most preference sets."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import ANSWER_TERMS, SCORE_TERMS, ColumnNames, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, shape
from dpo_tui.data.rows.messages import decoded_messages, is_messages
from dpo_tui.data.rows.shapes.better_answer import is_tie, may_mark_ties
from dpo_tui.data.rows.shapes.prompt_columns import PromptColumns
from dpo_tui.data.rows.text_lists import ANSWER_LISTS, list_of

# The columns that datasets use, the more specific names first.
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
# What a better and a worse answer are called: before or after what an answer is called, or (the first ones) alone.
_VERDICTS = (
    ("chosen", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "nonpreferred"),
    ("preferred", "rejected"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("best", "worst"),
    ("good", "bad"),
    ("goodedited", "badedited"),
    ("accept", "reject"),
    ("winning", "losing"),
    ("winner", "loser"),
    ("win", "lose"),
    ("w", "l"),
    ("pos", "neg"),
    ("positive", "negative"),
    ("j", "k"),
)
_ALONE = 7
# ms-swift, and others that have a demonstration and a worse answer beside it.
_BESIDE_REJECTED = ("response", "output", "answer", "completion", "messages", "conversations", "conversation")


@shape("columns")
def chosen_and_rejected(record: Record, mapping: ColumnMapping) -> Binding | None:
    """A column for each answer, and usually one for the prompt."""
    chosen, rejected = answer_columns(record, mapping)
    if chosen is None or rejected is None or _are_positions(record, chosen, rejected):
        return None
    names = column_names(record)
    whole = _is_conversation(chosen, rejected) and mapping.prompt is None
    prompts = PromptColumns.of(record, mapping, taken=(chosen, rejected) if mapping.prompt is None else ())
    scores = _scores(names, chosen, rejected)
    ties = tuple(name for name in names.names if may_mark_ties(name) and name not in {chosen, rejected, prompts.prompt})

    def read(row: Record) -> list[RawPair]:
        for name in ties:
            if is_tie(name, row.get(name)):
                raise Unreadable("tie", f"`{name}` calls the answers equally good")
        prompt, system, tools, prefix = prompts.read(row)
        better, worse = row.get(chosen), row.get(rejected)
        if whole:
            prompt, better = _prompt_and_last_answer(prompt, better, worse, chosen)
        margin = _margin(row, scores)
        if isinstance(better, str) and isinstance(worse, list) and _are_texts(worse):
            note = f"`{rejected}` holds several answers: each of them is set against `{chosen}`"
            return [RawPair(prompt, better, one, system, tools, margin, prefix, note) for one in worse]
        return [RawPair(prompt, better, worse, system, tools, margin, prefix)]

    columns = {"chosen": chosen, "rejected": rejected}
    if prompts.prompt is not None:
        columns = {"prompt": prompts.prompt, **columns}
    columns |= prompts.named
    if scores:
        columns["scores"] = ", ".join(scores)
    simple = prompts.prompt is not None and prompts.is_prompt_alone and not scores and not whole
    # Beside a list of answers a number may be a position in it, as the next row may show.
    by_names = names.find(ANSWER_LISTS) is None or _is_no_number(record[chosen])
    alike = by_names and not whole and {*prompts.named} <= {"prompt", "system"} and names.find(("history",)) is None
    return Binding(
        "columns",
        columns,
        read,
        used=frozenset({chosen, rejected, *prompts.named.values(), *(scores or ()), *_recognised_ties(record, ties)}),
        only_columns=(prompts.prompt, chosen, rejected) if simple and prompts.prompt else None,
        tie_columns=ties,
        alike=alike,
        by_names=by_names,
    )


def answer_columns(record: Record, mapping: ColumnMapping) -> tuple[str | None, str | None]:
    """The columns of the better and the worse answer; None for one that is not there."""
    names = column_names(record)
    chosen, rejected = names.find(CHOSEN_COLUMNS, mapping.chosen), names.find(REJECTED_COLUMNS, mapping.rejected)
    if chosen and rejected:
        return chosen, rejected
    for better, worse in _pairs_of_names(names.names):
        found = (
            better if mapping.chosen is None else chosen,
            worse if mapping.rejected is None else rejected,
        )
        if found[0] and found[1] and found[0] != found[1]:
            return found
    return chosen, rejected


@lru_cache(maxsize=512)
def _pairs_of_names(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Columns that may hold the better and the worse answer, the more certain ones first."""
    return tuple(_each_pair_of_names(ColumnNames(names)))


def _each_pair_of_names(names: ColumnNames) -> Iterator[tuple[str, str]]:
    kinds = [form for kind in ANSWER_TERMS for form in (kind, f"{kind}s")]
    for number, (better, worse) in enumerate(_VERDICTS):
        for kind in ["", *kinds] if number < _ALONE else kinds:
            for form in ("{0}{1}", "{1}{0}"):
                chosen, rejected = names.find((form.format(better, kind),)), names.find((form.format(worse, kind),))
                if chosen and rejected:
                    yield chosen, rejected
    for name in names.names:
        first, *rest = terms_of(name) or ("",)
        if first == "rejected" and rest and all(term in kinds for term in rest):
            beside = names.find(("_".join(rest), *_BESIDE_REJECTED))
            if beside is not None:
                yield beside, name


def _are_positions(record: Record, chosen: str, rejected: str) -> bool:
    """Whether the columns hold positions in a list of answers that stands beside them, and no answers."""
    positions = number_of(record.get(chosen)), number_of(record.get(rejected))
    if None in positions:
        return False
    name = column_names(record).find(ANSWER_LISTS)
    answers = list_of(record[name]) if name is not None else None
    # "4" and "5" beside their list are answers.
    return answers is not None and record[chosen] not in answers and record[rejected] not in answers


def _is_no_number(value: Any) -> bool:
    return value is not None and number_of(value) is None


def _are_texts(values: list[Any]) -> bool:
    return len(values) > 1 and all(isinstance(text, str) for text in values)


def _is_conversation(chosen: str, rejected: str) -> bool:
    """Whether the better answer may be the last turn of a conversation (ms-swift's `messages`, with a worse answer)."""
    return terms_of(chosen) in {("messages",), ("conversations",), ("conversation",)} and "rejected" in terms_of(
        rejected
    )


def _prompt_and_last_answer(prompt: Any, better: Any, worse: Any, name: str) -> tuple[Any, Any]:
    """Divide a conversation into the prompt and its last answer, unless the worse answer is a conversation as well.

    Raises:
        Unreadable: the conversation does not end with an answer.
    """
    turns, other = decoded_messages(better), decoded_messages(worse)
    if not is_messages(turns) or (is_messages(other) and len(other) > 1):
        return prompt, better
    last = turns[-1].get("role") or turns[-1].get("from")
    if last not in {"assistant", "gpt", "model", "bot", "chatgpt"} or len(turns) == 1:
        raise Unreadable("missing-field", f"`{name}` does not end with a question and its answer")
    return turns[:-1], turns[-1:]


def _scores(names: ColumnNames, chosen: str, rejected: str) -> tuple[str, str] | None:
    """The columns of the answers' scores, the chosen one's first: `score_chosen`, `chosen-rating` and the like."""
    by_terms = {terms_of(name): name for name in names.names if name not in {chosen, rejected}}
    for terms, name in by_terms.items():
        for better, worse in _VERDICTS:
            if better in terms and any(term in SCORE_TERMS for term in terms if term != better):
                other = by_terms.get(tuple(worse if term == better else term for term in terms))
                if other is not None:
                    return name, other
    return None


def _margin(row: Record, names: tuple[str, str] | None) -> float | None:
    """The chosen answer's score minus the rejected one's; NaN where a score is."""
    if names is None:
        return None
    better, worse = number_of(row.get(names[0])), number_of(row.get(names[1]))
    return None if better is None or worse is None else better - worse


def _recognised_ties(record: Record, ties: tuple[str, ...]) -> Iterator[str]:
    """Of the columns that may mark ties those that hold a text: others are named as unused."""
    return (name for name in ties if isinstance(record.get(name), (str, bool)))
