"""Python files that a model brings (``auto_map`` in its settings): which they are, and a digest of them all.

Nothing here imports or runs any of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_AUTO_MAP = "auto_map"


def code_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every Python file below a folder, by its path in it.

    Every one, and not those alone that ``auto_map`` names: these import others.

    Raises:
        OSError: a file cannot be read.
    """
    found = sorted(path for path in folder.rglob("*.py") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def code_digest(files: Mapping[str, str]) -> str:
    """Return one SHA-256 of the names and digests of files, as :func:`code_files` returns them."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def foreign_code(folder: Path) -> str | None:
    """Return an entry of ``auto_map`` that names code outside the folder, which its digest does not cover.

    ``REPOSITORY--module.Class`` names another repository, and transformers joins a module's name to the folder as it
    is: one with a slash in it would lead out of it. None where there is no such entry.
    """
    for file in sorted(folder.glob("*.json")):
        for reference in _references(file):
            module, _, name = reference.partition(".")
            if not (module.isidentifier() and name.isidentifier() and (folder / f"{module}.py").is_file()):
                return f"{reference} (in {file.name})"
    return None


def _references(file: Path) -> Iterator[str]:
    try:
        settings: Any = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    mapped = settings.get(_AUTO_MAP) if isinstance(settings, dict) else None
    if isinstance(mapped, list):  # of a tokenizer: slow and fast
        mapped = {"": mapped}
    for entry in mapped.values() if isinstance(mapped, dict) else ():
        yield from (str(one) for one in (entry if isinstance(entry, list) else [entry]) if one is not None)
