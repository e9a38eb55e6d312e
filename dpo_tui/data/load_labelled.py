"""Read labelled answers: one answer with a verdict on it, or each answer of preference pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from dpo_tui.data.load_pairs import columns_of, format_name, tie_notes
from dpo_tui.data.load_rows import EXPECTED_ANSWER, load_rows
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer, labelled_answer_of
from dpo_tui.data.pairs.pair import RowProblem, Unreadable
from dpo_tui.data.rows.column_use import reading_notes, unused_notes
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import Progress, Source
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.stored.reading_cache import Reading, read_or_recall
from dpo_tui.data.stored.views import as_stored
from dpo_tui.errors import DataError


@dataclass(frozen=True, slots=True)
class LoadedLabelled:
    """The usable labelled answers of a dataset; the other fields are those of ``LoadedPairs``."""

    rows: Sequence[LabelledAnswer]
    format: str
    total: int
    dropped: list[RowProblem]
    sha256: str
    notes: list[str] = field(default_factory=list)
    sources: list[SourceRows] = field(default_factory=list)
    places: RowPlaces = field(default_factory=lambda: RowPlaces([], []))
    columns: dict[str, str] = field(default_factory=dict)


def load_labelled(source: Source, progress: Progress | None = None) -> LoadedLabelled:
    """Read a dataset of labelled answers.

    Args:
        source: where it is; its ``rating_threshold`` divides answers that have ratings.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: it cannot be read, or no row of it can be used; the message shows what was found.
    """
    return read_or_recall(source, progress, LoadedLabelled, LabelledAnswer, partial(_read, source))


def _read(source: Source, reading: Reading[LabelledAnswer]) -> LoadedLabelled:
    recogniser = Recogniser(source.mapping)

    def answers_of(number: int, row: Row) -> list[LabelledAnswer]:
        if isinstance(row, Unreadable):
            raise row.fresh()
        return [labelled_answer_of(number, one) for one in recogniser.answers(row)]

    loaded = load_rows(source, reading, recogniser, answers_of, expected=EXPECTED_ANSWER)
    columns = columns_of(recogniser)
    return LoadedLabelled(
        rows=loaded.items,
        format=format_name(recogniser.formats),
        total=loaded.total,
        dropped=loaded.dropped,
        sha256=loaded.sha256,
        notes=[
            *loaded.notes,
            *tie_notes(loaded.dropped, loaded.total),
            *reading_notes(recogniser.notes),
            *unused_notes(recogniser.columns.unused, demonstrations=True),
            *_unused_threshold(source, columns),
        ],
        sources=loaded.sources,
        places=loaded.places,
        columns=columns,
    )


def _unused_threshold(source: Source, columns: Mapping[str, str]) -> list[str]:
    """Say that a threshold divides nothing where the rows are pairs, which have no ratings to divide by."""
    if source.rating_threshold is None or "label" in columns:
        return []
    return [
        f"rating_threshold = {source.rating_threshold:g} does nothing: the rows are pairs, of which the chosen answers "
        "are desirable and the rejected ones not"
    ]


def require_both_labels(location: str, rows: Sequence[LabelledAnswer], what: str = "") -> None:
    """Check that there are desirable and undesirable answers.

    Args:
        location: the dataset, as the user named it.
        rows: its answers.
        what: which of them these are, such as ``training``.

    Raises:
        DataError: every answer has the same label, so that nothing tells good from bad.
    """
    stored = as_stored(rows)
    labels = (
        {row.desirable for row in rows} if stored is None else {bool(stored.labels.any()), bool(stored.labels.all())}
    )
    if len(labels) == 1:
        kind = "desirable" if labels == {True} else "undesirable"
        part = f"{what} " if what else ""
        raise DataError(
            f"{location}: all {len(rows):,} {part}answers are labelled {kind}: there is nothing to tell them from",
            hint='Add answers of the other label. Desirable ones alone are demonstrations, for strategy = "sft".',
        )
