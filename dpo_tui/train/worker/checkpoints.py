"""Complete and incomplete checkpoints: mark, find the one to resume from, delete old ones.

Trainer writes a checkpoint file by file; a full disk or a kill in between leaves an incomplete one. After the last file
the worker adds a marker with the size of every file. Only a marked checkpoint whose files still have those sizes is
resumed from, and older ones are deleted only after a newer one is marked.
"""

import shutil
import time
from pathlib import Path

from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.checkpoint import COMPLETE


def step_of(checkpoint: Path) -> int:
    """Return the step of a ``checkpoint-N`` folder."""
    return int(checkpoint.name.rpartition("-")[2])


def all_checkpoints(folder: Path) -> list[Path]:
    """Return the ``checkpoint-N`` folders, newest first, incomplete ones included."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of, reverse=True)


def mark_complete(checkpoint: Path) -> None:
    """Write the marker of a checkpoint whose files are all written.

    Raises:
        OSError: the marker could not be written; the checkpoint counts as incomplete.
    """
    sizes = {
        str(path.relative_to(checkpoint)): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != COMPLETE
    }
    write_json_atomic(checkpoint / COMPLETE, {"step": step_of(checkpoint), "t": time.time(), "files": sizes})


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint is marked and its files still have the sizes that the marker lists."""
    marker = read_json(checkpoint / COMPLETE)
    if marker is None or not isinstance(marker.get("files"), dict):
        return False
    return all(_size(checkpoint / name) == size for name, size in marker["files"].items())


def newest_complete(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the checkpoint to resume from, None where there is none, and the newer ones that are incomplete."""
    incomplete: list[Path] = []
    for checkpoint in all_checkpoints(folder):
        if is_complete(checkpoint):
            return checkpoint, incomplete
        incomplete.append(checkpoint)
    return None, incomplete


def prune(folder: Path, keep: int) -> None:
    """Delete old checkpoints.

    Args:
        folder: of the checkpoints.
        keep: how many complete ones stay; incomplete ones go if they are older than the newest complete one.
    """
    complete = [checkpoint for checkpoint in all_checkpoints(folder) if is_complete(checkpoint)]
    if not complete:
        return
    for checkpoint in all_checkpoints(folder):
        if checkpoint not in complete[:keep] and step_of(checkpoint) < step_of(complete[0]):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _size(path: Path) -> int:
    """Return a file's size in bytes; -1, which no marker lists, where it is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
