"""Cache of the reference's log-probabilities between runs, in ``$DPO_TUI_HOME/cache/reference``.

One file holds one set of pairs under one reference, as safetensors, so that reading it runs no code. Files are replaced
atomically, so two runs that write the same one at once leave a whole one. A file that fails a check is deleted, and its
log-probabilities are computed again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dpo_tui import paths
from dpo_tui.runs.file_digest import digest_of_files

FORMAT = "1"
"""Part of every key: another format finds none of the files of this one."""
# At eight bytes a pair this holds 33 million pairs.
LIMIT_BYTES = 256 * 1024 * 1024
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.index.json", "config.json")

TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
ReferenceLogps = tuple[list[float], list[float]]
"""Log-probabilities of the chosen and of the rejected answers, one of each for every pair."""


def folder() -> Path:
    """Folder of the cache's files."""
    return paths.cache() / "reference"


def key_of(parts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the cache key of a set of pairs under a reference.

    Args:
        parts: everything besides the pairs that the log-probabilities depend on.
        rows: the pairs as token ids, which follow from data, tokenizer and chat template.
    """
    # Sorted keys: the order in which a dict was filled must not make another key. Row after row: all token ids at once
    # as text would take more memory than the data itself.
    digest = hashlib.sha256(json.dumps([FORMAT, parts], sort_keys=True, default=str).encode())
    for row in rows:
        ids = [list(row[name]) for name in TOKEN_COLUMNS]
        digest.update(json.dumps(ids, separators=(",", ":")).encode())
    return digest.hexdigest()


def load(key: str, count: int) -> ReferenceLogps | None:
    """Return the log-probabilities stored under a key; None where there are none, or the file fails a check.

    Args:
        key: from :func:`key_of`.
        count: number of pairs.
    """
    path = folder() / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            chosen, rejected = file.get_tensor("chosen"), file.get_tensor("rejected")
        # A score that the disk has changed would be trained against without a word.
        if metadata.get("key") != key or metadata.get("crc32") != _checksum(chosen, rejected):
            raise ValueError("another key, or other scores than were written")
        for tensor in (chosen, rejected):
            if tensor.shape != (count,) or not torch.isfinite(tensor).all():
                raise ValueError("not the log-probabilities of these pairs")
        # The time of last use, by which _prune deletes.
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SafetensorError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return chosen.tolist(), rejected.tolist()


def store(key: str, logps: ReferenceLogps, limit: int = LIMIT_BYTES) -> None:
    """Store log-probabilities, and delete the least recently used files until all fit into ``limit`` bytes.

    On a full or read-only disk nothing is stored: that is no reason to end a run.
    """
    tensors = {
        name: torch.tensor(values, dtype=torch.float32)
        for name, values in zip(("chosen", "rejected"), logps, strict=True)
    }
    with contextlib.suppress(OSError, SafetensorError):
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        # In the same folder, since a rename is atomic within one file system only. Without fsync: a file that a power
        # cut leaves empty fails the check of `load`, and is computed again.
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as temporary:
            written = Path(temporary) / "scores"
            save_file(tensors, written, metadata={"key": key, "crc32": _checksum(**tensors)})
            written.replace(folder() / f"{key}.safetensors")
        _prune(limit)


def _checksum(chosen: torch.Tensor, rejected: torch.Tensor) -> str:
    return str(zlib.crc32(rejected.numpy().tobytes(), zlib.crc32(chosen.numpy().tobytes())))


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
