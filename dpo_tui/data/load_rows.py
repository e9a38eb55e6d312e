"""Read the rows of a dataset: what loading pairs and loading demonstrations have in common.

Files come from :mod:`dpo_tui.data.source.locate`, rows from :mod:`dpo_tui.data.source.chunks`, which also decompresses,
decodes and parses; rows that cannot be used are collected here, each with its number and reason.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from dpo_tui.data.pairs.pair import RowProblem, Unreadable
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import TextChunk, chunks_of, rows_with_warnings
from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.row_warnings import NOT_A_NUMBER, REPEATED_KEY
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.data.source_mix import SourceRows, chosen_rows, sources_of
from dpo_tui.data.stored.reading_cache import Reading, sha256_of
from dpo_tui.errors import DataError
from dpo_tui.text.printable import printable

_EXPECTED = 'One pair a line is expected, such as {"prompt": "…", "chosen": "…", "rejected": "…"}'
EXPECTED_ANSWER = 'One labelled answer a line is expected, such as {"prompt": "…", "completion": "…", "label": true}'
_OTHER_COLUMNS = {
    _EXPECTED: "Name other columns: prompt_field, chosen_field, rejected_field (inspect: --prompt-field …).",
    EXPECTED_ANSWER: "Name other columns by prompt_field, completion_field, label_field.",
}
_WARNINGS = {REPEATED_KEY: "a key occurs twice", NOT_A_NUMBER: "a number is NaN or infinite"}
_FILES_NAMED = 4
_ROWS_NAMED = 5
"""Rows that a note names."""


class Numbered(Protocol):
    """What is made of a row, with the number of the row."""

    @property
    def row(self) -> int: ...  # noqa: D102


Item = TypeVar("Item", bound=Numbered)


@dataclass(frozen=True, slots=True)
class LoadedRows(Generic[Item]):
    """The rows of a dataset, and what was found while reading them.

    Args:
        items: what was made of the usable rows, in their order.
        total: rows in the source, blank lines not counted.
        dropped: the rows that cannot be used, each with the reason.
        sha256: of the files' bytes, one after the other.
        notes: what was assumed about files as a whole, and what is doubtful about rows that can be used.
        sources: the rows of each location of the dataset, where it has several.
        places: names the file of a row.
    """

    items: Sequence[Item]
    total: int
    dropped: list[RowProblem]
    sha256: str
    notes: list[str]
    sources: list[SourceRows]
    places: RowPlaces


def load_rows(
    source: Source,
    reading: Reading[Item],
    recogniser: Recogniser,
    convert: Callable[[int, Row], list[Item]],
    *,
    expected: str = _EXPECTED,
) -> LoadedRows[Item]:
    """Read a dataset.

    Args:
        source: where it is.
        reading: has its files, and collects the items.
        recogniser: gets the flag whether a file is a table of untyped cells.
        convert: makes items of a row and its number, or raises Unreadable.
        expected: an example of a row, for the error.

    Raises:
        DataError: it cannot be read, or no row of it can be used; the message shows what was found.
    """
    files = reading.files
    dropped: list[RowProblem] = []
    notes = [*reading.notes, *notes_on(files)]
    first_rows: list[int] = []
    places = RowPlaces([file.path for file in files], first_rows)
    rows = [0] * len(source.locations)
    total = 0
    example: tuple[int, Any] | None = None
    for number, row in numbered_rows(files, source.rows_read, recogniser, notes, first_rows, reading=reading):
        count = len(row) if type(row) is PairRun else 1
        total += count
        rows[files[len(first_rows) - 1].part] += count
        if type(row) is PairRun:
            for kind, found in row.counts():
                recogniser.count_rows(kind.record, found, kind.format)
            reading.add_pairs(number, row)
            continue
        if example is None and not isinstance(row, Unreadable):
            example = (number, row)
        try:
            reading.add(convert(number, row))
        except Unreadable as problem:
            dropped.append(RowProblem(number, problem.check, problem.message, places.of(number)))
    raise_if_unclear(source.name, recogniser.unclear)
    items: Sequence[Item] = reading.collected()
    raise_if_unusable(source.name, total, len(items), DroppedRows.of(dropped), example, expected=expected)
    sources: list[SourceRows] = []
    if source.more:
        numbers = _rows_of_sources(items, files, first_rows, len(rows))
        usable = [len(one) for one in numbers]
        sources = sources_of(source.locations, rows, usable, source.weights, source.max_rows)
        notes += [one.note() for one in sources]
        if source.weights:
            used = [
                chosen_rows(one, found.used, source.seed, part)
                for part, (one, found) in enumerate(zip(numbers, sources, strict=True))
            ]
            chosen = set().union(*used)
            items = _with_numbers(items, chosen)
    return LoadedRows(items, total, dropped, reading.sha256 or sha256_of(files), notes, sources, places)


def _with_numbers(items: Sequence[Item], chosen: set[int]) -> Sequence[Item]:
    if isinstance(items, list):
        return [item for item in items if item.row in chosen]
    import numpy as np

    stored: Any = items
    return stored.where(np.isin(stored.row_numbers, np.fromiter(chosen, np.int64, len(chosen))))  # type: ignore[no-any-return]


def notes_on(files: list[DataFile]) -> list[str]:
    """What is to be said of a dataset's files: which are left, that several are read as one, which are named twice."""
    paths = [file.path for file in files]
    left = [file.note for file in files if file.note]
    if len(paths) < 2 or all(file.kind == "arrow" for file in files):  # noqa: PLR2004 (parts of a saved dataset)
        return left
    alike = len({path.name for path in paths}) < len(set(paths))  # such as en/train.jsonl and de/train.jsonl
    shown = [f"{path.parent.name}/{path.name}" if alike else path.name for path in paths[:_FILES_NAMED]]
    names = ", ".join(shown) + (", …" if len(paths) > _FILES_NAMED else "")
    notes = [*left, f"{len(paths):,} files are read as one dataset: {names}"]
    twice = sorted({path.name for path in paths if paths.count(path) > 1})
    return notes + ([f"{', '.join(twice[:_FILES_NAMED])}: named twice, and read twice"] if twice else [])


def _rows_of_sources(
    items: Sequence[Numbered], files: list[DataFile], first_rows: list[int], count: int
) -> list[list[int]]:
    """The numbers of the rows of each source that items were made of, in order."""
    stored: Any = items
    of_items = [item.row for item in items] if isinstance(items, list) else stored.row_numbers.tolist()
    numbers: list[list[int]] = [[] for _ in range(count)]
    for row in of_items:
        found = numbers[files[bisect.bisect_right(first_rows, row - 1) - 1].part]
        if not found or found[-1] != row:
            found.append(row)
    return numbers


def numbered_rows(
    files: list[DataFile],
    max_rows: int | None,
    recogniser: Recogniser,
    notes: list[str],
    first_rows: list[int] | None = None,
    *,
    reading: Reading[Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield every row that is not blank, with its number from 1; the rows of further files continue the count.

    Args:
        files: the files of one dataset.
        max_rows: rows to yield at most; None yields all.
        recogniser: gets the flag whether a file is a table of untyped cells.
        notes: gets what is wrong with a file as a whole, and at the end what is doubtful about rows.
        first_rows: gets for each file, when it is begun, how many rows come before it.
        reading: may have other rows made of chunks, and counts them.

    Yields:
        The number, and the row: a record, why it cannot be read, or from the reading several rows as a run of pairs.
    """
    number = 0
    seen = 0
    starts: list[int] = [] if first_rows is None else first_rows
    doubtful = _DoubtfulRows(RowPlaces([file.path for file in files], starts))
    batches_of = reading.batches_of(recogniser) if reading else rows_with_warnings
    before = 0
    for file in files:
        if max_rows is not None and seen >= max_rows:
            break
        starts.append(number)
        recogniser.cells = file.kind == "csv"
        for chunk in reading.reported(chunks_of(file), before) if reading else chunks_of(file):
            if isinstance(chunk, TextChunk):
                notes += [note for note in chunk.notes if note not in notes]
            for batch in batches_of(chunk):
                for warning in batch.warnings:
                    doubtful.add(warning.check, number + warning.row + 1, warning.message)
                for row in batch.rows:
                    number += 1
                    if row is None:
                        continue
                    if max_rows is not None and seen >= max_rows:
                        notes += doubtful.notes(number - 1)
                        return
                    if type(row) is PairRun:
                        run = row if max_rows is None else row.part(0, max_rows - seen)
                        yield number, run
                        number += len(run) - 1
                        seen += len(run)
                        continue
                    seen += 1
                    yield number, row
        before += file.path.stat().st_size
    notes += doubtful.notes(number)


@dataclass(slots=True)
class _DoubtfulRows:
    """Rows that can be used and that a check warns of: how many there are, the first ones, and the first reason."""

    places: RowPlaces
    rows: dict[str, list[int]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, row: int, reason: str) -> None:
        self.rows.setdefault(check, []).append(row)
        self.reasons.setdefault(check, reason)

    def notes(self, last: int) -> Iterator[str]:
        """A note for each check, about the rows up to the last one that was used."""
        for check, numbers in self.rows.items():
            found = [row for row in numbers if row <= last]
            if not found:
                continue
            more = ", …" if len(found) > _ROWS_NAMED else ""
            named = ", ".join(map(str, found[:_ROWS_NAMED]))
            rows = "row" if len(found) == 1 else "rows"
            first = f"{self.places.label(found[0])}: {self.reasons[check]}"
            yield f"{_WARNINGS[check]} in {len(found):,} {rows} ({named}{more}): {first}"


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
    location: str,
    total: int,
    usable: int,
    dropped: DroppedRows,
    example: tuple[int, Any] | None,
    *,
    expected: str = _EXPECTED,
) -> None:
    """Raise if a dataset has no usable row, or if more than half of its rows cannot be parsed.

    Args:
        location: the dataset, as the user named it.
        total: rows in it.
        usable: pairs or demonstrations in it.
        dropped: the other rows.
        example: number and content of the first row that could be parsed, to be shown.
        expected: an example of a row in words.

    Raises:
        DataError: with what was found and what was expected.
    """
    if total == 0:
        raise DataError(f"{location} has no rows", hint=f"{expected}.")
    if dropped.first_broken is not None and dropped.broken * 2 > total:
        first = dropped.first_broken
        or_csv = "; CSV files need the suffix .csv" if first.message.startswith("not JSON") else ""
        raise DataError(
            f"{location}: {dropped.broken} of {total} rows cannot be read, "
            f"the first is {first.label}: {printable(first.message)}",
            hint=f"{expected}{or_csv}.",
        )
    if usable == 0:
        shown = f"\n  row {example[0]}: {_excerpt(example[1])}" if example else ""
        every = "every row" if dropped.reason_count == total else f"{dropped.reason_count} of {total} rows"
        raise DataError(
            f"{location} has no row that can be used; {every}: {printable(dropped.reason)}{shown}",
            hint=f"{expected}. {_OTHER_COLUMNS[expected]}",
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


def _excerpt(record: Any) -> str:
    """The beginning of a record as JSON, on one line."""
    import orjson

    try:
        shown = orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        shown = repr(record)
    shown = printable(shown, single_line=True)
    return shown if len(shown) <= 160 else shown[:160] + "…"  # noqa: PLR2004 (two lines of a terminal)
