"""Repair a dataset into a new file: leave out, flip, edit, hold out. The input is never touched.

The output is JSON lines in one form, written to a temporary file and renamed when it is whole. Beside it stands
``OUT.repair.jsonl``, which says what was done to which row. Both depend on nothing but the input and the plan, so the
same repair twice gives the same bytes, and repairing a repaired file changes nothing more.
"""

import hashlib
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from dpo_tui.data.checks.registry import checks
from dpo_tui.data.load_pairs import numbered_rows, usable_turns
from dpo_tui.data.pairs.pair import Message, Pair, Turns, Unreadable, pair_of, reason_unusable, text_of
from dpo_tui.data.pairs.prompt_split import held_out_keys, prompt_key
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.scan.scan_cache import cached_flags
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class Edit:
    """New texts for a row; None leaves a part as it is."""

    prompt: str | list[Message] | None = None
    chosen: str | list[Message] | None = None
    rejected: str | list[Message] | None = None


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What to do.

    Args:
        drop_checks: leave out the rows that these checks name.
        drop_rows: leave out these rows.
        flip_rows: swap the answers of these rows.
        edits: new texts by row.
        longest_text: leave out pairs in which the prompt or an answer has more characters. They are not cut: an answer
            that ends in the middle teaches the model to end there.
        hold_out: the share of the pairs to write to ``OUT`` with ``.eval`` before its suffix, whole prompts at a time.
        seed: chooses which prompts are held out.
    """

    drop_checks: tuple[str, ...] = ()
    drop_rows: frozenset[int] = frozenset()
    flip_rows: frozenset[int] = frozenset()
    edits: Mapping[int, Edit] = field(default_factory=dict)
    longest_text: int | None = None
    hold_out: float = 0.0
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done.

    Args:
        written: pairs in the output.
        held_out: pairs in the evaluation file.
        left_out: rows that are in neither.
        changed: rows that were flipped or edited.
        evaluation: the evaluation file; None where nothing was held out.
        sidecar: the file that says which rows were left out and changed.
    """

    written: int
    held_out: int
    left_out: int
    changed: int
    evaluation: Path | None
    sidecar: Path


def repair(source: Source, plan: RepairPlan, out: Path, *, over: bool = False) -> Repaired:
    """Write a repaired copy of a dataset. It must have been scanned in its present state, for the flags of its rows.

    Args:
        source: the dataset.
        plan: what to change.
        out: the copy.
        over: whether it may take the place of a file that no repair wrote.

    Raises:
        UsageError: an unknown check, a row that is not there, or an output that is one of the inputs, no file,
            or somebody else's.
        DataError: the dataset was changed since the scan, nothing is left of it, or the output cannot be written.
    """
    files = locate(source)
    masks = _masks(plan)
    outputs = (out, _eval_path(out), _sidecar(out))
    if any(_same_file(file.path, one) for file in files for one in outputs):
        raise UsageError(f"{out} is the input", hint="Write to another file: the input is never changed.")
    for one in outputs:
        # The new file takes the name: of a device or a link (for root, /dev/null, /dev/stdout) nothing would be left.
        if one.is_symlink() or (one.exists() and not one.is_file()):
            raise UsageError(f"{one} is not a regular file", hint="Name a file; nothing was changed.")
    if not over and out.exists() and not _sidecar(out).exists():
        raise UsageError(f"{out} exists, and no repair wrote it", hint="Name another file, or remove it first.")
    flags = _flags(source) if masks else None
    work = _Work(source, files, plan, masks, flags)
    as_text = work.is_text()
    held_out = work.held_out_prompts() if plan.hold_out else frozenset()
    mode = _mode_like(work.files)
    try:
        with (
            _replacing(out, mode) as train,
            _replacing(_eval_path(out) if held_out else None, mode) as evaluation,
            _replacing(_sidecar(out), mode) as sidecar,
        ):
            done = work.write(train, evaluation, sidecar, as_text=as_text, held_out=held_out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}", hint="Nothing was changed.") from error
    return Repaired(*done, _eval_path(out) if held_out else None, _sidecar(out))


class _Work:
    def __init__(
        self, source: Source, files: list[DataFile], plan: RepairPlan, masks: list[tuple[int, str]], flags: Any
    ) -> None:
        self.source = source
        self.files = files
        self.plan = plan
        self.masks = masks
        self.flags = flags

    def pairs(self) -> Iterator[tuple[int, list[Turns], str]]:
        """Every row with what is left of it, and why nothing is or what was changed."""
        recogniser = Recogniser(self.source.mapping)
        for number, row in numbered_rows(self.files, self.source.max_rows, recogniser, []):
            try:
                turns = usable_turns(row, recogniser)
            except Unreadable as problem:
                if number not in self.plan.edits:
                    yield number, [], f"{problem.check}: {problem.message}"
                    continue
                turns = [Turns("", "", "")]
            reason = self._reason(number)
            if reason:
                yield number, [], reason
                continue
            turns, change = self._changed(number, turns)
            kept = [one for one in turns if reason_unusable(one) is None]
            if not kept:
                yield number, [], "nothing usable is left after the edit"
                continue
            fitting = [one for one in kept if not self._is_too_long(one)]
            yield number, fitting, change if fitting else f"longer than {self.plan.longest_text} characters"

    def is_text(self) -> bool:
        """Whether every pair is three plain texts; one that is not makes the whole output message lists."""
        return all(
            all(isinstance(part, str) for part in turns[:3]) and not turns.system and not turns.tools
            for _, found, _ in self.pairs()
            for turns in found
        )

    def held_out_prompts(self) -> frozenset[bytes]:
        sizes: Counter[bytes] = Counter()
        for number, found, _ in self.pairs():
            sizes.update(prompt_key(pair_of(number, turns).prompt, self.plan.seed) for turns in found)
        return frozenset(held_out_keys(sizes, self.plan.hold_out))

    def write(
        self,
        train: IO[bytes] | None,
        evaluation: IO[bytes] | None,
        sidecar: IO[bytes] | None,
        *,
        as_text: bool,
        held_out: frozenset[bytes],
    ) -> tuple[int, int, int, int]:
        written = held = left_out = changed = 0
        unseen = {*self.plan.drop_rows, *self.plan.flip_rows, *self.plan.edits}
        _line(sidecar, {"from": [file.path.name for file in self.files], "sha256": _sha256(self.files)})
        for number, found, note in self.pairs():
            unseen.discard(number)
            if not found:
                left_out += 1
                _line(sidecar, {"row": number, "action": "left out", "reason": note})
            elif note:
                changed += 1
                _line(sidecar, {"row": number, "action": note})
            for turns in found:
                pair = pair_of(number, turns)
                is_held = bool(held_out) and prompt_key(pair.prompt, self.plan.seed) in held_out
                _line(evaluation if is_held else train, _document(turns, pair, as_text=as_text))
                written += not is_held
                held += is_held
        if unseen:
            raise UsageError(f"there is no row {min(unseen)}", hint="No file was written.")
        if not written:
            raise DataError("nothing would be left of the dataset", hint="Drop fewer rows. No file was written.")
        _line(sidecar, {"written": written, "held_out": held, "left_out": left_out, "changed": changed})
        return written, held, left_out, changed

    def _reason(self, number: int) -> str:
        if number in self.plan.drop_rows:
            return "by hand"
        if self.flags is not None:
            value = int(self.flags[number - 1])
            named = [name for mask, name in self.masks if value & mask]
            return ", ".join(named)
        return ""

    def _changed(self, number: int, turns: list[Turns]) -> tuple[list[Turns], str]:
        done = []
        edit = self.plan.edits.get(number)
        if edit is not None:
            turns = [
                one._replace(
                    prompt=edit.prompt if edit.prompt is not None else one.prompt,
                    chosen=edit.chosen if edit.chosen is not None else one.chosen,
                    rejected=edit.rejected if edit.rejected is not None else one.rejected,
                )
                for one in turns
            ]
            done.append("edited")
        if number in self.plan.flip_rows:
            turns = [one._replace(chosen=one.rejected, rejected=one.chosen) for one in turns]
            done.append("flipped")
        return turns, ", ".join(done)

    def _is_too_long(self, turns: Turns) -> bool:
        longest = self.plan.longest_text
        return longest is not None and any(len(text_of(part)) > longest for part in turns[:3])


def _masks(plan: RepairPlan) -> list[tuple[int, str]]:
    known = checks()
    unknown = [name for name in plan.drop_checks if name not in known]
    if unknown:
        raise UsageError(f"there is no check {unknown[0]!r}", hint=f"The checks: {', '.join(known)}.")
    whole = [name for name in plan.drop_checks if not known[name].flags_rows]
    if whole:
        raise UsageError(f"{whole[0]} is about the dataset as a whole and names no rows", hint="Leave it out.")
    return [(1 << known[name].bit, name) for name in plan.drop_checks]


def _flags(source: Source) -> Any:
    import numpy as np

    path = cached_flags(source)
    if path is None:
        raise DataError("the dataset was changed while it was looked at", hint="Run the command again.")
    return np.memmap(path, dtype=np.uint32, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint32)


def _document(turns: Turns, pair: Pair, *, as_text: bool) -> dict[str, Any]:
    if as_text:
        return {"prompt": turns.prompt, "chosen": turns.chosen, "rejected": turns.rejected}
    document: dict[str, Any] = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {**document, "tools": pair.tools} if pair.tools else document


def _line(file: IO[bytes] | None, document: dict[str, Any]) -> None:
    if file is not None:
        file.write(orjson.dumps(document) + b"\n")


def _mode_like(files: list[DataFile]) -> int:
    """Permissions for what is made from files: nobody may read it who may not read each of them."""
    mode = 0o666
    for file in files:
        mode &= stat.S_IMODE(file.path.stat().st_mode)
    return mode | stat.S_IRUSR | stat.S_IWUSR


@contextmanager
def _replacing(path: Path | None, mode: int) -> Iterator[IO[bytes] | None]:
    """Write a file that takes its name when it is whole; the umask takes its bits from the mode."""
    if path is None:
        yield None
        return
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _eval_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}.eval{out.suffix}")


def _sidecar(out: Path) -> Path:
    return out.with_name(f"{out.name}.repair.jsonl")


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.exists() and one.samefile(other)


def _sha256(files: list[DataFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.path.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
