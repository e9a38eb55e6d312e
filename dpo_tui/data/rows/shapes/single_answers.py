"""Rows without two answers to one prompt: as pairs none of them can be used, and it is said why.

Those with a verdict on their one answer are read for strategies that train on labelled answers.
"""

from collections.abc import Iterable

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import SCORE_TERMS, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import (
    Binding,
    ColumnMapping,
    RawAnswer,
    RawPair,
    Record,
    UnclearColumnError,
    shape,
)
from dpo_tui.data.rows.label_values import (
    CONVERSATIONS,
    NOT_COLUMNS,
    VERDICT_COLUMNS,
    answer_column,
    may_be_verdict,
    verdict_of,
)
from dpo_tui.data.rows.shapes.answer_columns import answer_columns
from dpo_tui.data.rows.shapes.prompt_columns import PROMPT_COLUMNS, PromptColumns

# HelpSteer's five attributes are scores, too.
_SCORES = frozenset({*SCORE_TERMS, "helpfulness", "correctness", "coherence", "complexity", "verbosity"})


_FOR_KTO = 'strategy = "kto" takes these'


@shape("unpaired")
def answer_with_verdict(record: Record, mapping: ColumnMapping) -> Binding | None:
    """KTO data: one answer with a thumb up or down."""
    names = column_names(record)
    answer = answer_column(record, mapping)
    label = names.find(VERDICT_COLUMNS, mapping.label)
    if answer is None or label is None or label == answer or not may_be_verdict(record[label]):
        return None
    message = (
        f"one answer with a verdict (`{answer}`, `{label}`) is KTO data; DPO needs two answers to one prompt, and "
        f"{_FOR_KTO}"
    )
    # A threshold is meant for ratings, which a verdict beside them must not be taken for.
    rated = mapping.rating_threshold is not None and mapping.label is None
    ratings = [name for name in names.names if rated and name != label and _SCORES.intersection(terms_of(name))]
    scores = [label, *ratings] if ratings else None
    return _labelled("unpaired", record, mapping, answer=answer, label=label, message=message, scores=scores)


@shape("scored")
def answer_with_scores(record: Record, mapping: ColumnMapping) -> Binding | None:
    """One answer with scores (HelpSteer's rows of ratings): the answer to compare it with is in another row, if any."""
    names = column_names(record)
    answer = answer_column(record, mapping)
    prompt = names.find(PROMPT_COLUMNS, mapping.prompt)
    scores = [name for name in names.names if _SCORES.intersection(terms_of(name)) and _is_number(record[name])]
    if answer is None or not scores or (answer not in CONVERSATIONS and (prompt is None or answer == prompt)):
        return None
    elsewhere = "; HelpSteer 2 has them in its file of preferences" if "helpfulness" in scores else ""
    message = (
        f"there is one answer a row (`{answer}`) with its scores ({', '.join(scores[:3])}), and DPO needs two "
        f'answers to one prompt in a row{elsewhere}. strategy = "kto" takes it with rating_threshold'
    )
    return _labelled("scored", record, mapping, answer=answer, label=scores[0], message=message, scores=scores)


@shape("incomplete")
def incomplete(record: Record, mapping: ColumnMapping) -> Binding:
    """Every other record: which answer columns it lacks, and which columns it has."""
    if not record:
        return _refused("incomplete", "the row has no columns", {})
    found = ", ".join(list(record)[:8]) + (", …" if len(record) > 8 else "")  # noqa: PLR2004 (what fits a line)
    named = {f"{part}_field": name for part, name in mapping._asdict().items() if part not in NOT_COLUMNS}
    chosen, rejected = answer_columns(record, mapping)
    for setting, name in named.items():
        if name is not None and name not in record:
            return _refused("incomplete", f"there is no column `{name}`, which {setting} names (columns: {found})", {})
    answers = column_names(record).answers
    if not chosen and not rejected and answers is not None:
        message = (
            f"there are two answers (`{answers.first}`, `{answers.second}`) and no column that says which is better"
        )
        return _refused("incomplete", f"{message}; label_field names one (columns: {found})", {})
    lacking = "`rejected` is" if chosen else "`chosen` is" if rejected else "`chosen` and `rejected` are"
    return _refused("incomplete", f"{lacking} missing (columns: {found})", {})


def _labelled(
    name: str,
    record: Record,
    mapping: ColumnMapping,
    *,
    answer: str,
    label: str,
    message: str,
    scores: list[str] | None = None,
) -> Binding:
    """A binding that refuses records as pairs, and reads their one answer with its verdict.

    Args:
        name: of the shape.
        record: one of the records.
        mapping: what the user set.
        answer: the column of the answer.
        label: the column of the verdict.
        message: why the record is no pair.
        scores: its columns of scores, where these take the place of a verdict.
    """
    prompts = PromptColumns.of(record, mapping, taken=(answer,) if mapping.prompt is None else ())
    threshold = mapping.rating_threshold

    def refuse(row: Record) -> Iterable[RawPair]:
        if message.endswith(_FOR_KTO):
            try:
                read(row)
            except Unreadable as problem:  # whoever followed the hint would be refused there
                other = f'strategy = "kto" does not take it either: {problem.message}'
                text = message.replace(_FOR_KTO, other)
                # Numbers that are no verdicts make the column unclear in all rows, those with a 1 included.
                unclear = isinstance(problem, UnclearColumnError)
                raise (UnclearColumnError(text) if unclear else Unreadable("missing-field", text)) from None
        raise Unreadable("missing-field", message)

    def read(row: Record) -> RawAnswer:
        if scores is not None and threshold is None:
            raise Unreadable(
                "missing-field",
                f"`{label}` rates the answers: rating_threshold says from which rating on an answer is desirable",
            )
        if scores is not None and len(scores) > 1 and mapping.label is None:
            raise Unreadable(
                "missing-field",
                f"there are several ratings ({', '.join(scores[:3])}): label_field names the one to use",
            )
        desirable = verdict_of(row.get(label), label, threshold)
        number = number_of(row.get(label)) if threshold is None and not isinstance(row.get(label), bool) else None
        prompt, system, tools, prefix = prompts.read(row)
        return RawAnswer(prompt, row.get(answer), desirable, system, tools, prefix, number)

    columns = {**prompts.named, "completion": answer, "label": label}
    if scores is not None:
        columns["scores"] = scores[0]
    return Binding(name, columns, refuse, used=frozenset({answer, label, *prompts.named.values()}), read_answer=read)


def _refused(name: str, message: str, columns: dict[str, str]) -> Binding:
    def read(_row: Record) -> Iterable[RawPair]:
        raise Unreadable("missing-field", message)

    return Binding(name, columns, read, used=frozenset(columns.values()))


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and number_of(value) is not None
