"""Checkpoints of the worker: mark complete ones with checksums, check them before they are loaded, delete old ones.

Only a complete checkpoint is resumed from (:mod:`dpo_tui.runs.complete_checkpoints`), and older ones are deleted only
after a newer one is marked.
"""

import shutil
import time
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import fsync_folder, fsync_tree, write_json_atomic
from dpo_tui.runs.checkpoint_checksums import DAMAGED, checksums_of, damaged_file
from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, is_complete, newest_complete, step_of
from dpo_tui.runs.weights_only_checkpoints import resume_refusal
from dpo_tui.train.worker.journal import Journal


def mark_complete(checkpoint: Path) -> None:
    """Write the marker of a checkpoint whose files are all written.

    The checksums (CRC-32, against damage, not against malice) are of the files as they come back from the page cache,
    in which they lie since they were written.

    Raises:
        OSError: the marker could not be written; the checkpoint counts as incomplete.
    """
    # The marker is the last file and the only one that is synced here. After a power cut it may be there while others
    # hold zeros or nothing, which is why they are read against the checksums before they are loaded.
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in (MARKER, DAMAGED)]
    names = [str(path.relative_to(checkpoint)) for path in files]
    marker = {
        "step": step_of(checkpoint),
        "t": time.time(),
        "files": {name: path.stat().st_size for name, path in zip(names, files, strict=True)},
        "crc32": dict(zip(names, checksums_of(files), strict=True)),
    }
    write_json_atomic(checkpoint / MARKER, marker)


def checkpoint_to_resume(folder: Path, journal: Journal) -> Path | None:
    """Return the newest whole checkpoint, and record which newer ones are not used and why.

    A checkpoint with a damaged file loses its marker, so that everybody else passes it over as well.

    Args:
        folder: of the checkpoints.
        journal: receives a warning for each one passed over, and a note of the one that is used.
    """
    checkpoint, incomplete = newest_complete(folder)
    for path in incomplete:
        if not (path / DAMAGED).exists():
            journal.event("warning", f"{path.name} is incomplete and is not used")
    while checkpoint is not None and (damaged := damaged_file(checkpoint)) is not None:
        journal.event("warning", f"{checkpoint.name} is not used: its {damaged} is damaged", step=step_of(checkpoint))
        # By one rank: a second rename would fail. The others see the damage by themselves, or the marker gone, and pass
        # the checkpoint over just the same.
        if journal.rank.is_first and damaged != MARKER:
            (checkpoint / MARKER).rename(checkpoint / DAMAGED)
        older = [path for path in all_checkpoints(folder) if step_of(path) < step_of(checkpoint) and is_complete(path)]
        checkpoint = older[0] if older else None
    if checkpoint is not None:
        journal.event("note", f"Resuming from step {step_of(checkpoint)}", step=step_of(checkpoint))
    return checkpoint


def require_optimizer_state(config: Config, checkpoint: Path | None) -> None:
    """Check that training can go on from a checkpoint, also where an attempt follows another without a person.

    Raises:
        TrainingError: it holds the weights alone, and steps are left.
    """
    refusal = resume_refusal(checkpoint) if config.save_only_model else None
    if refusal is not None:
        raise TrainingError(refusal[0], hint=refusal[1])


def prune(folder: Path, keep: int, best_step: int | None = None) -> None:
    """Delete old checkpoints, once one that stays is on the disk.

    Args:
        folder: of the checkpoints.
        keep: how many complete ones stay; incomplete ones go if they are older than the newest complete one.
        best_step: of the checkpoint that will be the result, which stays besides; None without one.
    """
    complete = [checkpoint for checkpoint in all_checkpoints(folder) if is_complete(checkpoint)]
    if not complete:
        return
    kept = {*complete[:keep], *(one for one in complete if step_of(one) == best_step)}
    # A newer one than the newest complete one has no marker because it is being written.
    old = [one for one in all_checkpoints(folder) if one not in kept and step_of(one) < step_of(complete[0])]
    if not old or not _is_on_disk(complete[:keep][-1]):
        return
    for checkpoint in old:
        # A kill in the middle of a deletion leaves a marker with files missing, which counts as incomplete.
        shutil.rmtree(checkpoint, ignore_errors=True)


def _is_on_disk(checkpoint: Path) -> bool:
    """Wait until a checkpoint is on the disk, so that a power cut cannot take all of them.

    It is the oldest of those that stay: the system has written most of it by now, while waiting for gigabytes that were
    just saved would hold up the training.
    """
    try:
        fsync_tree(checkpoint)
        fsync_folder(checkpoint.parent)
    except OSError:
        return False  # the older ones stay, and the next save tries again
    return True
