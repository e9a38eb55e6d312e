"""Checkpoints of the worker: mark complete ones with checksums, check them before they are loaded, delete old ones.

Only a complete checkpoint is resumed from (:mod:`dpo_tui.runs.complete_checkpoints`), and older ones are deleted only
after a newer one is marked.
"""

import json
import shutil
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, is_complete, newest_complete, step_of
from dpo_tui.train.worker.journal import Journal

_DAMAGED = "damaged.json"
"""What the marker of a checkpoint is renamed to when a file of it turns out to be damaged."""
_BLOCK_BYTES = 1 << 22
_THREADS = 4
"""zlib releases the interpreter's lock, so that several files are read at once."""
_HEADER_LENGTH = 8
"""Bytes of the length that a safetensors file begins with (little-endian)."""


def mark_complete(checkpoint: Path) -> None:
    """Write the marker of a checkpoint whose files are all written.

    The checksums (CRC-32, against damage, not against malice) are of the files as they come back from the page cache,
    in which they lie since they were written.

    Raises:
        OSError: the marker could not be written; the checkpoint counts as incomplete.
    """
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in (MARKER, _DAMAGED)]
    names = [str(path.relative_to(checkpoint)) for path in files]
    with ThreadPoolExecutor(_THREADS) as pool:
        checksums = list(pool.map(_checksum, files))
    marker = {
        "step": step_of(checkpoint),
        "t": time.time(),
        "files": {name: path.stat().st_size for name, path in zip(names, files, strict=True)},
        "crc32": dict(zip(names, checksums, strict=True)),
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
        if not (path / _DAMAGED).exists():
            journal.event("warning", f"{path.name} is incomplete and is not used")
    while checkpoint is not None and (damaged := damaged_file(checkpoint)) is not None:
        journal.event("warning", f"{checkpoint.name} is not used: its {damaged} is damaged", step=step_of(checkpoint))
        (checkpoint / MARKER).rename(checkpoint / _DAMAGED)
        older = [path for path in all_checkpoints(folder) if step_of(path) < step_of(checkpoint) and is_complete(path)]
        checkpoint = older[0] if older else None
    if checkpoint is not None:
        journal.event("note", f"Resuming from step {step_of(checkpoint)}", step=step_of(checkpoint))
    return checkpoint


def damaged_file(checkpoint: Path) -> str | None:
    """Return the first file of a complete checkpoint that is not as it was written; None where all are whole.

    Markers of earlier versions list no checksums: then the file's own format is checked, as far as it can tell.
    """
    marker = read_json(checkpoint / MARKER) or {}
    checksums = marker.get("crc32") or {}
    names = sorted(marker.get("files") or {})

    def is_whole(name: str) -> bool:
        try:
            return _checksum(checkpoint / name) == checksums[name] if name in checksums else _reads(checkpoint / name)
        except OSError:
            return False

    with ThreadPoolExecutor(_THREADS) as pool:
        return next((name for name, whole in zip(names, pool.map(is_whole, names), strict=True) if not whole), None)


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


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _reads(path: Path) -> bool:
    """Whether a file is what its suffix says: torch's files are ZIP archives, which have checksums of their own."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in (".pt", ".pth"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        elif path.suffix == ".safetensors":
            with path.open("rb") as file:
                json.loads(file.read(int.from_bytes(file.read(_HEADER_LENGTH), "little")))
    except (ValueError, zipfile.BadZipFile, MemoryError, OverflowError):
        return False
    return True
