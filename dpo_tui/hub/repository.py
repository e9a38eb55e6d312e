"""Tell the id of a hub repository from the name of a data file, and which files of a model are read."""

import re
from pathlib import Path

SUFFIXES = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""Suffixes of data files, with the kind of file."""
MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*")
"""Patterns of a model's files that a training run and an export read."""
PACKED = {".gz": "gz", ".zst": "zst"}
"""Suffixes of packed files, with the kind of packing."""

# NAME or ORGANISATION/NAME, of letters, digits, "-", "_" and ".", as huggingface_hub's validate_repo_id has it.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def looks_like_hub_id(location: str) -> bool:
    """Whether a location that is no local path can be the id of a repository on the hub."""
    return bool(_HUB_ID.fullmatch(location)) and Path(location).suffix not in {*SUFFIXES, *PACKED}
