"""Delete the folders of runs, groups and improvements, and what a killed command left of one. Standard library only."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ID_PATTERN = r"\d{8}-\d{6}-[0-9a-f]{4}"
"""The ids of runs, groups and improvements."""
_LEFTOVER = re.compile(rf"\.(removing|creating)-{ID_PATTERN}")
_ABANDONED = 3600.0
"""Seconds after which a half-created folder is taken for abandoned; creating one takes milliseconds."""


def delete_leftovers(home: Path, is_ours: Callable[[Path], bool]) -> None:
    """Delete folders that a killed command was removing or creating: they may hold gigabytes, and no list shows them.

    Not to be called when folders are listed, which the app does every second: deleting many files takes long.

    Args:
        home: the folder that they are in.
        is_ours: as in `delete_folder`.

    Raises:
        OSError: the home cannot be read.
    """
    with os.scandir(home) as entries:
        found = [entry for entry in entries if _LEFTOVER.fullmatch(entry.name)]
    for entry in found:
        # Two processes may delete the same removed folder. One that is being created must be left alone.
        if entry.name.startswith(".removing-") or _age(Path(entry.path)) > _ABANDONED:
            delete_folder(Path(entry.path), is_ours, ignore_errors=True)


def delete_folder(path: Path, is_ours: Callable[[Path], bool], ignore_errors: bool = False) -> None:
    """Delete a folder; files that another process deletes meanwhile are no error.

    It may have been moved to another disk, with a link in its place. Then its files there are deleted too, if they are
    what they should be.

    Args:
        path: the folder, or a link to it.
        is_ours: whether what a link leads to is a folder of ours, and not one of the user's documents.
        ignore_errors: leave what cannot be deleted.

    Raises:
        OSError: something cannot be deleted.
    """
    import shutil  # slow to load, and listing runs must be fast

    def on_error(function: Callable[..., Any], name: str, error: Any) -> None:
        if not ignore_errors and not isinstance(error[1], FileNotFoundError):
            raise error[1]

    if path.is_symlink():
        # The files first: once the link is gone, nothing says where they are.
        if is_ours(path):
            shutil.rmtree(path.resolve(), onerror=on_error)
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, onerror=on_error)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
