"""Checkpoints that are whole or are not used.

Trainer writes a checkpoint file by file; a full disk or a kill in between leaves a torn one. The worker puts a marker
with the size of every file into a checkpoint after its last byte; only a marked checkpoint whose files still have
those sizes is resumed from, and older ones are deleted only after a newer one is marked.
"""

import shutil
import time
from pathlib import Path

from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import CHECKPOINT_MARKER


def step_of(checkpoint: Path) -> int:
    """Return the step of a ``checkpoint-N`` folder."""
    return int(checkpoint.name.rpartition("-")[2])


def all_checkpoints(folder: Path) -> list[Path]:
    """Return the ``checkpoint-N`` folders, newest first, torn ones included."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of, reverse=True)


def mark_complete(checkpoint: Path) -> None:
    """Say that every file of a checkpoint is written.

    Raises:
        OSError: the marker could not be written; the checkpoint stays torn.
    """
    sizes = {
        str(path.relative_to(checkpoint)): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != CHECKPOINT_MARKER
    }
    write_json_atomic(checkpoint / CHECKPOINT_MARKER, {"step": step_of(checkpoint), "t": time.time(), "files": sizes})


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was marked and its files are still what they were."""
    marker = read_json(checkpoint / CHECKPOINT_MARKER)
    if marker is None or not isinstance(marker.get("files"), dict):
        return False
    return all(_size(checkpoint / name) == size for name, size in marker["files"].items())


def newest_whole(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the checkpoint to resume from, None where there is none, and the newer ones that are torn."""
    torn: list[Path] = []
    for checkpoint in all_checkpoints(folder):
        if is_whole(checkpoint):
            return checkpoint, torn
        torn.append(checkpoint)
    return None, torn


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` whole checkpoints, and torn ones that are older than the newest whole one."""
    whole = [checkpoint for checkpoint in all_checkpoints(folder) if is_whole(checkpoint)]
    if not whole:
        return
    for checkpoint in all_checkpoints(folder):
        if checkpoint not in whole[:keep] and step_of(checkpoint) < step_of(whole[0]):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
