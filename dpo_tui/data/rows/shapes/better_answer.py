"""Read the verdict of a label column: which of two answers is better, or that neither is."""

import math
import re
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import PairedColumns, number_of, terms_of
from dpo_tui.data.rows.column_shapes import Record, UnclearColumnError

# Texts that call two answers equally good, in lower case and without brackets.
_TIES = frozenset(
    {
        *("tie", "tied", "ties", "draw", "equal", "equally good", "equally bad", "no preference", "no_preference"),
        *("tie (bothbad)", "tie (both bad)", "both_bad", "bothbad", "both bad", "both_good", "both good"),
    }
)
# Further ones in a column that can say nothing but which answer is better. MT-bench's judges write C.
_TIES_IN_LABELS = frozenset({"both", "neither", "none", "same", "c", "undecided", "similar"})
_TIE_FLAGS = frozenset({"tie", "ties", "tied", "draw"})
_VERDICT_TERMS = frozenset(
    {
        *("status", "verdict", "outcome", "winner", "preference", "preferred", "label", "labels", "result", "judgment"),
        *("judgement", "comparison", "decision"),
    }
)
_YES = frozenset({"true", "yes", "1", "1.0"})
_COMPARISON = re.compile(r"^(\w[\w ]*?)\s*([<>]+|=+)\s*(\w[\w ]*)$")
# AlpacaEval writes 1.0 to 2.0 for the first to the second answer; 1.5 is a draw.
_MIDDLE = 1.5
_SHOWN_CHARACTERS = 40

CERTAIN_LABELS = ("better_response_id", "winner", "labels", "preference_strength", "overall_preference")
"""Columns that can say nothing else but which answer is better."""
LIKELY_LABELS = (
    *("preference", "choice", "preferred", "preferred_response", "preferred_answer", "preferred_output"),
    *("better", "better_response", "better_answer", "best", "best_response", "best_answer", "chosen"),
    *("chosen_response", "selected", "verdict", "judgment", "judgement", "human_preference", "vote", "label"),
    "safer_response_id",
)
"""Further ones, for files without scores, the more certain ones first."""


class PreferredAnswer(NamedTuple):
    """Which answer is better.

    Args:
        better: 0 for the first, 1 for the second.
        margin: how much better, where the label says so.
    """

    better: int
    margin: float | None = None


def may_mark_ties(name: str) -> bool:
    """Whether a column beside a chosen and a rejected answer may call them equally good, by its name."""
    terms = terms_of(name)
    return bool(_VERDICT_TERMS.intersection(terms[-1:])) or _is_tie_flag(terms)


def is_tie(name: str, value: Any) -> bool:
    """Whether a column calls two answers equally good.

    Args:
        name: of the column: the value of `is_tie` is a flag.
        value: of a row.
    """
    if _is_tie_flag(terms_of(name)):
        return value is True or number_of(value) == 1 or str(value).strip().lower() in _YES
    return isinstance(value, str) and _plain(value) in _TIES


def label_note(label: str, answers: PairedColumns) -> str:
    """How a label is read, where its column could be read otherwise; empty for others."""
    if is_signed(label):
        return (
            f"`{label}` is read as in HelpSteer: below 0 `{answers.first}` is better, above 0 `{answers.second}`, 0 is "
            "a tie; its size says by how much, which training does not use yet"
        )
    return ""


def is_signed(label: str) -> bool:
    """Whether a label is a number with a sign, by its name: HelpSteer's strength of a preference."""
    terms = terms_of(label)
    return "strength" in terms or terms == ("overall", "preference")


def better_answer(row: Record, label: str, answers: PairedColumns) -> PreferredAnswer:
    """Read the verdict of a row.

    Args:
        row: the record.
        label: the column that says which answer is better.
        answers: the columns of the two answers.

    Raises:
        Unreadable: it is a tie, or the label says nothing.
        UnclearColumnError: the label cannot be read as it is in other rows.
    """
    value = row.get(label)
    if value is None or value == "":
        raise Unreadable("missing-field", f"`{label}` is empty: it should say which answer is better")
    number = number_of(value)
    if is_signed(label) and number is not None:
        return _by_sign(number, label)
    if isinstance(value, str) and number is None:
        return PreferredAnswer(_by_text(row, value, label, answers))
    if number is not None:
        return _by_number(number, label, answers)
    raise Unreadable("missing-field", f"`{label}` is {_shown(value)}, which names neither answer")


def _by_sign(number: float, label: str) -> PreferredAnswer:
    if math.isnan(number):
        raise Unreadable("missing-field", f"`{label}` is NaN: it should say which answer is better")
    if number == 0:
        raise Unreadable("tie", f"`{label}` is 0: the answers are equally good")
    return PreferredAnswer(int(number > 0), abs(number))


def _by_number(number: float, label: str, answers: PairedColumns) -> PreferredAnswer:
    if "ref" in terms_of(answers.first) and number in {0, 1}:
        return PreferredAnswer(0 if number == 1 else 1)  # SHP: 1 if A is preferred to B
    if not answers.side[0].isdigit():
        raise UnclearColumnError(
            f"`{label}` is {_shown(number)}, which does not say whether `{answers.first}` or `{answers.second}` is "
            "meant: write their names there"
        )
    low, high = (float(side) for side in answers.side)
    if low == 1 and low < number < high:
        if number == _MIDDLE:
            raise Unreadable("tie", f"`{label}` is {number}: the answers are equally good")
        return PreferredAnswer(int(number > _MIDDLE), abs(number - _MIDDLE))
    if number not in {low, high}:
        raise UnclearColumnError(
            f"`{label}` is {_shown(number)}, and its other values are read as the number of the better answer, "
            f"{answers.side[0]} or {answers.side[1]}. Write the names of the answers there; or, if it is a strength "
            "(below 0: the first is better), call the column preference_strength"
        )
    return PreferredAnswer(int(number == high))


def _by_text(row: Record, value: str, label: str, answers: PairedColumns) -> int:
    plain = _plain(value)
    if plain in _TIES or plain in _TIES_IN_LABELS:
        raise Unreadable("tie", f"`{label}` is {_shown(value)}: the answers are equally good")
    if compared := _COMPARISON.match(plain):  # "A>B", as Arena-Hard's judges write
        sides = [_side_of(compared[1], answers), _side_of(compared[3], answers)]
        if None not in sides and sides[0] != sides[1]:
            if "=" in compared[2]:
                raise Unreadable("tie", f"`{label}` is {_shown(value)}: the answers are equally good")
            return int(sides[0 if ">" in compared[2] else 1] or 0)
    side = _side_of(plain, answers)
    if side is not None:
        return side
    # The name of a model, or the answer itself.
    for index, name in enumerate((answers.first, answers.second)):
        models = (f"model_{answers.side[index]}", f"{name}_model", f"model_{name}")
        if value == row.get(name) or any(value == row.get(model) for model in models):
            return index
    raise Unreadable("missing-field", f"`{label}` is {_shown(value)}, which names neither answer")


def _side_of(plain: str, answers: PairedColumns) -> int | None:
    if plain in {answers.first.lower(), answers.second.lower()}:
        return int(plain == answers.second.lower())
    terms = terms_of(plain)
    found = [index for index, side in enumerate(answers.side) if side in terms[-1:]]
    return found[0] if len(found) == 1 else None


def _is_tie_flag(terms: tuple[str, ...]) -> bool:
    return bool(_TIE_FLAGS.intersection(terms[-1:])) and len(terms) <= 2  # noqa: PLR2004 (is_tie, winner_tie)


def _plain(value: str) -> str:
    return value.strip().strip("[]").strip().lower()


def _shown(value: Any) -> str:
    number = value if isinstance(value, float) and value.is_integer() else None
    text = str(int(number)) if number is not None else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
