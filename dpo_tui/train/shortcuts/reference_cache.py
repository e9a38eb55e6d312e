"""Cache of the reference's log-probabilities between runs, in ``$DPO_TUI_HOME/cache/reference``.

One file holds one set of rows (pairs, or labelled answers) under one reference, as safetensors, so that reading it runs
no code. Files are replaced atomically, so two runs that write the same one at once leave a whole one. A file that fails
a check is deleted, and its log-probabilities are computed again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dpo_tui import paths
from dpo_tui.runs.file_digest import digest_of_files

FORMAT = "2"
"""Part of every key: another format finds none of the files of this one."""
# At eight bytes a row this holds 33 million rows.
LIMIT_BYTES = 256 * 1024 * 1024
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.index.json", "config.json")

ReferenceLogps = dict[str, list[float]]
"""Log-probabilities by the column from which TRL takes them, one in each for every row."""


def folder() -> Path:
    """Folder of the cache's files."""
    return paths.cache() / "reference"


def key_of(parts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the cache key of a set of rows under a reference.

    Args:
        parts: everything besides the rows that the log-probabilities depend on.
        rows: as token ids, which follow from data, tokenizer and chat template.
        columns: those that hold token ids, the prompt's first.
    """
    # Sorted keys: the order in which a dict was filled must not make another key. Row after row: all token ids at once
    # as text would take more memory than the data itself.
    digest = hashlib.sha256(json.dumps([FORMAT, list(columns), parts], sort_keys=True, default=str).encode())
    for row in rows:
        ids = [list(row[name]) for name in columns]
        digest.update(json.dumps(ids, separators=(",", ":")).encode())
    return digest.hexdigest()


def load(key: str, names: Sequence[str], count: int) -> ReferenceLogps | None:
    """Return the log-probabilities stored under a key; None where there are none, or the file fails a check.

    Args:
        key: from :func:`key_of`.
        names: of the log-probabilities.
        count: number of rows.
    """
    path = folder() / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
        # A score that the disk has changed would be trained against without a word.
        if metadata.get("key") != key or metadata.get("crc32") != _checksum(tensors):
            raise ValueError("another key, or other scores than were written")
        for tensor in tensors.values():
            if tensor.shape != (count,) or not torch.isfinite(tensor).all():
                raise ValueError("not the log-probabilities of these rows")
        # The time of last use, by which _prune deletes.
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SafetensorError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def store(key: str, logps: ReferenceLogps, limit: int = LIMIT_BYTES) -> None:
    """Store log-probabilities, and delete the least recently used files until all fit into ``limit`` bytes.

    On a full or read-only disk nothing is stored: that is no reason to end a run.
    """
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in logps.items()}
    with contextlib.suppress(OSError, SafetensorError):
        paths.make_private(folder())
        # In the same folder, since a rename is atomic within one file system only. Without fsync: a file that a power
        # cut leaves empty fails the check of `load`, and is computed again.
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as temporary:
            written = Path(temporary) / "scores"
            save_file(tensors, written, metadata={"key": key, "crc32": _checksum(tensors)})
            written.replace(folder() / f"{key}.safetensors")
        _prune(limit)


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().tobytes(), zlib.crc32(name.encode(), checksum))
    return str(checksum)


def _prune(limit: int) -> None:
    by_last_use = []
    for path in folder().glob("*.safetensors"):
        # Another run may delete the same file at the same time.
        with contextlib.suppress(OSError):
            status = path.stat()
            by_last_use.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in by_last_use)
    for _, size, path in sorted(by_last_use):
        if total <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


class WeightsDigest:
    """SHA-256 of a model folder's weights, computed in a thread: reading gigabytes takes a while.

    Args:
        model_name: hub id or folder; only a folder with whole weights has a digest.
    """

    def __init__(self, model_name: str) -> None:
        self._digest: str | None = None
        self._thread: threading.Thread | None = None
        model = Path(model_name)
        # An adapter's base is another folder, which may change unnoticed: nothing is cached for it.
        if model.is_dir() and not (model / "adapter_config.json").exists():
            self._thread = threading.Thread(target=self._compute, args=(model,), daemon=True)
            self._thread.start()

    def result(self) -> str | None:
        """Wait for the digest and return it; None where there is none or the files cannot be read."""
        if self._thread is not None:
            self._thread.join()
        return self._digest

    def _compute(self, model: Path) -> None:
        with contextlib.suppress(OSError):
            self._digest = digest_of_files(path for pattern in _WEIGHT_FILES for path in model.glob(pattern))
