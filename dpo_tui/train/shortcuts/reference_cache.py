"""Reference log-probabilities kept between runs, in `$DPO_TUI_HOME/cache/reference`.

One file for one set of pairs under one reference: safetensors, so that reading runs no code. A file is replaced whole,
so two runs that write the same one at once leave a whole one. Whatever looks odd is deleted and computed again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dpo_tui import paths
from dpo_tui.runs.atomic_files import write_text_atomic

FORMAT = "1"
# Eight bytes a pair: this holds tens of millions of pairs.
LIMIT_BYTES = 256 * 1024 * 1024
_CHUNK = 8 * 1024 * 1024
_WEIGHTS = ("*.safetensors", "*.bin", "config.json")

TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids")
Scores = tuple[list[float], list[float]]


def folder() -> Path:
    """Where the files lie."""
    return paths.cache() / "reference"


def key_of(parts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the name of a set of pairs under a reference.

    Args:
        parts: everything besides the pairs that the scores depend on.
        rows: the pairs as token ids: they stand for data, tokenizer and template.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, parts], sort_keys=True, default=str).encode())
    for row in rows:
        ids = [list(row[name]) for name in TOKENS]
        digest.update(json.dumps(ids, separators=(",", ":")).encode())
    return digest.hexdigest()


def load(key: str, count: int) -> Scores | None:
    """Return the scores kept under a key; None where there are none that can be trusted.

    Args:
        key: of :func:`key_of`.
        count: of pairs.
    """
    path = folder() / f"{key}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                raise ValueError("another key")
            chosen, rejected = file.get_tensor("chosen"), file.get_tensor("rejected")
        for tensor in (chosen, rejected):
            if tensor.shape != (count,) or not torch.isfinite(tensor).all():
                raise ValueError("not the scores of these pairs")
        # The newest stay when room is needed.
        os.utime(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SafetensorError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return chosen.tolist(), rejected.tolist()


def store(key: str, scores: Scores, limit: int = LIMIT_BYTES) -> None:
    """Keep scores, and delete the files that were not used for longest until all fit into ``limit`` bytes.

    A full or read-only disk is no reason to end a run: then nothing is kept.
    """
    tensors = {
        name: torch.tensor(values, dtype=torch.float32)
        for name, values in zip(("chosen", "rejected"), scores, strict=True)
    }
    with contextlib.suppress(OSError, SafetensorError):
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as place:
            written = Path(place) / "scores"
            save_file(tensors, written, metadata={"key": key})
            written.replace(folder() / f"{key}.safetensors")
        _prune(limit)


def _prune(limit: int) -> None:
    found = []
    for path in folder().glob("*.safetensors"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


class WeightsDigest:
    """Names the weights of a model while other work goes on; reading gigabytes takes a while."""

    def __init__(self, model_name: str) -> None:
        self._found: str | None = None
        self._thread: threading.Thread | None = None
        model = Path(model_name)
        # An adapter's base lies elsewhere and may change: its scores are not kept.
        if model.is_dir() and not (model / "adapter_config.json").exists():
            self._thread = threading.Thread(target=self._work, args=(model,), daemon=True)
            self._thread.start()

    def result(self) -> str | None:
        """Return the digest; None where the weights cannot be named."""
        if self._thread is not None:
            self._thread.join()
        return self._found

    def _work(self, model: Path) -> None:
        with contextlib.suppress(OSError):
            self._found = _digest_of(model)


def _digest_of(model: Path) -> str:
    """Hash a model folder's weights; files that have not changed are not read again."""
    digest = hashlib.sha256()
    files = sorted({path.resolve() for pattern in _WEIGHTS for path in model.glob(pattern)})
    for path in files:
        status = path.stat()
        identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
        known = folder() / f"{hashlib.sha256(identity.encode()).hexdigest()}.weights"
        try:
            found = known.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            found = _hash(path)
            with contextlib.suppress(OSError):
                folder().mkdir(parents=True, exist_ok=True, mode=0o700)
                write_text_atomic(known, found)
        digest.update(found.encode())
    return digest.hexdigest()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
