"""Whether the files of a complete checkpoint are as they were written. Standard library only."""

import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, is_complete, read_marker
from dpo_tui.text.plain_documents import parse_json

DAMAGED = "damaged.json"
"""What the marker of a checkpoint is renamed to when a file of it turns out to be damaged."""
_BLOCK_BYTES = 1 << 22
_THREADS = 4
"""zlib releases the interpreter's lock, so that several files are read at once."""
_HEADER_LENGTH = 8
"""Bytes of the length that a safetensors file begins with (little-endian)."""
_MOST_READ = 4_000_000_000
"""Bytes of checkpoints whose checksums are computed while somebody waits: a few seconds."""


def damaged_file(checkpoint: Path) -> str | None:
    """Return the first file of a complete checkpoint that is not as it was written; None where all are whole.

    It is the marker itself where that is gone. Markers of earlier versions list no checksums: then the file's own
    format is checked, as far as it can tell.
    """
    marker = read_marker(checkpoint)
    if marker is None:
        # Since this process chose the checkpoint, rank 0 has found it damaged. An absent list must not pass for a list
        # without files: this rank would resume from another step than the others.
        return MARKER
    checksums, names = marker["crc32"], sorted(marker["files"])

    def is_whole(name: str) -> bool:
        try:
            return _checksum(checkpoint / name) == checksums[name] if name in checksums else _reads(checkpoint / name)
        except OSError:
            return False

    with ThreadPoolExecutor(_THREADS) as pool:
        return next((name for name, whole in zip(names, pool.map(is_whole, names), strict=True) if not whole), None)


def newest_whole(folder: Path) -> tuple[Path | None, dict[str, str], bool]:
    """Return the checkpoint from which the worker will resume, as far as that can be known in a few seconds.

    Args:
        folder: of the checkpoints.

    Returns:
        The checkpoint, None where there is none; why newer ones are not used, by their names; and whether its files
        have been compared with their checksums, which those of large models are not.
    """
    skipped: dict[str, str] = {}
    left = _MOST_READ
    for checkpoint in all_checkpoints(folder):
        if not is_complete(checkpoint):
            damaged_before = (checkpoint / DAMAGED).exists()
            skipped[checkpoint.name] = f"is not used: it is {'damaged' if damaged_before else 'incomplete'}"
            continue
        left -= sum((read_marker(checkpoint) or {"files": {}})["files"].values())
        if left < 0:
            return checkpoint, skipped, False
        damaged = damaged_file(checkpoint)
        if damaged is None:
            return checkpoint, skipped, True
        skipped[checkpoint.name] = f"is not used: its {damaged} is damaged"
    return None, skipped, True


def checksums_of(files: Sequence[Path]) -> list[int]:
    """Return the CRC-32 of each file, in order.

    Raises:
        OSError: one cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_checksum, files))


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
            parse_json(path.read_bytes())
        elif path.suffix in (".pt", ".pth"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        elif path.suffix == ".safetensors":
            with path.open("rb") as file:
                parse_json(file.read(int.from_bytes(file.read(_HEADER_LENGTH), "little")))
    except (ValueError, zipfile.BadZipFile, MemoryError, OverflowError):
        return False
    return True
