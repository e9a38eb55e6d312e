"""The registry of shapes: which columns of a dataset hold the prompt and the two answers.

A shape is one small function in a module of `dpo_tui.data.rows.shapes`, registered by :func:`shape`. It looks at the
names of the columns and at one record, and returns either None or a :class:`Binding` that reads such records. The first
shape that does not return None is used: modules are tried in the order of _MODULES, and shapes of one module in the
order in which they are defined. What the values are (text, messages, transcripts) is decided by
:mod:`dpo_tui.data.rows.record_to_pairs`, so every shape works with every kind of value.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Unreadable

_MODULES = ("answer_columns", "labelled_answers", "answer_lists", "single_answers")

Record = dict[str, Any]


class RawPair(NamedTuple):
    """The values of one pair as the record holds them: text, messages, or anything else."""

    prompt: Any
    chosen: Any
    rejected: Any
    system: Any = None
    tools: Any = None
    margin: float | None = None
    prefix: str | None = None
    """The beginning of both answers that a column of its own holds."""
    note: str = ""
    """What was left out of the record, to be counted in the report."""


class RawAnswer(NamedTuple):
    """The values of one answer and the verdict on it as the record holds them."""

    prompt: Any
    completion: Any
    desirable: bool
    system: Any = None
    tools: Any = None
    prefix: str | None = None
    number: float | None = None
    """The verdict where it is a number without a threshold: 1, 0 or -1."""


class ColumnMapping(NamedTuple):
    """Column names that the user set, None leaves the choice to the shapes; and how values of columns are read."""

    prompt: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    system: str | None = None
    prefix: str | None = None
    label: str | None = None
    ranking_pairs: str | None = None
    completion: str | None = None
    rating_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """How to read the pairs of records that have certain columns.

    Args:
        shape: the name of the shape that made it.
        columns: the column that holds each part of a pair, to be shown to the user.
        read: returns the raw pairs of a record, or raises Unreadable.
        used: the names of all columns that it reads.
        only_columns: the columns of prompt, chosen and rejected; None when any other column but a tie marker matters.
        tie_columns: columns that may call the row a tie, beside a chosen and a rejected answer.
        notes: how the columns are read where they can be read otherwise, in words.
        alike: whether all records with these columns are read alike: one by one with no look at another column than its
            prompt, answers and system message, and at those that may call it a tie.
        by_names: whether all records with these columns are read so; otherwise their values decide, too.
        read_answer: returns a record's one answer with the verdict on it, or raises Unreadable; None for pairs.
    """

    shape: str
    columns: dict[str, str]
    read: Callable[[Record], Iterable[RawPair]] = field(repr=False)
    used: frozenset[str] = frozenset()
    only_columns: tuple[str, str, str] | None = None
    tie_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    alike: bool = False
    by_names: bool = False
    read_answer: Callable[[Record], RawAnswer] | None = field(default=None, repr=False)


class UnclearColumnError(Unreadable):
    """A row whose value contradicts how its column is read, so that no other row of the file can be relied on."""

    def __init__(self, message: str) -> None:
        super().__init__("missing-field", message)


Shape = Callable[[Record, ColumnMapping], Binding | None]
_SHAPES: dict[str, Shape] = {}


def shape(name: str) -> Callable[[Shape], Shape]:
    """Register a shape under a name."""

    def register(function: Shape) -> Shape:
        _SHAPES[name] = function
        return function

    return register


@lru_cache(maxsize=1)
def shapes() -> dict[str, Shape]:
    """All shapes by name, in the order in which they are tried."""
    for module in _MODULES:
        importlib.import_module(f"dpo_tui.data.rows.shapes.{module}")
    return dict(_SHAPES)


def bind(record: Record, mapping: ColumnMapping) -> Binding:
    """Find the shape that fits a record; the last one fits every record, and says what it lacks."""
    found = (bind_shape(record, mapping) for bind_shape in shapes().values())
    return next(binding for binding in found if binding is not None)
