"""Tokenised pairs kept between runs, in `$DPO_TUI_HOME/cache/tokens`: rows are tokenised once for a tokenizer.

One folder for one set of rows: Arrow files, which are mapped into memory and run no code. A folder appears whole or not
at all; one that looks odd is deleted and made again.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from dpo_tui import paths

# Fewer rows are tokenised faster than they are looked up.
FEWEST = 500
# A million pairs of 300 tokens take about 8 GB as Arrow has them.
LIMIT_BYTES = 10 * 1000**3
# A process of its own pays for this many rows (fork, pickle and gather took about as long as 700 rows).
_ROWS_A_PROCESS = 2000
_WRITTEN = "rows.json"


def folder() -> Path:
    """Where the rows lie."""
    return paths.cache() / "tokens"


def processes(rows: int) -> int | None:
    """Return how many processes should tokenise so many rows; None for this one alone."""
    if not hasattr(os, "sched_getaffinity"):
        # macOS, where a fork after torch has started is not safe.
        return None
    count = min(len(os.sched_getaffinity(0)), rows // _ROWS_A_PROCESS)
    return count if count > 1 else None


def key_of(dataset: Any, tokenizer: Any, arguments: Any) -> str | None:
    """Return the name of rows as a tokenizer sees them; None where it cannot be told for certain.

    Args:
        dataset: rows as text.
        tokenizer: with its chat template.
        arguments: TRL's; the length decides which pairs are dropped.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = [
        backend.to_str(),
        tokenizer.chat_template,
        tokenizer.special_tokens_map,
        arguments.max_length,
        arguments.truncation_mode,
        [version(package) for package in ("trl", "transformers", "datasets", "tokenizers")],
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for row in dataset:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def load(key: str) -> Any | None:
    """Return the rows kept under a key; None where there are none that can be trusted."""
    place = folder() / key
    try:
        written = json.loads((place / _WRITTEN).read_text(encoding="ascii"))
        rows = load_from_disk(place)
        if not isinstance(rows, Dataset) or len(rows) != written["rows"] or not len(rows):
            raise ValueError("not these rows")
        # Reading the ends finds a torn file.
        rows[0], rows[-1]
        os.utime(place)
    except FileNotFoundError:
        return None
    except Exception:  # pyarrow and datasets raise families of their own; whatever it is, the rows are made again
        shutil.rmtree(place, ignore_errors=True)
        return None
    return rows


def store(key: str, dataset: Any, limit: int = LIMIT_BYTES) -> None:
    """Keep rows, and delete those that were not used for longest until all fit into ``limit`` bytes.

    A full or read-only disk is no reason to end a run: then nothing is kept.
    """
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".") as place:
            made = Path(place) / "rows"
            dataset.save_to_disk(made)
            (made / _WRITTEN).write_text(json.dumps({"rows": len(dataset)}), encoding="ascii")
            # Another run may have been first; its rows are the same.
            with contextlib.suppress(OSError):
                made.rename(folder() / key)
        _prune(limit)


def _prune(limit: int) -> None:
    found = []
    for place in folder().iterdir():
        if not place.name.startswith("."):
            size = sum(path.stat().st_size for path in place.iterdir())
            found.append((place.stat().st_mtime, size, place))
    total = sum(size for _, size, _ in found)
    for _, size, place in sorted(found):
        if total <= limit:
            break
        # The rows of a run that is still reading stay readable: the files are mapped.
        shutil.rmtree(place, ignore_errors=True)
        total -= size
