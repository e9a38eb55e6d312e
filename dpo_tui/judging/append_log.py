"""What people and models decided, kept line by line, so that neither a kill nor a power cut takes more than one."""

import os
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import append_json_line


def keep_line(path: Path, record: dict[str, Any]) -> None:
    """Append a record as a line of its own, also behind a last line that a power cut tore.

    Raises:
        OSError: the line could not be written whole.
    """
    if _is_torn(path):
        with path.open("ab") as file:
            file.write(b"\n")
    append_json_line(path, record)


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False
