"""Find the columns of a record by their names, however these are written: ``chosen_response``, ``Chosen Response``."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

# A run of letters or digits; a capital after a small letter begins the next term. Other scripts stay whole.
_TERM = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
_SIDES = (("0", "1"), ("1", "2"), ("a", "b"), ("left", "right"), ("first", "second"), ("one", "two"))
"""How two columns of the same kind are told apart."""
# Records with endless new columns would otherwise fill the memory.
_KEPT = 512

ANSWER_TERMS = (
    *("response", "answer", "output", "completion", "conversation", "generation", "summary", "reply", "candidate"),
    *("continuation", "ref", "message", "text"),
)
"""Terms in the names of columns that hold answers, the more specific ones first; also in the plural."""
SCORE_TERMS = ("score", "rating", "reward", "winner", "win", "vote", "upvote", "grade")
"""Terms in the names of columns that hold a number for an answer: the higher, the better."""
_WHOSE = frozenset({"model", "assistant", "human", "bot", "ai", "generated"})
_HOW = frozenset({"avg", "average", "mean", "overall", "total", "pm", "rm", "final", "quality", "helpfulness"})


@lru_cache(maxsize=4096)
def terms_of(name: str) -> tuple[str, ...]:
    """The terms of a column's name in lower case: ``human_ref_A`` gives ``("human", "ref", "a")``."""
    return tuple(term.lower() for term in _TERM.findall(name))


def _singular(term: str) -> str:
    if term.endswith("ies"):
        return term[:-3] + "y"
    return term[:-1] if term.endswith("s") and not term.endswith("ss") else term


@dataclass(frozen=True, slots=True)
class PairedColumns:
    """Two columns whose names differ in one term, such as ``response_a`` and ``response_b``.

    Args:
        first: the one column.
        second: the other.
        side: the term of each, in lower case: ``("a", "b")``.
    """

    first: str
    second: str
    side: tuple[str, str]


class ColumnNames:
    """The names of a record's columns. Get one with :func:`column_names`, which remembers what was computed.

    Args:
        names: in the order of the record.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._known = frozenset(names)
        self._written_otherwise: dict[str, str] = {}
        self._by_terms: dict[tuple[str, ...], str] = {}
        self._found: dict[tuple[str, ...], str | None] = {}
        for name in names:
            self._written_otherwise.setdefault(_letters(name), name)
            self._by_terms.setdefault(tuple(map(_singular, terms_of(name))), name)

    def find(self, candidates: tuple[str, ...], set_by_user: str | None = None) -> str | None:
        """The column that the user set, or else the first candidate that is there; its own spelling goes first.

        Args:
            candidates: usual names of such a column, the most likely first.
            set_by_user: the name that the user gave; no other one is looked for then.
        """
        if set_by_user is not None:
            return set_by_user if set_by_user in self._known else None
        # Shapes that look at values ask again for each record.
        if candidates not in self._found:
            self._found[candidates] = self._first_of(candidates)
        return self._found[candidates]

    def _first_of(self, candidates: tuple[str, ...]) -> str | None:
        for candidate in candidates:
            found = candidate if candidate in self._known else self._written_otherwise.get(_letters(candidate))
            if found is not None:
                return found
        return None

    @cached_property
    def answers(self) -> PairedColumns | None:
        """Two columns of answers, such as ``output_1`` and ``output_2``."""
        found = list(self._paired(ANSWER_TERMS, _WHOSE))
        return min(found, key=lambda pair: _rank(pair.first, ANSWER_TERMS), default=None)

    def scores(self, side: tuple[str, str]) -> PairedColumns | None:
        """Two columns of scores, such as ``score_0`` and ``score_1``, for answers of these sides."""
        others = {*_WHOSE, *_HOW, *ANSWER_TERMS}
        return next((pair for pair in self._paired(SCORE_TERMS, others) if pair.side == side), None)

    def _paired(self, kinds: Sequence[str], others: Collection[str]) -> Iterator[PairedColumns]:
        for terms, name in self._by_terms.items():
            for side in _SIDES:
                if side[0] not in terms:
                    continue
                at = terms.index(side[0])
                rest = (*terms[:at], *terms[at + 1 :])
                second = self._by_terms.get((*terms[:at], side[1], *terms[at + 1 :]))
                if second and any(term in kinds for term in rest) and all(t in kinds or t in others for t in rest):
                    yield PairedColumns(name, second, side)


def column_names(record: dict[str, Any]) -> ColumnNames:
    """The names of a record's columns."""
    return _column_names(tuple(record))


@lru_cache(maxsize=_KEPT)
def _column_names(names: tuple[str, ...]) -> ColumnNames:
    return ColumnNames(names)


def _letters(name: str) -> str:
    """A name without separators and capitals: ``chosenResponse`` and ``chosen-response`` are the same column."""
    return "".join(character for character in name.lower() if character.isalnum())


def _rank(name: str, kinds: Sequence[str]) -> int:
    terms = set(map(_singular, terms_of(name)))
    return next((number for number, kind in enumerate(kinds) if kind in terms), len(kinds))


def number_of(value: Any) -> float | None:
    """The number that a value is, or that a cell's text is; None for anything else. NaN is a number here."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
