"""Read the verdict on a single answer: true or false, a thumb, a word such as good, a number, or a rating."""

import math
from typing import Any

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import SCORE_TERMS, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import ColumnMapping, Record, UnclearColumnError
from dpo_tui.data.rows.messages import json_type_name

_ANSWERS = ("completion", "response", "answer", "output", "generation", "reply")
CONVERSATIONS = ("messages", "conversations", "conversation")
"""Columns of whole conversations, whose last message is the answer."""
NOT_COLUMNS = frozenset({"ranking_pairs", "rating_threshold"})
"""The parts of a mapping that name no column."""
VERDICT_COLUMNS = (
    *("label", "labels", "kto_tag", "thumbs", "thumb", "thumbs_up", "thumb_up", "feedback", "verdict", "desirable"),
    *("is_desirable", "is_good", "good", "liked", "is_liked", "is_chosen", "accepted", "is_accepted", "upvoted"),
    *("is_correct", "correct", "is_preferred"),
)
"""Columns that say of one answer whether it is good, the more certain names first."""
_DESIRABLE = frozenset(
    {
        *("true", "yes", "y", "t", "up", "thumbs up", "thumb up", "thumbsup", "👍", "good", "positive", "pos"),
        *("desirable", "like", "liked", "upvote", "upvoted", "accept", "accepted", "chosen", "preferred", "correct"),
        *("right", "win", "helpful"),
    }
)
_UNDESIRABLE = frozenset(
    {
        *("false", "no", "n", "f", "down", "thumbs down", "thumb down", "thumbsdown", "👎", "bad", "negative", "neg"),
        *("undesirable", "dislike", "disliked", "downvote", "downvoted", "reject", "rejected", "incorrect", "wrong"),
        *("lose", "loss", "unhelpful"),
    }
)
_SHOWN_CHARACTERS = 40


def answer_column(record: Record, mapping: ColumnMapping) -> str | None:
    """The column of the one answer: a conversation is one only where no column holds the answer alone."""
    names = column_names(record)
    return names.find(_ANSWERS, mapping.completion) or (names.find(CONVERSATIONS) if not mapping.completion else None)


def may_be_verdict(value: Any) -> bool:
    """Whether a value may be a verdict, or be missing: no list, no object, no long text."""
    return (
        value is None
        or isinstance(value, (bool, int, float))
        or (isinstance(value, str) and len(value) < _SHOWN_CHARACTERS)
    )


def verdict_of(value: Any, column: str, threshold: float | None) -> bool:
    """Return whether an answer is desirable.

    Args:
        value: of the row.
        column: its name, for the error.
        threshold: the lowest rating of a desirable answer; None where the column has no ratings.

    Raises:
        Unreadable: the row has no verdict, or one that is not known.
        UnclearColumnError: the column has a number that is no verdict, so that it holds ratings in all rows.
    """
    if isinstance(value, bool):
        return value
    number = number_of(value)
    if number is not None and not math.isnan(number):
        if threshold is not None:
            return number >= threshold
        if number in (0, 1, -1):
            return number == 1
        raise UnclearColumnError(
            f"`{column}` is {number:g}, and a verdict is 1, 0 or -1; for ratings, rating_threshold says from which one "
            "on an answer is desirable"
        )
    if isinstance(value, str) and value.strip():
        word = value.strip().lower().replace("_", " ").replace("-", " ")
        if word in _DESIRABLE or word in _UNDESIRABLE:
            return word in _DESIRABLE
        raise Unreadable(
            "missing-field", f'`{column}` is "{value.strip()[:_SHOWN_CHARACTERS]}", not a verdict such as true or false'
        )
    if value is None or isinstance(value, str) or number is not None:
        raise Unreadable("missing-field", f"`{column}` is empty: it should say whether the answer is desirable")
    raise Unreadable("missing-field", f"`{column}` is {json_type_name(value)}, not a verdict such as true or false")


def reason_without_verdict(record: Record, mapping: ColumnMapping) -> Unreadable:
    """Why a record is neither a pair nor an answer with a verdict."""
    found = ", ".join(list(record)[:8]) + (", …" if len(record) > 8 else "")  # noqa: PLR2004 (what fits a line)
    for part, name in mapping._asdict().items():
        if part not in NOT_COLUMNS and name is not None and name not in record:
            return Unreadable("missing-field", f"there is no column `{name}`, which {part}_field names")
    answer = answer_column(record, mapping)
    label = column_names(record).find(VERDICT_COLUMNS, mapping.label)
    if answer is not None and label is not None:
        return Unreadable("missing-field", f"`{label}` holds no verdict such as true or false (columns: {found})")
    rating = next((name for name in record if not set(SCORE_TERMS).isdisjoint(terms_of(name))), None)
    if answer is not None and rating is not None:
        return Unreadable("missing-field", f"`{rating}` holds no number: it should say how good `{answer}` is")
    if answer is not None:
        return Unreadable(
            "missing-field",
            f"`{answer}` has no verdict beside it, such as `label`: rows without one are demonstrations, for strategy "
            f'= "sft" (columns: {found})',
        )
    return Unreadable("missing-field", f"there is no answer with a verdict, and no pair of answers (columns: {found})")


def undesirable_by(record: Record) -> str | None:
    """The column that calls a record's answer undesirable; None where there is none, or its value is no verdict."""
    label = column_names(record).find(VERDICT_COLUMNS)
    if label is None:
        return None
    try:
        return None if verdict_of(record[label], label, None) else label
    except Unreadable:
        return None
