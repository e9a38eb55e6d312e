"""What the id of a hub repository looks like, and the suffixes by which files of data are known."""

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
PACKED = {".gz": "gz", ".zst": "zst"}

# As the hub's own check of ids: a name, or ORGANISATION/NAME, of letters, digits, "-", "_" and ".".
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def looks_like_hub_id(location: str) -> bool:
    """Whether a location that is no local path can be the id of a repository on the hub."""
    return bool(_HUB_ID.fullmatch(location)) and Path(location).suffix not in {*SUFFIXES, *PACKED}
