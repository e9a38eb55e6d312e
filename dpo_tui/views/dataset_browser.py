"""Random access to the pairs of a dataset, search by check or by text, and the user's decisions about rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.pairs.labelled_answer import LabelledTurns
from dpo_tui.data.pairs.pair import Turns, Unreadable, reason_unusable, text_of
from dpo_tui.data.pairs.word_diff import word_difference
from dpo_tui.data.repair.repair import Repaired, repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.repair.row_forms import LABELLED_ANSWERS, PAIRS, Edit, RowForm
from dpo_tui.data.rows.column_names import column_names
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.rows.shapes.prompt_columns import PROMPT_COLUMNS
from dpo_tui.data.scan.row_index import RowIndex, open_index
from dpo_tui.data.scan.row_search import labelled_turns_of, next_flagged, search, turns_of
from dpo_tui.data.scan.scan_cache import cached_flags
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from dpo_tui.text.location_list import locations_of


@dataclass(frozen=True)
class Decisions:
    """What the user decided about rows, by row number from 1. Immutable: each method returns a copy.

    Attributes:
        dropped: rows to leave out.
        flipped: rows whose answers are to be swapped.
        edits: new texts.
    """

    dropped: frozenset[int] = frozenset()
    flipped: frozenset[int] = frozenset()
    edits: Mapping[int, Edit] = field(default_factory=dict)

    def drop(self, row: int) -> "Decisions":
        """Mark a row as dropped, or as not dropped where it is."""
        return replace(self, dropped=self.dropped ^ {row})

    def flip(self, row: int) -> "Decisions":
        """Mark a row as flipped, or as not flipped where it is."""
        return replace(self, flipped=self.flipped ^ {row})

    def edit(self, row: int, edit: Edit) -> "Decisions":
        """Replace the texts of a row."""
        return replace(self, edits={**self.edits, row: edit})

    def summary(self, row: int) -> str:
        """The decisions about a row as text, such as ``flipped, edited``; empty when there is none."""
        decided = (("dropped", self.dropped), ("flipped", self.flipped), ("edited", self.edits))
        return ", ".join(name for name, rows in decided if row in rows)

    @property
    def count(self) -> int:
        """How many rows have a decision."""
        return len(self.dropped | self.flipped | set(self.edits))


@dataclass(frozen=True, slots=True)
class BrowsedPair:
    """The pair of one row, with the user's decisions applied.

    Attributes:
        row: its number, from 1.
        prompt: the text of the prompt.
        chosen: the text of the chosen answer.
        rejected: the text of the rejected answer.
        difference: pieces of the chosen and of the rejected answer: (text, whether the other answer lacks it).
        problem: why the row gives no pair; empty when it does.
        source: the row as it stands in the file, where it gives no pair.
        flagged_by: ids of the checks that flagged the row.
        more: number of further pairs in the same row.
        place: the file and the row in it, where the dataset has several files.
    """

    row: int
    prompt: str = ""
    chosen: str = ""
    rejected: str = ""
    difference: tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]] = ((), ())
    problem: str = ""
    source: str = ""
    flagged_by: tuple[str, ...] = ()
    more: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True)
class RepairPreview:
    """How many rows a repaired copy would keep and leave out. Each row is counted once.

    Attributes:
        rows: rows of the dataset without blank lines.
        unusable: rows that training drops in any case.
        by_check: usable rows that a chosen check flagged.
        by_hand: rows that only the user dropped.
        changed: rows that are kept and were flipped or edited.
    """

    rows: int
    unusable: int = 0
    by_check: int = 0
    by_hand: int = 0
    changed: int = 0

    @property
    def kept_rows(self) -> int:
        """Rows in the copy."""
        return self.rows - self.unusable - self.by_check - self.by_hand

    def summary(self) -> str:
        """The counts as one or two sentences."""
        left_out = (
            (self.by_check, "by these checks"),
            (self.by_hand, "by hand"),
            (self.unusable, "as they cannot be used"),
        )
        out = [f"{count:,} {why}" for count, why in left_out if count]
        text = f"{self.kept_rows:,} of {self.rows:,} rows stay"
        text += f"; left out: {', '.join(out)}." if out else "."
        return f"{text} {self.changed:,} changed." if self.changed else text


def _rewritten(edit: Edit) -> Turns:
    """The pair that an edit makes by itself, of a row that gave none."""
    return Turns(edit.prompt or "", edit.chosen or "", edit.rejected or "")


def _browsed_answer(row: int, labelled: LabelledTurns, flagged_by: tuple[str, ...], place: str) -> BrowsedPair:
    """A labelled answer in the place of the chosen answer where it is desirable, else of the rejected one."""
    prompt, answer = text_of(labelled.turns.prompt), text_of(labelled.turns.chosen)
    chosen, rejected = (answer, "") if labelled.desirable else ("", answer)
    pieces = ((answer, False),)
    difference = (pieces, ()) if labelled.desirable else ((), pieces)
    return BrowsedPair(row, prompt, chosen, rejected, difference, flagged_by=flagged_by, place=place)


def _decided(labelled: LabelledTurns, row: int, decisions: Decisions) -> LabelledTurns:
    """A labelled answer with the decisions about its row applied."""
    if (edit := decisions.edits.get(row)) is not None:
        labelled = LABELLED_ANSWERS.edited(labelled, edit)
    return LABELLED_ANSWERS.flipped(labelled) if row in decisions.flipped else labelled


class DatasetBrowser:
    """A dataset opened for reading any row. Every method may read the disk: call them from a thread.

    Args:
        location: a path or a hub id, or several with commas between.
        source: the same with the settings that it is read by; None recognises columns and encoding.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, location: str, source: Source | None = None) -> None:
        self.source = source or Source.of(locations_of(location) or (location,))
        self._index: RowIndex = open_index(self.source)
        self._recogniser = Recogniser(self.source.mapping)
        self._checks = checks()

    @property
    def count(self) -> int:
        """Number of rows, blank lines included."""
        return self._index.count

    def at(self, row: int, decisions: Decisions) -> BrowsedPair:
        """The pair of a row, with the decisions applied.

        Args:
            row: number of the row, from 1.
            decisions: the user's.

        Raises:
            DataError: the file was changed since it was indexed.
        """
        content = self._index.row(row)
        found = turns_of(content, self._recogniser)
        place = self._index.places.of(row)
        flagged_by = self._checks_of(row)
        if found is None:
            return BrowsedPair(row, problem="a blank line", flagged_by=flagged_by, place=place)
        if isinstance(found, Unreadable) and (edit := decisions.edits.get(row)) is not None:
            rewritten = _rewritten(edit)
            found = reason_unusable(rewritten) or [rewritten]
        if isinstance(found, Unreadable):
            labelled = labelled_turns_of(content, self._recogniser)
            if labelled:
                return _browsed_answer(row, _decided(labelled[0], row, decisions), flagged_by, place)
            source = self._index.source_text(row)
            return BrowsedPair(row, problem=found.message, source=source, flagged_by=flagged_by, place=place)
        turns = found[0]
        prompt, chosen, rejected = text_of(turns.prompt), text_of(turns.chosen), text_of(turns.rejected)
        if (edit := decisions.edits.get(row)) is not None:
            prompt = prompt if edit.prompt is None else text_of(edit.prompt)
            chosen = chosen if edit.chosen is None else text_of(edit.chosen)
            rejected = rejected if edit.rejected is None else text_of(edit.rejected)
        if row in decisions.flipped:
            chosen, rejected = rejected, chosen
        left, right = word_difference(chosen, rejected)
        difference = (
            tuple((piece.text, piece.kind == "only") for piece in left),
            tuple((piece.text, piece.kind == "only") for piece in right),
        )
        more = len(found) - 1
        return BrowsedPair(row, prompt, chosen, rejected, difference, flagged_by=flagged_by, more=more, place=place)

    def draft(self, row: int) -> tuple[str, str, str]:
        """What can be read of the prompt, the chosen and the rejected answer of a row that gives no pair.

        Raises:
            DataError: the file was changed since it was indexed.
        """
        content = self._index.row(row)
        if not isinstance(content, dict):
            return "", "", ""
        try:
            turns = self._recogniser.pairs(content)[0]
            return text_of(turns.prompt), text_of(turns.chosen), text_of(turns.rejected)
        except (Unreadable, IndexError):
            names = column_names(content)
            mapping = self.source.mapping
            parts = ((PROMPT_COLUMNS, mapping.prompt), (("chosen",), mapping.chosen), (("rejected",), mapping.rejected))
            values = [content.get(names.find(known, own) or "") for known, own in parts]
            prompt, chosen, rejected = (value if isinstance(value, str) else "" for value in values)
            return prompt, chosen, rejected

    def next_flagged(self, check: str, row: int, *, backwards: bool = False) -> int | None:
        """The nearest row that a check flagged.

        Args:
            check: id of the check.
            row: where to begin; this row is not considered.
            backwards: search towards the first row.

        Returns:
            None when there is no such row, or the dataset was not scanned yet.
        """
        flags = cached_flags(self.source)
        if flags is None or check not in self._checks:
            return None
        return next_flagged(flags, self._checks[check].bit, row, backwards=backwards)

    def find(self, query: str, row: int) -> int | None:
        """The first row from ``row`` on whose pair contains a text; None when there is none."""
        return next(search(self._index, self._recogniser, query, start=row), None)

    def remaining(self, decisions: Decisions, drop_checks: tuple[str, ...]) -> RepairPreview:
        """Count what `save` would keep and leave out.

        Args:
            decisions: the user's.
            drop_checks: ids of the checks whose rows are left out.

        Raises:
            DataError: the dataset was changed since its scan.
        """
        import numpy as np  # not needed to open the screen

        from dpo_tui.data.scan.pair_batcher import BLANK

        path = cached_flags(self.source)
        if path is None:
            raise DataError("the dataset was changed while it was looked at", hint="Open it again.")
        flags = np.fromfile(path, dtype=np.uint32)
        blank = flags == BLANK
        unusable = flags & np.uint32(self._mask(lambda check: check.is_left_out)) != 0
        flagged = flags & np.uint32(self._mask(lambda check: check.id in drop_checks)) != 0
        # A row that gave no pair, and that the user has written anew.
        written = [row - 1 for row, edit in decisions.edits.items() if reason_unusable(_rewritten(edit)) is None]
        unusable[[at for at in written if 0 <= at < len(unusable)]] = False
        left_out = unusable | flagged | blank

        def remaining_of(rows: Iterable[int]) -> set[int]:
            return {row for row in rows if 0 < row <= len(left_out) and not left_out[row - 1]}

        by_hand = remaining_of(decisions.dropped)
        return RepairPreview(
            rows=len(flags) - int(blank.sum()),
            unusable=int(unusable.sum()),
            by_check=int((flagged & ~unusable).sum()),
            by_hand=len(by_hand),
            changed=len(remaining_of(decisions.flipped | set(decisions.edits)) - by_hand),
        )

    def _mask(self, wanted: Callable[[Check], bool]) -> int:
        """The bits of a row's flags that stand for some checks; checks of the whole dataset flag no row."""
        return sum(1 << check.bit for check in self._checks.values() if check.judge_dataset is None and wanted(check))

    def save(
        self,
        decisions: Decisions,
        drop_checks: tuple[str, ...],
        out: Path,
        form: RowForm = PAIRS,
        *,
        fix_encoding: bool = False,
    ) -> Repaired:
        """Write a repaired copy; an existing file is replaced, the input is never changed.

        Args:
            decisions: the user's.
            drop_checks: ids of the checks whose rows are left out.
            out: the file to write.
            form: of the rows, as the scan found it.
            fix_encoding: restore texts that were encoded twice.

        Raises:
            UsageError: the output is the input.
            DataError: it cannot be written.
        """
        plan = RepairPlan(
            drop_checks=drop_checks,
            drop_rows=decisions.dropped,
            flip_rows=decisions.flipped,
            edits=decisions.edits,
            fix_encoding=fix_encoding,
        )
        return repair(self.source, plan, out, over=True, form=form)

    def _checks_of(self, row: int) -> tuple[str, ...]:
        # The scan wrote one little-endian uint32 a row: a bit for each check.
        flags = cached_flags(self.source)
        if flags is None:
            return ()
        try:
            with flags.open("rb") as file:
                file.seek(4 * (row - 1))
                bits = int.from_bytes(file.read(4), "little")
        except OSError:
            return ()
        return tuple(check.id for check in self._checks.values() if bits >> check.bit & 1)
