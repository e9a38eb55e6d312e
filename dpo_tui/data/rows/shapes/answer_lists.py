"""Lists of answers in one row: with ranks or scores inside or beside them, or in order, the best first."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.column_names import SCORE_TERMS, column_names, number_of, terms_of
from dpo_tui.data.rows.column_shapes import Binding, ColumnMapping, RawPair, Record, shape
from dpo_tui.data.rows.messages import is_messages
from dpo_tui.data.rows.shapes.prompt_columns import PromptColumns, PromptParts
from dpo_tui.data.rows.text_lists import answer_of, list_of, text_key

_LISTS = (
    "answers",
    "completions",
    "responses",
    "generations",
    "outputs",
    "candidates",
    "replies",
    "output",
    "generation",
)
# Lists of any length whose order says which answer is better, and those that do so with two answers: others may just as
# well be samples in no order.
_ORDERED_LISTS = ("output", "ranked_responses", "ranked_answers", "ranked_candidates", "ranked_generations")
_ORDERED_PAIRS = ("answer", "responses")
_INSIDE = ("rank", "overall_score", "fine-grained_score", "score", "rating", "pm_score", "reward")
_BESIDE = ("ranks", "rank", "ranking", "ratings", "rating", "scores", "score", "rewards", "reward", "overall_scores")
_GRADE_TERMS = frozenset({"ranks", *(f"{term}s" for term in SCORE_TERMS)})
_RANKS = frozenset({"rank", "ranks", "ranking"})
_PAIR = 2
ALL_PAIRS, BEST_AND_WORST = "all", "best-worst"


class _Graded(NamedTuple):
    """An answer and its grade: the higher, the better."""

    grade: float
    answer: Any


@shape("ranking")
def graded_objects(record: Record, mapping: ColumnMapping) -> Binding | None:
    """Answers as objects with a rank or a score (Nectar, UltraFeedback, Stack Exchange preferences)."""
    names = column_names(record)
    for name in filter(None, (names.find((each,)) for each in _LISTS)):
        answers = list_of(record.get(name))
        if not answers or not all(isinstance(one, dict) for one in answers):
            continue
        first: Record = answers[0]
        text, order = text_key(first), column_names(first).find(_INSIDE)
        prompts = PromptColumns.of(record, mapping, taken=(name,))
        if prompts.prompt is None or text is None or order is None:
            continue

        def read(
            row: Record, name: str = name, text: str = text, order: str = order, prompts: PromptColumns = prompts
        ) -> Iterable[RawPair]:
            answers = list_of(row.get(name))
            if answers is None or not all(isinstance(one, dict) for one in answers):
                raise Unreadable("missing-field", "there is no list of answers")
            values = [one.get(order) for one in answers]
            texts = [one.get(text) for one in answers]
            return _pairs(prompts.read(row), texts, values, f"{name}[].{order}", mapping.ranking_pairs)

        part = f"{name}[].{text}"
        columns = {**prompts.named, "chosen": part, "rejected": part, "order": f"{name}[].{order}"}
        return Binding(
            "ranking",
            columns,
            read,
            used=frozenset({name, *prompts.named.values()}),
            notes=_notes(len(answers), order, mapping),
        )
    return None


@shape("graded-lists")
def grades_beside(record: Record, mapping: ColumnMapping) -> Binding | None:
    """A list of answers, and one of as many ranks or scores (distilabel's `generations` and `ratings`)."""
    names = column_names(record)
    for name in filter(None, (names.find((each,)) for each in _LISTS)):
        answers = list_of(record.get(name))
        if answers is None or len(answers) < _PAIR or is_messages(answers):
            continue
        order = _grades_of(record, answers)
        prompts = PromptColumns.of(record, mapping, taken=(name, order or ""))
        if order is None or prompts.prompt is None:
            continue

        def read(
            row: Record, name: str = name, order: str = order, prompts: PromptColumns = prompts
        ) -> Iterable[RawPair]:
            answers, values = list_of(row.get(name)), list_of(row.get(order))
            if answers is None or values is None:
                raise Unreadable("missing-field", f"`{name if answers is None else order}` is not a list")
            if len(answers) != len(values):
                raise Unreadable("missing-field", f"`{name}` and `{order}` are lists of different lengths")
            texts = [None if one is None else answer_of(one, name) for one in answers]
            return _pairs(prompts.read(row), texts, values, order, mapping.ranking_pairs)

        return Binding(
            "ranking",
            {**prompts.named, "chosen": f"{name}[]", "rejected": f"{name}[]", "order": f"{order}[]"},
            read,
            used=frozenset({name, order, *prompts.named.values()}),
            notes=_notes(len(answers), order, mapping),
        )
    return None


@shape("output-list")
def best_first(record: Record, mapping: ColumnMapping) -> Binding | None:
    """LLaMA-Factory's older form: `output` (or `responses` …) is a list of answers, the best first."""
    names = column_names(record)
    for name in filter(None, (names.find((each,)) for each in (*_ORDERED_LISTS, *_ORDERED_PAIRS))):
        answers = list_of(record.get(name))
        if answers is None or len(answers) < _PAIR or not all(isinstance(one, str) for one in answers):
            continue
        if len(answers) > _PAIR and name == names.find(_ORDERED_PAIRS):
            continue
        prompts = PromptColumns.of(record, mapping, taken=(name,))
        if prompts.prompt is None:
            continue

        def read(row: Record, name: str = name, prompts: PromptColumns = prompts) -> Iterable[RawPair]:
            answers = list_of(row.get(name))
            if answers is None or len(answers) < _PAIR:
                raise Unreadable("missing-field", f"`{name}` does not hold two answers")
            graded = [_Graded(-number, answer) for number, answer in enumerate(answers)]
            return _raw_pairs(prompts.read(row), graded, mapping.ranking_pairs or BEST_AND_WORST)

        notes = [f"`{name}` is read as a list of answers with the best first"]
        if len(answers) > _PAIR:
            notes += _notes(len(answers), name, mapping)
        last = "[1]" if len(answers) == _PAIR else "[-1]"
        return Binding(
            "output-list",
            {**prompts.named, "chosen": f"{name}[0]", "rejected": f"{name}{last}"},
            read,
            used=frozenset({name, *prompts.named.values()}),
            notes=tuple(notes),
        )
    return None


def _pairs(
    parts: PromptParts, answers: Sequence[Any], values: Sequence[Any], order: str, ranking_pairs: str | None
) -> list[RawPair]:
    """The pairs of graded answers; answers without a number or a text are left out and counted.

    Raises:
        Unreadable: all answers are equally good, or fewer than two have a number.
    """
    is_rank = _is_rank(order)
    graded: list[_Graded] = []
    for answer, value in zip(answers, values, strict=True):
        number = number_of(value)
        if number is not None and not math.isnan(number) and answer is not None:
            graded.append(_Graded(-number if is_rank else number, answer))  # rank 1 is the best, a score of 10 is
    left_out = len(answers) - len(graded)
    if len(graded) < _PAIR:
        has_nan = any(isinstance(value, float) and math.isnan(value) for value in values)
        what = "NaN" if has_nan else "no number"
        raise Unreadable(
            "missing-field", f"fewer than two answers have a number under `{order}`: the others have {what}"
        )
    note = f"answers without a number under `{order}` (NaN, null) or without a text are left out" if left_out else ""
    graded.sort(key=lambda one: one.grade, reverse=True)
    if graded[0].grade == graded[-1].grade:
        raise Unreadable("tie", f"all answers are equally good by `{order}`")
    which = ranking_pairs or (ALL_PAIRS if is_rank else BEST_AND_WORST)
    return [pair._replace(note=note) for pair in _raw_pairs(parts, graded, which, with_margin=not is_rank)]


def _raw_pairs(
    parts: PromptParts, graded: Sequence[_Graded], which: str, *, with_margin: bool = False
) -> Iterator[RawPair]:
    """Pairs of answers that are sorted, the best first.

    All of them are k(k-1)/2, as InstructGPT (2022, §3.5) has them; equally good ones are no pair.
    """
    chosen = combinations(graded, 2) if which == ALL_PAIRS else [(graded[0], graded[-1])]
    for better, worse in chosen:
        if better.grade != worse.grade:
            margin = better.grade - worse.grade if with_margin else None
            yield RawPair(parts.prompt, better.answer, worse.answer, parts.system, parts.tools, margin, parts.prefix)


def _notes(count: int, order: str, mapping: ColumnMapping) -> tuple[str, ...]:
    notes = []
    if _is_rank(order):
        notes.append(f"`{order}` is read as the rank of each answer, the lowest is the best")
    if count > _PAIR and mapping.ranking_pairs is None:
        taken, other = (
            ("every pair of answers", BEST_AND_WORST) if _is_rank(order) else ("the best against the worst", ALL_PAIRS)
        )
        notes.append(f'of several answers {taken} is taken; ranking_pairs = "{other}" changes that')
    return tuple(notes)


def _is_rank(order: str) -> bool:
    return bool(_RANKS.intersection(terms_of(order.rpartition(".")[2])))


def _grades_of(record: Record, answers: list[Any]) -> str | None:
    """The column of the answers' grades: one with a number for at least one of them, or else one that lacks them."""
    names = column_names(record)
    found = [name for each in _BESIDE if (name := names.find((each,))) is not None]
    found += [name for name in names.names if name not in found and _GRADE_TERMS.intersection(terms_of(name))]
    lists = {name: list_of(record[name]) for name in found}
    # One number beside the list is none of its answers; a name in the plural says that there should be a list.
    lists = {
        name: grades
        for name, grades in lists.items()
        if grades is not None or record[name] is None or name.lower().endswith("s")
    }
    for name, grades in lists.items():
        if grades and len(grades) == len(answers) and any(number_of(one) is not None for one in grades):
            return name
    return next(iter(lists), None)
