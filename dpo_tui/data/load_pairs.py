"""Read a whole dataset into preference pairs.

:mod:`dpo_tui.data.load_rows` finds the files, numbers their rows, and calls back for each:
:mod:`dpo_tui.data.rows.record_to_pairs` makes turns of a row, and :func:`dpo_tui.data.pairs.pair.pair_of` turns texts
into user and assistant messages, so that TRL applies the chat template to every pair.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from dpo_tui.data.load_rows import load_rows
from dpo_tui.data.pairs.pair import Pair, RowProblem, Turns, Unreadable, pair_of, reason_unusable
from dpo_tui.data.rows.column_use import reading_notes, unused_notes
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import Progress, Source
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.stored.reading_cache import Reading, read_or_recall


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
        notes: what was assumed about files as a whole or is wrong with them; what is doubtful about rows; how columns
            were read where they could be read otherwise; and the columns that nobody reads.
        sources: the rows of each location, where there are several.
        places: names the file of a row.
    """

    pairs: Sequence[Pair]
    format: str
    total: int
    dropped: list[RowProblem]
    sha256: str
    columns: dict[str, str]
    notes: list[str] = field(default_factory=list)
    sources: list[SourceRows] = field(default_factory=list)
    places: RowPlaces = field(default_factory=lambda: RowPlaces([], []))


def load_pairs(source: Source, progress: Progress | None = None) -> LoadedPairs:
    """Read and normalise a preference dataset.

    Args:
        source: where it is.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: it cannot be read, or no row of it can be used; the message shows what was found.
    """
    return read_or_recall(source, progress, LoadedPairs, Pair, partial(_read, source))


def _read(source: Source, reading: Reading[Pair]) -> LoadedPairs:
    recogniser = Recogniser(source.mapping)

    def pairs_of(number: int, row: Row) -> list[Pair]:
        return [pair_of(number, turns) for turns in usable_turns(row, recogniser)]

    loaded = load_rows(source, reading, recogniser, pairs_of)
    return LoadedPairs(
        pairs=loaded.items,
        format=format_name(recogniser.formats),
        total=loaded.total,
        dropped=loaded.dropped,
        sha256=loaded.sha256,
        columns=columns_of(recogniser),
        notes=[
            *loaded.notes,
            *tie_notes(loaded.dropped, loaded.total),
            *reading_notes(recogniser.notes),
            *unused_notes(recogniser.columns.unused),
        ],
        sources=loaded.sources,
        places=loaded.places,
    )


def tie_notes(dropped: list[RowProblem], total: int) -> list[str]:
    """The sentence about rows whose answers are equally good; none where there is no such row."""
    ties = sum(problem.check == "tie" for problem in dropped)
    return [f"{ties:,} of {total:,} rows are ties and are left out"] if ties else []


def usable_turns(row: Row, recogniser: Recogniser) -> list[Turns]:
    """The pairs of one row that can be trained on.

    Args:
        row: as :func:`dpo_tui.data.load_rows.numbered_rows` yields it.
        recogniser: finds its format.

    Raises:
        Unreadable: the row cannot be read, or has no such pair.
    """
    if isinstance(row, Unreadable):
        raise row.fresh()
    found = recogniser.pairs(row)
    reasons = [reason_unusable(turns) for turns in found]
    usable = [turns for turns, reason in zip(found, reasons, strict=True) if reason is None]
    if not usable:
        raise next(reason for reason in reasons if reason is not None).fresh()
    return usable


def format_name(formats: Counter[str]) -> str:
    """The name of a dataset's format; of a mixed one, all of them, the most frequent first."""
    names = [name for name, _ in formats.most_common()]
    return names[0] if len(names) == 1 else "mixed: " + ", ".join(names) if names else "unknown"


def columns_of(recogniser: Recogniser) -> dict[str, str]:
    """The column that holds each part of an example, in the most frequent format."""
    if not recogniser.formats:
        return {}
    return dict(recogniser.evidence[recogniser.formats.most_common(1)[0][0]])
