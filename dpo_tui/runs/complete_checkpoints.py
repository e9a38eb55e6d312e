"""Which checkpoint of a run is resumed from: the newest that is marked complete and whose files have their sizes.

Trainer writes a checkpoint file by file; a full disk or a kill in between leaves an incomplete one. After the last file
the worker adds a marker with the size and the checksum of every file. Supervisor, command line and worker all ask here,
so that they name the same checkpoint. The worker compares the checksums too, before it loads the files
(:mod:`dpo_tui.train.worker.checkpoints`), and takes the marker from a checkpoint that is damaged.
"""

from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import read_json

MARKER = "complete.json"
"""File in a checkpoint that is complete."""


def step_of(checkpoint: Path) -> int:
    """Return the step of a ``checkpoint-N`` folder."""
    return int(checkpoint.name.rpartition("-")[2])


def all_checkpoints(folder: Path) -> list[Path]:
    """Return the ``checkpoint-N`` folders, newest first, incomplete ones included."""
    # By the number and not by time: copying a run to another machine gives all files new times.
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of, reverse=True)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint is marked and its files still have the sizes that the marker lists."""
    # Sizes alone: checksums would read gigabytes, and lists of runs ask this too. They find a file that a full disk or
    # a kill cut short; a file that is damaged at its right size is found by the worker, which reads it anyway.
    marker = read_marker(checkpoint)
    return marker is not None and all(_size(checkpoint / name) == size for name, size in marker["files"].items())


def read_marker(checkpoint: Path) -> dict[str, Any] | None:
    """Return the marker of a checkpoint: ``files`` with their sizes and ``crc32`` with their checksums, by name.

    None where it is missing or torn, lists something else than numbers, or names what lies outside the checkpoint.
    Markers of earlier versions have no checksums.
    """
    marker = read_json(checkpoint / MARKER) or {}
    sizes, checksums = marker.get("files"), marker.get("crc32") or {}
    if not isinstance(sizes, dict) or not isinstance(checksums, dict):
        return None
    if not all(type(number) is int for number in (*sizes.values(), *checksums.values())):
        return None
    # A checkpoint may come from elsewhere: its marker must not have other files opened, and NUL in a path raises.
    if any("\0" in name or name.startswith("/") or ".." in name.split("/") for name in sizes):
        return None
    return {**marker, "files": sizes, "crc32": checksums}


def newest_complete(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the checkpoint to resume from, None where there is none, and the newer ones that are incomplete.

    Args:
        folder: of the checkpoints.
    """
    incomplete: list[Path] = []
    for checkpoint in all_checkpoints(folder):
        if is_complete(checkpoint):
            return checkpoint, incomplete
        incomplete.append(checkpoint)
    return None, incomplete


def _size(path: Path) -> int:
    """Return a file's size in bytes; -1, which no marker lists, where it is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
