"""The cache of scans: for each dataset a folder with the flags of every row, the index of its rows, and the report.

The folder is named by a hash of the files' paths, sizes and modification times and of the settings that decide how they
are read, so that a changed file has another folder. Everything in it can be computed again.
"""

import hashlib
from pathlib import Path
from typing import Any

import orjson

from dpo_tui.data.cache_folders import data_cache
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import DataFile, Source

VERSION = 4


def file_versions(files: list[DataFile]) -> list[list[Any]]:
    """Path, size in bytes and modification time in nanoseconds of files: they differ once a file was changed."""
    return [[str(file.path.absolute()), *_size_and_time(file.path)] for file in files]


def cache_folder(files: list[DataFile], source: Source) -> Path:
    """The cache folder of a dataset in its present state; it may not exist yet."""
    known = orjson.dumps(
        [
            VERSION,
            file_versions(files),
            list(source.mapping),
            source.max_rows,
            source.encoding,
            source.split,
            source.weights,
        ]
    )
    return data_cache() / hashlib.sha256(known).hexdigest()[:24]


def cached_flags(source: Source) -> Path | None:
    """The file with the flags of every row, 32 bits each; None if the dataset was not scanned in its present state."""
    path = cache_folder(locate(source), source) / "flags.u32"
    return path if path.is_file() else None


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
