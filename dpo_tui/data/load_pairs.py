"""Read a whole dataset into preference pairs; what other readers of rows share is here too."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpo_tui.data.pairs.pair import Pair, RowProblem, Turns, Unreadable, pair_of, reason_unusable
from dpo_tui.data.rows.column_use import reading_notes, unused_notes
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import TextChunk, chunks_of, rows
from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Progress, Source
from dpo_tui.errors import DataError
from dpo_tui.text.printable import printable

_EXPECTED = 'One pair a line is expected, such as {"prompt": "…", "chosen": "…", "rejected": "…"}'


@dataclass(frozen=True, slots=True)
class LoadedPairs:
    """The pairs of a dataset, and what was found while reading it.

    Args:
        pairs: the usable pairs, in the order of the source.
        format: name of the rows' format; several names, the most frequent first, if the file is mixed.
        total: rows in the source, blank lines not counted.
        dropped: the rows that cannot be used, each with the reason.
        sha256: of the files' bytes, one after the other.
        columns: the column that holds each part of a pair, in the most frequent format.
        notes: what is wrong with a file as a whole, such as a trailing comma; how columns were read where they could be
            read otherwise; and the columns that nobody reads.
    """

    pairs: list[Pair]
    format: str
    total: int
    dropped: list[RowProblem]
    sha256: str
    columns: dict[str, str]
    notes: list[str] = field(default_factory=list)


def load_pairs(source: Source, progress: Progress | None = None) -> LoadedPairs:
    """Read and normalise a preference dataset.

    Args:
        source: where it is.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: it cannot be read, or no row of it can be used; the message shows what was found.
    """
    files = locate(source, progress)
    recogniser = Recogniser(source.mapping)
    pairs: list[Pair] = []
    dropped: list[RowProblem] = []
    notes: list[str] = []
    total = 0
    example: tuple[int, Any] | None = None
    for number, row in numbered_rows(files, source.max_rows, recogniser, notes):
        total += 1
        if example is None and not isinstance(row, Unreadable):
            example = (number, row)
        try:
            pairs += [pair_of(number, turns) for turns in usable_turns(row, recogniser)]
        except Unreadable as problem:
            dropped.append(RowProblem(number, problem.check, problem.message))
    raise_if_unclear(source.location, recogniser.unclear)
    raise_if_unusable(source.location, total, len(pairs), DroppedRows.of(dropped), example)
    return LoadedPairs(
        pairs=pairs,
        format=format_name(recogniser.formats),
        total=total,
        dropped=dropped,
        sha256=sha256_of(files),
        columns=_columns(recogniser),
        notes=[
            *notes,
            *tie_notes(dropped, total),
            *reading_notes(recogniser.notes),
            *unused_notes(recogniser.columns.unused),
        ],
    )


def tie_notes(dropped: list[RowProblem], total: int) -> list[str]:
    """The sentence about rows whose answers are equally good; none where there is no such row."""
    ties = sum(problem.check == "tie" for problem in dropped)
    return [f"{ties:,} of {total:,} rows are ties and are left out"] if ties else []


def usable_turns(row: Row, recogniser: Recogniser) -> list[Turns]:
    """The pairs of one row that can be trained on.

    Args:
        row: as :func:`numbered_rows` yields it.
        recogniser: finds its format.

    Raises:
        Unreadable: the row cannot be read, or has no such pair.
    """
    if isinstance(row, Unreadable):
        raise row
    found = recogniser.pairs(row)
    reasons = [reason_unusable(turns) for turns in found]
    usable = [turns for turns, reason in zip(found, reasons, strict=True) if reason is None]
    if not usable:
        raise next(reason for reason in reasons if reason is not None)
    return usable


def numbered_rows(
    files: list[DataFile], max_rows: int | None, recogniser: Recogniser, notes: list[str]
) -> Iterator[tuple[int, dict[str, Any] | Unreadable]]:
    """Yield every row that is not blank, with its number from 1; the rows of further files continue the count.

    Args:
        files: the files of one dataset.
        max_rows: rows to yield at most; None yields all.
        recogniser: gets the flag whether a file is a table of untyped cells.
        notes: gets what is wrong with a file as a whole.
    """
    number = 0
    seen = 0
    for file in files:
        recogniser.cells = file.kind == "csv"
        for chunk in chunks_of(file):
            if isinstance(chunk, TextChunk):
                notes += [note for note in chunk.notes if note not in notes]
            for batch in rows(chunk):
                for row in batch:
                    number += 1
                    if row is None:
                        continue
                    if max_rows is not None and seen >= max_rows:
                        return
                    seen += 1
                    yield number, row


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Summary of the rows that cannot be used, for the error when there are too many.

    Args:
        count: how many.
        broken: how many of them cannot be parsed.
        first_broken: the first of those.
        reason: the most frequent reason, in words.
        reason_count: how many rows are dropped for it.
    """

    count: int
    broken: int
    first_broken: RowProblem | None
    reason: str
    reason_count: int

    @classmethod
    def of(cls, dropped: list[RowProblem]) -> "DroppedRows":
        """Summarise a list of problems."""
        broken = [problem for problem in dropped if problem.check == "bad-json"]
        reason, count = Counter(problem.message for problem in dropped).most_common(1)[0] if dropped else ("", 0)
        return cls(len(dropped), len(broken), broken[0] if broken else None, reason, count)


def raise_if_unusable(
    location: str, total: int, usable: int, dropped: DroppedRows, example: tuple[int, Any] | None
) -> None:
    """Raise if a dataset has no usable row, or if more than half of its rows cannot be parsed.

    Args:
        location: the dataset, as the user named it.
        total: rows in it.
        usable: pairs or demonstrations in it.
        dropped: the other rows.
        example: number and content of the first row that could be parsed, to be shown.

    Raises:
        DataError: with what was found and what was expected.
    """
    if total == 0:
        raise DataError(f"{location} has no rows", hint=f"{_EXPECTED}.")
    if dropped.first_broken is not None and dropped.broken * 2 > total:
        first = dropped.first_broken
        or_csv = "; CSV files need the suffix .csv" if first.message.startswith("not JSON") else ""
        raise DataError(
            f"{location}: {dropped.broken} of {total} rows cannot be read, "
            f"the first is row {first.row}: {printable(first.message)}",
            hint=f"{_EXPECTED}{or_csv}.",
        )
    if usable == 0:
        shown = f"\n  row {example[0]}: {_excerpt(example[1])}" if example else ""
        every = "every row" if dropped.reason_count == total else f"{dropped.reason_count} of {total} rows"
        raise DataError(
            f"{location} has no row that can be used; {every}: {printable(dropped.reason)}{shown}",
            hint=f"{_EXPECTED}. Name other columns by --prompt-field, --chosen-field, --rejected-field.",
        )


def raise_if_unclear(location: str, unclear: Mapping[str, int]) -> None:
    """Raise if rows contradict each other about what a column means: a part of them would be trained the wrong way.

    Args:
        location: the dataset, as the user named it.
        unclear: the contradictions, in words, with the number of rows.

    Raises:
        DataError: there is one.
    """
    for message, count in unclear.items():
        raise DataError(f"{location}: what a column means is unclear from {count:,} of its rows: {message}")


def format_name(formats: Counter[str]) -> str:
    """The name of a dataset's format; of a mixed one, all of them, the most frequent first."""
    names = [name for name, _ in formats.most_common()]
    return names[0] if len(names) == 1 else "mixed: " + ", ".join(names) if names else "unknown"


def _columns(recogniser: Recogniser) -> dict[str, str]:
    if not recogniser.formats:
        return {}
    return dict(recogniser.evidence[recogniser.formats.most_common(1)[0][0]])


def sha256_of(files: list[DataFile]) -> str:
    """The SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _excerpt(record: Any) -> str:
    """The beginning of a record as JSON, on one line."""
    import orjson

    try:
        shown = orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        shown = repr(record)
    shown = printable(shown, single_line=True)
    return shown if len(shown) <= 160 else shown[:160] + "…"  # noqa: PLR2004 (two lines of a terminal)
