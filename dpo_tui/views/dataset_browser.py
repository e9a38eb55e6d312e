"""A dataset to look through: any pair at once, by check or by words, and what the person decided about each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.pairs.pair import Unreadable, text_of
from dpo_tui.data.pairs.word_diff import word_difference
from dpo_tui.data.repair.repair import Repaired, repair
from dpo_tui.data.repair.repair_plan import Edit, RepairPlan
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.scan.row_index import RowIndex, open_index
from dpo_tui.data.scan.row_search import next_flagged, search, turns_of
from dpo_tui.data.scan.scan_cache import cached_flags
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError


@dataclass(frozen=True)
class Decisions:
    """What a person decided, by row. Immutable."""

    dropped: frozenset[int] = frozenset()
    flipped: frozenset[int] = frozenset()
    edits: Mapping[int, Edit] = field(default_factory=dict)

    def drop(self, row: int) -> "Decisions":
        """Leave a row out, or take that back."""
        return replace(self, dropped=self.dropped ^ {row})

    def flip(self, row: int) -> "Decisions":
        """Swap a row's answers, or take that back."""
        return replace(self, flipped=self.flipped ^ {row})

    def edit(self, row: int, edit: Edit) -> "Decisions":
        """Give a row new texts."""
        return replace(self, edits={**self.edits, row: edit})

    def words(self, row: int) -> str:
        """What was decided about a row."""
        told = [
            name
            for name, rows in (("dropped", self.dropped), ("flipped", self.flipped), ("edited", self.edits))
            if row in rows
        ]
        return ", ".join(told)

    @property
    def count(self) -> int:
        """Rows with a decision."""
        return len(self.dropped | self.flipped | set(self.edits))


@dataclass(frozen=True, slots=True)
class PairAt:
    """One row's pair as it will be after the person's decisions.

    Attributes:
        row: its number, from 1.
        prompt: its texts.
        chosen: the preferred answer.
        rejected: the other.
        difference: (text, whether only this side has it) for both answers.
        problem: why the row gives no pair.
        named_by: checks that name it.
        more: further pairs in the same row.
    """

    row: int
    prompt: str = ""
    chosen: str = ""
    rejected: str = ""
    difference: tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]] = ((), ())
    problem: str = ""
    named_by: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a repaired copy would hold, in rows.

    Attributes:
        rows: in the dataset, blank lines left out.
        unusable: that training leaves out anyway.
        by_check: left out because a chosen check names them.
        by_hand: left out by the person, and by nothing else.
        changed: flipped or edited, and kept.
    """

    rows: int
    unusable: int = 0
    by_check: int = 0
    by_hand: int = 0
    changed: int = 0

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return self.rows - self.unusable - self.by_check - self.by_hand

    def words(self) -> str:
        """For the person who is about to write it."""
        left_out = (
            (self.by_check, "by these checks"),
            (self.by_hand, "by hand"),
            (self.unusable, "as they cannot be used"),
        )
        out = [f"{count:,} {why}" for count, why in left_out if count]
        told = f"{self.kept:,} of {self.rows:,} rows stay"
        told += f"; left out: {', '.join(out)}." if out else "."
        return f"{told} {self.changed:,} changed." if self.changed else told


class DatasetBrowser:
    """Random access to a dataset's pairs. Every method may read the disk: call them from a thread.

    Args:
        location: a path or a hub id.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, location: str) -> None:
        self.source = Source(location)
        self._index: RowIndex = open_index(self.source)
        self._recogniser = Recogniser()
        self._checks = checks()

    @property
    def count(self) -> int:
        """Rows, blank lines too."""
        return self._index.count

    def at(self, row: int, decisions: Decisions) -> PairAt:
        """One row as it is decided.

        Raises:
            DataError: the file changed meanwhile.
        """
        found = turns_of(self._index.row(row), self._recogniser)
        named = self._named(row)
        if found is None:
            return PairAt(row, problem="a blank line", named_by=named)
        if isinstance(found, Unreadable):
            return PairAt(row, problem=found.message, named_by=named)
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
        return PairAt(row, prompt, chosen, rejected, difference, named_by=named, more=len(found) - 1)

    def next_named(self, check: str, row: int, *, backwards: bool = False) -> int | None:
        """The nearest row that a check names; None when there is none, or no scan yet."""
        flags = cached_flags(self.source)
        if flags is None or check not in self._checks:
            return None
        return next_flagged(flags, self._checks[check].bit, row, backwards=backwards)

    def find(self, words: str, row: int) -> int | None:
        """The first row from ``row`` on in which some words stand."""
        return next(search(self._index, self._recogniser, words, start=row), None)

    def remaining(self, decisions: Decisions, drop_checks: tuple[str, ...]) -> Remaining:
        """What `save` would keep.

        Raises:
            DataError: the dataset was changed since its scan.
        """
        import numpy as np  # the screen opens without it

        from dpo_tui.data.scan.pair_batcher import BLANK

        path = cached_flags(self.source)
        if path is None:
            raise DataError("the dataset was changed while it was looked at", hint="Open it again.")
        flags = np.fromfile(path, dtype=np.uint32)
        blank = flags == BLANK
        unusable = flags & np.uint32(self._mask(lambda check: check.severity == "error")) != 0
        named = flags & np.uint32(self._mask(lambda check: check.id in drop_checks)) != 0
        gone = unusable | named | blank

        def still_there(rows: Iterable[int]) -> set[int]:
            return {row for row in rows if 0 < row <= len(gone) and not gone[row - 1]}

        by_hand = still_there(decisions.dropped)
        return Remaining(
            rows=len(flags) - int(blank.sum()),
            unusable=int(unusable.sum()),
            by_check=int((named & ~unusable).sum()),
            by_hand=len(by_hand),
            changed=len(still_there(decisions.flipped | set(decisions.edits)) - by_hand),
        )

    def _mask(self, wanted: Callable[[Check], bool]) -> int:
        return sum(1 << check.bit for check in self._checks.values() if check.flags_rows and wanted(check))

    def save(self, decisions: Decisions, drop_checks: tuple[str, ...], out: Path) -> Repaired:
        """Write a repaired copy, over a file that is there already; the input is never changed.

        Raises:
            UsageError: the output is the input.
            DataError: it cannot be written.
        """
        plan = RepairPlan(
            drop_checks=drop_checks,
            drop_rows=decisions.dropped,
            flip_rows=decisions.flipped,
            edits=decisions.edits,
        )
        return repair(self.source, plan, out, over=True)

    def _named(self, row: int) -> tuple[str, ...]:
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
