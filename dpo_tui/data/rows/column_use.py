"""Which columns of a dataset are read, and what the others might be: reports name them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpo_tui.data.rows.column_names import ANSWER_TERMS, SCORE_TERMS, number_of, terms_of
from dpo_tui.data.rows.messages import decoded_messages, is_messages
from dpo_tui.data.rows.shapes.better_answer import may_mark_ties
from dpo_tui.data.rows.shapes.prompt_columns import PROMPT_COLUMNS

# Records with endless new columns would otherwise fill the memory.
_NAMES_KEPT = 256
_SHAPES_KEPT = 1024
_NAMES_SHOWN = 6
_ANSWERS = frozenset(form for term in ANSWER_TERMS for form in (term, f"{term}s")) | {"chosen", "rejected"}
_SCORES = frozenset(form for term in SCORE_TERMS for form in (term, f"{term}s"))


@dataclass(frozen=True, slots=True)
class ColumnRole:
    """What a column that is not read might be.

    Args:
        id: its name in reports.
        fits: whether a column may be that, by the terms of its name and a value of it.
        sentence: what is said of such columns; ``{names}`` and ``{first}`` stand for all and for the first of them.
        of_demonstrations: the same for rows without a preference. Where it is empty, that is the sentence without what
            follows its semicolon, which is about settings of pairs.
    """

    id: str
    fits: Callable[[tuple[str, ...], Any], bool]
    sentence: str
    of_demonstrations: str = ""


def _has(*terms: str) -> Callable[[tuple[str, ...], Any], bool]:
    known = frozenset(terms)
    return lambda name, value: bool(known.intersection(name))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or is_messages(decoded_messages(value))


def _is_prefix(name: tuple[str, ...], value: Any) -> bool:
    if not isinstance(value, (str, type(None))):
        return False
    beginning = {
        "initial",
        "partial",
        "preceding",
        "previous",
        "prior",
        "shared",
        "common",
        "begin",
        "beginning",
        "start",
    }
    parts = {"steps", "step", "reasoning", "solution", "thought", "thoughts", "rationale"} | _ANSWERS
    return bool({"prefix", "prefill"}.intersection(name)) or bool(beginning & {*name} and parts & {*name})


def _is_weight(name: tuple[str, ...], value: Any) -> bool:
    return bool({"weight", "weights", "importance"} & {*name}) and (value is None or number_of(value) is not None)


def _is_margin(name: tuple[str, ...], value: Any) -> bool:
    is_margin = {"margin", "strength", "gap", "delta", "diff", "difference"} & {*name}
    return bool(is_margin) and (value is None or number_of(value) is not None)


def _is_score(name: tuple[str, ...], value: Any) -> bool:
    is_number = number_of(value) is not None or isinstance(value, (list, dict, type(None)))
    return is_number and bool(({"logp", "logps", "logprob", "logprobs", "confidence"} | _SCORES) & {*name})


def _is_answer(name: tuple[str, ...], value: Any) -> bool:
    return (
        bool(_ANSWERS & {*name})
        and "raw" not in name
        and (_is_text(value) or isinstance(value, list))
        and not _METADATA & {*name}
    )


def _is_prompt(name: tuple[str, ...], value: Any) -> bool:
    return "_".join(name) in PROMPT_COLUMNS and _is_text(value)


def _is_tie(name: tuple[str, ...], value: Any) -> bool:
    return may_mark_ties("_".join(name)) and isinstance(value, (str, int, float))


def _is_metadata(name: tuple[str, ...], _value: Any) -> bool:
    return bool(_METADATA & {*name[:1], *name[-1:]} or {"sha", "hash", "uuid"} & {*name})


_METADATA = frozenset(
    {
        *(
            "id",
            "ids",
            "uid",
            "uuid",
            "qid",
            "sha",
            "sha256",
            "hash",
            "md5",
            "index",
            "idx",
            "row",
            "source",
            "sources",
        ),
        *("lang", "language", "timestamp", "tstamp", "time", "date", "created", "updated", "model", "models", "split"),
        *(
            "domain",
            "category",
            "categories",
            "topic",
            "task",
            "type",
            "tag",
            "tags",
            "dataset",
            "subset",
            "url",
            "link",
        ),
        *("author", "annotator", "worker", "batch", "judge", "turn", "turns", "license", "version", "name", "metadata"),
        *("meta", "length", "len", "num", "count", "tokens", "config", "user_id"),
    }
)
ROLES = (
    ColumnRole(
        "pictures",
        _has("image", "images", "video", "videos", "audio", "audios", "picture", "pictures"),
        "not used: {names}. Only text is trained: the model does not see them",
    ),
    ColumnRole(
        "prefix",
        _is_prefix,
        "not used: {names}, perhaps the beginning that both answers share; "
        'prefix_field = "{first}" puts it before both of them',
        "not used: {names}, perhaps the beginning of the answer",
    ),
    ColumnRole(
        "weight",
        _is_weight,
        "not used: {names}, perhaps a weight of the row; every pair counts the same in training",
        "not used: {names}, perhaps a weight of the row; every row counts the same in training",
    ),
    ColumnRole(
        "margin", _is_margin, "not used: {names}, perhaps how much better an answer is; training does not use it yet"
    ),
    ColumnRole("metadata", _is_metadata, ""),
    ColumnRole("score", _is_score, "not used: {names}, perhaps scores; pairs can be filtered by them before training"),
    ColumnRole(
        "tie",
        _is_tie,
        "not used: {names}, perhaps a verdict; of its values only words such as tie have a meaning here",
    ),
    ColumnRole(
        "system",
        _has("system", "persona"),
        'not used: {names}, perhaps a system message; system_field = "{first}" takes it',
    ),
    ColumnRole(
        "prompt", _is_prompt, 'not used: {names}, perhaps the prompt or a part of it; prompt_field = "{first}" takes it'
    ),
    ColumnRole(
        "answer",
        _is_answer,
        "not used: {names}, perhaps other answers; chosen_field and rejected_field name those to train on",
    ),
)
"""In the order in which they are tried; what is none of these is ``other``."""
_METADATA_ROLES = frozenset({"metadata", "other"})


@dataclass
class ColumnUse:
    """The columns that were read, and those that were not.

    Attributes:
        read: names of columns that some row was read by.
        unread: what each other column might be: the id of a role, or ``other``.
    """

    read: set[str] = field(default_factory=set)
    unread: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[tuple[str, ...], frozenset[str]]] = field(default_factory=set)

    def add(self, record: Mapping[str, Any], used: frozenset[str]) -> None:
        """Take note of the columns of a record.

        Args:
            record: columns and values.
            used: the columns by which it is read.
        """
        key = tuple(record), used
        if key in self._seen or len(self._seen) >= _SHAPES_KEPT:
            return
        self._seen.add(key)
        self.read |= used
        for name, value in record.items():
            is_new = name not in self.unread and len(self.unread) < _NAMES_KEPT
            if name not in used and (is_new or self.unread.get(name) == "other"):
                self.unread[name] = role_of(name, value)

    def merge(self, read: Iterable[str], unread: Mapping[str, str]) -> None:
        """Add what another reader of the same dataset found."""
        self.read.update(read)
        for name, role in unread.items():
            self.unread.setdefault(name, role)

    @property
    def unused(self) -> dict[str, str]:
        """What each column might be that no row was read by."""
        return {name: role for name, role in self.unread.items() if name not in self.read}


def role_of(name: str, value: Any) -> str:
    """The id of the first role that fits a column."""
    terms = terms_of(name)
    return next((role.id for role in ROLES if role.fits(terms, value)), "other")


def unused_notes(unused: Mapping[str, str], *, demonstrations: bool = False) -> list[str]:
    """Sentences about columns that are not read: one for each role, and one line for metadata and the like.

    Args:
        unused: :attr:`ColumnUse.unused`.
        demonstrations: the rows are no pairs.
    """
    notes = []
    for role in ROLES:
        names = [name for name, found in unused.items() if found == role.id]
        sentence = role.sentence
        if demonstrations:
            sentence = role.of_demonstrations or sentence.partition(";")[0]
        if names and sentence:
            notes.append(sentence.format(names=_listed(names), first=names[0]))
    others = [name for name, found in unused.items() if found in _METADATA_ROLES]
    if others:
        notes.append(f"not used either: {_listed(others)}" if notes else f"not used: {_listed(others)}")
    return notes


def reading_notes(counted: Mapping[str, int]) -> list[str]:
    """Sentences about how columns were read and what was left out, with the number of rows."""
    return [f"{note} ({count:,} {'row' if count == 1 else 'rows'})" for note, count in counted.items()]


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown
