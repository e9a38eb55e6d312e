"""Rows without two answers to one prompt: none of them can be used, and it is said why."""

from collections.abc import Iterable

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import SCORE_TERMS, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, shape
from dpo_tui.data.rows.shapes.answer_columns import answer_columns
from dpo_tui.data.rows.shapes.prompt_columns import PROMPT_COLUMNS

_THUMBS = frozenset({"label", "kto_tag", "thumbs_up"})
_ANSWERS = ("completion", "response", "answer", "output", "messages", "conversations")
# HelpSteer's five attributes are scores, too.
_SCORES = frozenset({*SCORE_TERMS, "helpfulness", "correctness", "coherence", "complexity", "verbosity"})


@shape("unpaired")
def answer_with_verdict(record: Record, _mapping: ColumnMapping) -> Binding | None:
    """KTO data: one answer with a thumb up or down."""
    names = column_names(record)
    answer = names.find(_ANSWERS)
    label = next((name for name in names.names if name.lower() in _THUMBS and _is_flag(record[name])), None)
    if answer is None or label is None:
        return None
    message = f"one answer with a verdict (`{answer}`, `{label}`) is KTO data; DPO needs two answers to one prompt"
    return _refused("unpaired", message, {"completion": answer, "label": label})


@shape("scored")
def answer_with_scores(record: Record, _mapping: ColumnMapping) -> Binding | None:
    """One answer with scores (HelpSteer's rows of ratings): the answer to compare it with is in another row, if any."""
    names = column_names(record)
    answer, prompt = names.find(_ANSWERS), names.find(PROMPT_COLUMNS)
    scores = [name for name in names.names if _SCORES.intersection(terms_of(name)) and _is_number(record[name])]
    if answer is None or prompt is None or answer == prompt or not scores:
        return None
    elsewhere = "; HelpSteer 2 has them in its file of preferences" if "helpfulness" in scores else ""
    message = (
        f"there is one answer a row (`{answer}`) with its scores ({', '.join(scores[:3])}), and DPO needs two "
        f"answers to one prompt in a row{elsewhere}"
    )
    return _refused("scored", message, {"prompt": prompt, "completion": answer, "scores": scores[0]})


@shape("incomplete")
def incomplete(record: Record, mapping: ColumnMapping) -> Binding:
    """Every other record: which answer columns it lacks, and which columns it has."""
    if not record:
        return _refused("incomplete", "the row has no columns", {})
    found = ", ".join(list(record)[:8]) + (", …" if len(record) > 8 else "")  # noqa: PLR2004 (what fits a line)
    named = {f"{part}_field": name for part, name in mapping._asdict().items() if part != "ranking_pairs"}
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


def _refused(name: str, message: str, columns: dict[str, str]) -> Binding:
    def read(_row: Record) -> Iterable[RawPair]:
        raise Unreadable("missing-field", message)

    return Binding(name, columns, read, used=frozenset(columns.values()))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in {"true", "false"})


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and number_of(value) is not None
