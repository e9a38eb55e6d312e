"""Repair a dataset of pairs or labelled answers into a new file: leave out, flip, edit, hold out.

The input is never changed.

The output is JSON lines in one form, written to a temporary file and renamed when it is complete. Next to it,
``OUT.repair.jsonl`` says what was done to which row. Both depend on nothing but the input and the plan, so the same
repair twice gives the same bytes, and repairing a repaired file changes nothing more.
"""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from dpo_tui.data.pairs.hold_out_by_prompt import prompt_key
from dpo_tui.data.repair.repair_plan import PlannedRows, RepairPlan
from dpo_tui.data.repair.replaced_file import replaced_file
from dpo_tui.data.repair.row_forms import PAIRS, RowForm
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.errors import DataError, UsageError

_Outputs = tuple[IO[bytes] | None, IO[bytes] | None, IO[bytes] | None]
"""The files of training rows, of held-out rows and of the record; None for one that is not written."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """The results of a repair.

    Args:
        written: pairs, or labelled answers, in the output.
        held_out: those in the evaluation file.
        left_out: rows that are in neither.
        changed: rows that were flipped or edited.
        evaluation: the evaluation file; None where nothing was held out.
        sidecar: the file that says which rows were left out and changed.
        noun: what was written: pairs, or labelled answers.
    """

    written: int
    held_out: int
    left_out: int
    changed: int
    evaluation: Path | None
    sidecar: Path
    noun: str = PAIRS.noun


def repair(source: Source, plan: RepairPlan, out: Path, *, over: bool = False, form: RowForm = PAIRS) -> Repaired:
    """Write a repaired copy of a dataset. To drop rows by check it must have been scanned in its present state.

    Args:
        source: the dataset.
        plan: what to change.
        out: the copy.
        over: whether the copy may replace a file that no repair wrote.
        form: of the rows, as the scan found it.

    Raises:
        UsageError: the plan names an unknown check or a row that does not exist; or the output is an input, is not a
            regular file, or exists and was not written by a repair.
        DataError: the dataset was changed since the scan, nothing is left of it, or the output cannot be written.
    """
    files = locate(source)
    rows = PlannedRows(source, files, plan, form)
    paths = (out, _eval_path(out), _sidecar(out))
    if any(_same_file(file.path, path) for file in files for path in paths):
        raise UsageError(f"{out} is the input", hint="Write to another file: the input is never changed.")
    for path in paths:
        # The new file is renamed to this path, and would replace a device or a link (as root even /dev/null).
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(f"{path} is not a regular file", hint="Name a file; nothing was changed.")
    if not over and out.exists() and not _sidecar(out).exists():
        raise UsageError(f"{out} exists, and no repair wrote it", hint="Name another file, or remove it first.")
    as_text = rows.is_text()
    held_out = rows.held_out_prompts() if plan.hold_out else frozenset()
    mode = _mode_of_copies(files)
    try:
        with (
            replaced_file(out, mode) as train,
            replaced_file(_eval_path(out) if held_out else None, mode) as evaluation,
            replaced_file(_sidecar(out), mode) as sidecar,
        ):
            outputs = (train, evaluation, sidecar)
            done = _write(rows, form, files, plan, outputs, as_text=as_text, held_out=held_out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}", hint="Nothing was changed.") from error
    return Repaired(*done, _eval_path(out) if held_out else None, _sidecar(out), form.noun)


def _write(
    rows: PlannedRows,
    form: RowForm,
    files: list[DataFile],
    plan: RepairPlan,
    outputs: _Outputs,
    *,
    as_text: bool,
    held_out: frozenset[bytes],
) -> tuple[int, int, int, int]:
    """Write all rows; return how many items were written and held out, and how many rows were left out and changed."""
    train, evaluation, sidecar = outputs
    written = held = left_out = changed = 0
    missing = {*plan.drop_rows, *plan.flip_rows, *plan.edits}
    _write_line(sidecar, {"from": [file.path.name for file in files], "sha256": _sha256(files)})
    for number, items, note in rows:
        missing.discard(number)
        if not items:
            left_out += 1
            _write_line(sidecar, {"row": number, "action": "left out", "reason": note})
        elif note:
            changed += 1
            _write_line(sidecar, {"row": number, "action": note})
        for item in items:
            is_held = bool(held_out) and prompt_key(form.prompt(number, item), plan.seed) in held_out
            _write_line(evaluation if is_held else train, form.document(number, item, as_text=as_text))
            written += not is_held
            held += is_held
    if missing:
        raise UsageError(f"there is no row {min(missing)}", hint="No file was written.")
    if not written:
        raise DataError("nothing would be left of the dataset", hint="Drop fewer rows. No file was written.")
    _write_line(sidecar, {"written": written, "held_out": held, "left_out": left_out, "changed": changed})
    return written, held, left_out, changed


def _write_line(file: IO[bytes] | None, document: dict[str, Any]) -> None:
    if file is not None:
        file.write(orjson.dumps(document) + b"\n")


def _mode_of_copies(files: list[DataFile]) -> int:
    """Permissions for copies of files: nobody may read them who may not read each of the files."""
    mode = 0o666
    for file in files:
        mode &= stat.S_IMODE(file.path.stat().st_mode)
    return mode | stat.S_IRUSR | stat.S_IWUSR


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
