"""A repair plan, and its application to the rows of a dataset: what is left of each row, and why."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dpo_tui.data.checks.double_encoding import repaired_text
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.load_rows import numbered_rows
from dpo_tui.data.pairs.hold_out_by_prompt import held_out_keys, prompt_key
from dpo_tui.data.pairs.pair import Turns, Unreadable, text_of
from dpo_tui.data.repair.row_forms import Edit, RowForm
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.scan_cache import cached_flags
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What to change in a dataset, of pairs or of labelled answers. Rows are counted from 1.

    Args:
        drop_checks: leave out the rows that these checks flag.
        drop_rows: leave out these rows.
        flip_rows: swap the answers of these rows, or give their answers the other label.
        edits: new texts by row.
        longest_text: leave out items in which the prompt or an answer has more characters. They are not truncated: an
            answer that ends in the middle teaches the model to stop there.
        hold_out: the share to write to ``OUT`` with ``.eval`` before its suffix. All of a prompt go to the same file.
        seed: chooses which prompts are held out.
        fix_encoding: restore texts that were encoded twice, where that can be undone exactly.
    """

    drop_checks: tuple[str, ...] = ()
    drop_rows: frozenset[int] = frozenset()
    flip_rows: frozenset[int] = frozenset()
    edits: Mapping[int, Edit] = field(default_factory=dict)
    longest_text: int | None = None
    hold_out: float = 0.0
    seed: int = 42
    fix_encoding: bool = False


class PlannedRow(NamedTuple):
    """One row after the plan was applied.

    Args:
        number: the row, from 1.
        items: what is left of it, in the form of the dataset.
        note: why nothing is left, or what was changed; empty for an unchanged row.
    """

    number: int
    items: list[Any]
    note: str


class PlannedRows:
    """The rows of a dataset after a plan was applied; each iteration reads the files again.

    Iterating raises DataError if rows are dropped by check and the dataset was changed since its scan.

    Args:
        source: the dataset.
        files: its files.
        plan: what to change.
        form: of the rows.

    Raises:
        UsageError: the plan names an unknown check, or one that flags no rows.
    """

    def __init__(self, source: Source, files: list[DataFile], plan: RepairPlan, form: RowForm) -> None:
        self._form = form
        self._source = source
        self._files = files
        self._plan = plan
        self._masks = _masks_of(plan)

    @cached_property
    def _flags(self) -> Any:
        return _load_flags(self._source) if self._masks else None

    def __iter__(self) -> Iterator[PlannedRow]:
        recogniser = Recogniser(self._source.mapping)
        for number, row in numbered_rows(self._files, self._source.rows_read, recogniser, []):
            try:
                items = self._form.read(row, recogniser)
            except Unreadable as problem:
                edit = self._plan.edits.get(number)
                items = self._form.from_edit(edit) if edit is not None else []
                if not items:
                    yield PlannedRow(number, [], f"{problem.check}: {problem.message}")
                    continue
            reason = self._drop_reason(number)
            if reason:
                yield PlannedRow(number, [], reason)
                continue
            items, change = self._change(number, items)
            usable = [item for item in items if self._form.is_usable(item)]
            if not usable:
                yield PlannedRow(number, [], "nothing usable is left after the edit")
                continue
            short_enough = [item for item in usable if not self._is_too_long(item)]
            note = change if short_enough else f"longer than {self._plan.longest_text} characters"
            yield PlannedRow(number, short_enough, note)

    def is_text(self) -> bool:
        """Whether every item consists of plain texts; otherwise all are written as lists of messages."""
        form = self._form
        return all(
            all(isinstance(part, str) for part in form.measured(item))
            and not form.turns(item).system
            and not form.turns(item).tools
            for row in self
            for item in row.items
        )

    def held_out_prompts(self) -> frozenset[bytes]:
        """The keys of the prompts to hold out: the same that training would hold out with this share and seed."""
        sizes: Counter[bytes] = Counter()
        for row in self:
            sizes.update(prompt_key(self._form.prompt(row.number, item), self._plan.seed) for item in row.items)
        return frozenset(held_out_keys(sizes, self._plan.hold_out))

    def _drop_reason(self, number: int) -> str:
        if number in self._plan.drop_rows:
            return "by hand"
        if self._flags is not None:
            value = int(self._flags[number - 1])
            flagged = [name for mask, name in self._masks if value & mask]
            return ", ".join(flagged)
        return ""

    def _change(self, number: int, items: list[Any]) -> tuple[list[Any], str]:
        """Edit and flip the items of a row; return them with a note of what was done."""
        form, done = self._form, []
        if self._plan.fix_encoding:
            restored = [form.with_turns(item, _restored(form.turns(item))) for item in items]
            if restored != items:
                items = restored
                done.append("encoding repaired")
        edit = self._plan.edits.get(number)
        if edit is not None:
            items = [form.edited(item, edit) for item in items]
            done.append("edited")
        if number in self._plan.flip_rows:
            items = [form.flipped(item) for item in items]
            done.append("flipped")
        return items, ", ".join(done)

    def _is_too_long(self, item: Any) -> bool:
        longest = self._plan.longest_text
        return longest is not None and any(len(text_of(part)) > longest for part in self._form.measured(item))


def _restored(turns: Turns) -> Turns:
    """A pair with each text restored that was encoded twice."""
    prompt, chosen, rejected = map(_restored_part, turns[:3])
    system = _restored_part(turns.system) if turns.system else turns.system
    return turns._replace(prompt=prompt, chosen=chosen, rejected=rejected, system=system)


def _restored_part(part: Any) -> Any:
    if isinstance(part, str):
        return repaired_text(part) or part
    return [
        {**message, "content": _restored_part(content)}
        if isinstance(content := message.get("content"), str)
        else message
        for message in part
    ]


def _masks_of(plan: RepairPlan) -> list[tuple[int, str]]:
    """The bit of each check whose rows are dropped, as a mask for the flags of a row."""
    known = checks()
    unknown = [name for name in plan.drop_checks if name not in known]
    if unknown:
        raise UsageError(f"there is no check {unknown[0]!r}", hint=f"The checks: {', '.join(known)}.")
    without_rows = [name for name in plan.drop_checks if not known[name].flags_rows]
    if without_rows:
        raise UsageError(f"{without_rows[0]} is about the dataset as a whole and names no rows", hint="Leave it out.")
    return [(1 << known[name].bit, name) for name in plan.drop_checks]


def _load_flags(source: Source) -> Any:
    import numpy as np

    path = cached_flags(source)
    if path is None:
        raise DataError("the dataset was changed while it was looked at", hint="Run the command again.")
    return np.memmap(path, dtype=np.uint32, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint32)
