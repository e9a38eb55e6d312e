"""Cache of tokenised rows in `$DPO_TUI_HOME/cache/tokens`: the same rows are tokenised once for a tokenizer.

Each set of rows is a folder of Arrow files, which are mapped into memory and execute no code. A folder appears complete
or not at all; a damaged one is deleted, and its rows are tokenised again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from datasets import Dataset, load_from_disk

from dpo_tui import paths
from dpo_tui.data.tokens.template_date import clock_texts
from dpo_tui.runs.checkpoint_checksums import checksums_of

# Below this many rows, tokenising is faster than the look-up.
FEWEST = 500
# Of the whole cache; a million pairs of 300 tokens take 1.2 GB as 32-bit numbers.
LIMIT_BYTES = 10 * 1000**3
_HASHED_ROWS = 1000
# Rows per worker process that make it worth its start: fork, pickle and collecting took as long as about 700 rows.
_ROWS_PER_PROCESS = 2000
# Written last into a folder, with the number of rows and the CRC-32 of each file.
_MARKER = "rows.json"
# The rows that `Writer` wrote; those that TRL has tokenised lie in the files of `Dataset.save_to_disk`.
_ROWS = "rows.arrow"
_FREE_BYTES = 1000**3
"""Bytes of the disk that are left to others."""


def folder() -> Path:
    """Return the folder of the cache."""
    return paths.cache() / "tokens"


def processes(rows: int) -> int | None:
    """Return how many processes should tokenise a number of rows; None for this process alone."""
    if not hasattr(os, "sched_getaffinity"):
        # macOS, where forking after torch has started its threads is not safe.
        return None
    count = min(len(os.sched_getaffinity(0)), rows // _ROWS_PER_PROCESS)
    return count if count > 1 else None


def dates_in(tokenizer: Any) -> list[str] | None:
    """Return what the tokenizer's chat template writes of the date now; None where it cannot be known."""
    template = getattr(tokenizer, "chat_template", None)
    sources = template.values() if isinstance(template, dict) else [template] if template else []
    return clock_texts(sources)


def key_of(dataset: Any, tokenizer: Any, arguments: Any, more: Sequence[Any] = ()) -> str | None:
    """Return the cache key of rows: a digest of the rows and of everything that changes how they are tokenised.

    Args:
        dataset: rows as text.
        tokenizer: with its chat template.
        arguments: TRL's; the length decides which pairs are dropped.
        more: whatever else changes the tokenised rows of a strategy, as JSON; pairs have nothing.

    Returns:
        A SHA-256 in hexadecimal digits; None for a tokenizer that cannot be serialised, and for a template whose text
        may be another each time.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    dates = dates_in(tokenizer)
    if backend is None or dates is None:
        return None
    parts = [
        backend.to_str(),
        tokenizer.chat_template,
        dates,
        tokenizer.special_tokens_map,
        arguments.max_length,
        getattr(arguments, "truncation_mode", None),  # KTOConfig has none
        [version(package) for package in ("trl", "transformers", "datasets", "tokenizers")],
        *more,
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    # As Arrow holds them: messages are JSON text there, with keys in their order, in which a template writes the
    # arguments of a tool call.
    for table in dataset.with_format("arrow").iter(batch_size=_HASHED_ROWS):
        digest.update(orjson.dumps(table.to_pydict()))
    return digest.hexdigest()


def load(key: str) -> Any | None:
    """Return the rows stored under a key; None where there are none, or they are damaged."""
    place = folder() / key
    try:
        written = json.loads((place / _MARKER).read_text(encoding="ascii"))
        rows = Dataset.from_file(str(place / _ROWS)) if (place / _ROWS).is_file() else load_from_disk(place)
        if not isinstance(rows, Dataset) or len(rows) != written["rows"] or not len(rows):
            raise ValueError("not the rows that the marker describes")
        # A token id that the disk has changed would be trained on without a word.
        if not written.get("crc32") or written["crc32"] != _checksums(place, written["crc32"]):
            raise ValueError("not the files that were written")
        # Opening maps the files without reading them; reading both ends finds a truncated one.
        rows[0], rows[-1]
        os.utime(place)  # the time of the last use, by which `_prune` deletes
    except FileNotFoundError:
        return None
    except Exception:  # pyarrow and datasets raise exceptions of their own; in any case the rows are tokenised again
        shutil.rmtree(place, ignore_errors=True)
        return None
    return rows


def store(key: str, dataset: Any, limit: int = LIMIT_BYTES) -> None:
    """Store rows under a key, then delete the least recently used sets until all fit into ``limit`` bytes.

    On a full or read-only disk nothing is stored; the run continues.
    """
    with contextlib.suppress(OSError):
        paths.make_private(folder())
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as place:
            partial = Path(place) / "rows"
            dataset.save_to_disk(partial)
            _write_marker(partial, len(dataset))
            # A rename is atomic. It fails if another run has stored the same rows meanwhile.
            with contextlib.suppress(OSError):
                partial.rename(folder() / key)
        _prune(limit)


def store_batches(
    key: str | None, schema: pa.Schema, batches: Iterator[pa.RecordBatch], limit: int = LIMIT_BYTES
) -> Any:
    """Write rows as they come, store them under a key, and return them, mapped into memory; then delete as `store`.

    Args:
        key: None keeps them for as long as they are mapped only.
        schema: of the batches.
        batches: the rows.
        limit: bytes of the whole cache. A larger set of rows is not kept for other runs.

    Raises:
        OSError: they cannot be written.
    """
    paths.make_private(folder())
    with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as place:
        partial = Path(place) / "rows"
        partial.mkdir()
        count = 0
        with pa.OSFile(str(partial / _ROWS), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows
        _write_marker(partial, count)
        # Mapped before the folder gets its name, or is deleted without one: what is mapped stays readable.
        rows = Dataset.from_file(str(partial / _ROWS))
        if key and (partial / _ROWS).stat().st_size <= limit:
            with contextlib.suppress(OSError):
                partial.rename(folder() / key)
    _prune(limit)
    return rows


def _write_marker(place: Path, rows: int) -> None:
    checksums = _checksums(place, [path.name for path in place.iterdir()])
    (place / _MARKER).write_text(json.dumps({"rows": rows, "crc32": checksums}), encoding="ascii")


def _checksums(place: Path, names: Iterable[str]) -> dict[str, int]:
    """The CRC-32 of files of a folder, by name; `datasets` may write others beside them."""
    files = [place / name for name in names]
    return {path.name: found for path, found in zip(files, checksums_of(files), strict=True)}


def forget(key: str) -> None:
    """Delete the rows stored under a key; where they are mapped they stay readable."""
    shutil.rmtree(folder() / key, ignore_errors=True)


def free_bytes() -> int:
    """Return the bytes that the cache may take of what is free on its disk."""
    place = next(place for place in (folder(), *folder().parents) if place.exists())
    return max(0, shutil.disk_usage(place).free - _FREE_BYTES)


def _prune(limit: int) -> None:
    entries = []
    for place in folder().iterdir():
        if not place.name.startswith("."):
            size = sum(path.stat().st_size for path in place.iterdir())
            entries.append((place.stat().st_mtime, size, place))
    total = sum(size for _, size, _ in entries)
    for _, size, place in sorted(entries):
        if total <= limit:
            break
        # A run that still reads these rows has the files mapped: they stay readable until it unmaps them.
        shutil.rmtree(place, ignore_errors=True)
        total -= size
