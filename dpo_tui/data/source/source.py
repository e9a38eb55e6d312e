"""What a person says about where their data lies, and what one file of it is."""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.data.rows.shapes import ColumnMapping
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import SUFFIXES

_MAGIC = ((b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst"))
_OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"BZh", "bzip2: repack it as gzip or zstd"),
    (b"\xfd7zXZ", "xz: repack it as gzip or zstd"),
)
READABLE = "JSONL, JSON, CSV and Parquet can be read (the first three also as .gz or .zst), and `datasets` folders."
Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much is done, and how much there is, in bytes."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a person says about their data.

    Args:
        location: a path or a hub id such as ``trl-lib/ultrafeedback_binarized``.
        subset: the config of a hub dataset, or the sub-folder of a local one.
        split: the split to take, by name; None takes ``train``, or the only one there is.
        prompt_field: the column that holds the prompt, where its name says nothing.
        chosen_field: the column of the preferred answer.
        rejected_field: the column of the other answer.
        system_field: the column of the system message.
        max_rows: read no more than this many rows; None reads all.
    """

    location: str
    subset: str | None = None
    split: str | None = None
    prompt_field: str | None = None
    chosen_field: str | None = None
    rejected_field: str | None = None
    system_field: str | None = None
    max_rows: int | None = None

    @property
    def mapping(self) -> ColumnMapping:
        """The column names that were given by hand."""
        return ColumnMapping(self.prompt_field, self.chosen_field, self.rejected_field, self.system_field)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read.

    Args:
        path: where it is.
        kind: ``json`` (lines or an array), ``csv``, ``parquet`` or ``arrow``.
        packed: None, ``gz`` or ``zst``.
    """

    path: Path
    kind: str
    packed: str | None = None


def data_file(path: Path) -> DataFile:
    """Tell what a file is, by its first bytes and then by its name.

    Raises:
        DataError: it is no regular file, is empty, cannot be read, or is of a kind that holds no rows.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(
                f"{path} is not a regular file", hint="Pipes and devices cannot be read twice: save to a file."
            )
        if status.st_size == 0:
            raise DataError(f"{path} is empty", hint="It should hold one pair a line; see `dpo-tui inspect --help`.")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(b"PAR1"):
        return DataFile(path, "parquet")
    if head.startswith(b"ARROW1"):
        return DataFile(path, "arrow")
    for magic, name in _OTHER_FILES:
        if head.startswith(magic):
            raise DataError(f"{path} is {name}", hint=READABLE)
    packed = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    suffixes = [one.lower() for one in path.suffixes[-2:]]
    kind = next((SUFFIXES[one] for one in reversed(suffixes) if one in SUFFIXES), "json")
    if kind == "parquet":
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1", hint="Was the download cut short?")
    return DataFile(path, kind, packed)
