"""Where a dataset is, as the user names it, and what kind of file each of its data files is."""

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import PACKED, SUFFIXES
from dpo_tui.text.location_list import as_text

if TYPE_CHECKING:  # the scan's child processes take sources and never a config: they start without pydantic
    from dpo_tui.config.schema import Config

# First bytes of packed files, and of files that people give by mistake.
_PACKED_MAGIC = ((b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst"))
_OTHER_MAGIC = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"BZh", "bzip2: repack it as gzip or zstd"),
    (b"\xfd7zXZ", "xz: repack it as gzip or zstd"),
)
_DATASETS_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""JSON files that the `datasets` library writes beside its data; they hold no rows."""
READABLE = "JSONL, JSON, CSV and Parquet can be read (the first three also as .gz or .zst), and `datasets` folders."
FILE_SETTINGS = (
    "prompt_field",
    "chosen_field",
    "rejected_field",
    "system_field",
    "prefix_field",
    "label_field",
    "completion_field",
    "rating_threshold",
    "ranking_pairs",
    "encoding",
)
"""Settings of a config, and arguments of a source, that say how the rows of its own files are read."""
Progress = Callable[[str, int, int], None]
"""Called with a phase, the bytes done, and the bytes in all."""


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset as the user names it.

    Args:
        location: a path or a hub id such as ``trl-lib/ultrafeedback_binarized``.
        subset: the config of a hub dataset, or the sub-folder of a local one.
        split: the split to take, by name; None takes ``train``, or the only one there is.
        prompt_field: the column of the prompt; None finds it by its name.
        chosen_field: the column of the preferred answer; None finds it by its name.
        rejected_field: the column of the other answer; None finds it by its name.
        system_field: the column of the system message; None finds it by its name.
        max_rows: read no more than this many rows; None reads all.
        prefix_field: the column of the beginning that both answers share; None where there is none.
        label_field: the column that says which of two answers is better; None finds it by its name.
        ranking_pairs: ``all`` or ``best-worst``; None takes every pair of ranked, and the best and worst of scored
            answers.
        encoding: of its text files that are not UTF-8; None finds it from the bytes.
        more: further locations, whose rows follow those of the first one.
        weights: the share of each location in the mix of all; empty uses all rows of each.
        seed: chooses the rows of the mix.
        completion_field: the column of a labelled answer; None finds it by its name.
        rating_threshold: the lowest rating of a desirable answer; None where answers have no ratings.
    """

    location: str
    subset: str | None = None
    split: str | None = None
    prompt_field: str | None = None
    chosen_field: str | None = None
    rejected_field: str | None = None
    system_field: str | None = None
    max_rows: int | None = None
    prefix_field: str | None = None
    label_field: str | None = None
    ranking_pairs: str | None = None
    encoding: str | None = None
    more: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    seed: int = 42
    completion_field: str | None = None
    rating_threshold: float | None = None

    @classmethod
    def of(cls, locations: Sequence[str], **settings: Any) -> "Source":
        """A dataset of one or several locations; ``settings`` are the other arguments."""
        return cls(locations[0] if locations else "", more=tuple(locations[1:]), **settings)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Source":
        """Read what ``dataclasses.asdict`` gave and JSON has carried: JSON has no tuples."""
        return cls(**document | {"more": tuple(document["more"]), "weights": tuple(document["weights"])})

    @property
    def locations(self) -> tuple[str, ...]:
        """All locations, in the order of their rows."""
        return (self.location, *self.more)

    @property
    def rows_read(self) -> int | None:
        """How many rows to read at most; None reads all: of a mix, ``max_rows`` is the size of what is drawn."""
        return None if self.weights else self.max_rows

    @property
    def name(self) -> str:
        """All locations as one text."""
        return as_text(self.locations)

    @property
    def mapping(self) -> ColumnMapping:
        """The column names that the user set."""
        return ColumnMapping(
            prompt=self.prompt_field,
            chosen=self.chosen_field,
            rejected=self.rejected_field,
            system=self.system_field,
            prefix=self.prefix_field,
            label=self.label_field,
            ranking_pairs=self.ranking_pairs,
            completion=self.completion_field,
            rating_threshold=self.rating_threshold,
        )


def training_source(config: "Config") -> Source:
    """The dataset that a config trains on."""
    weights = tuple(config.dataset_weights or ())
    return Source.of(
        config.datasets,
        subset=config.dataset_config,
        split=config.dataset_split,
        prompt_field=config.prompt_field,
        chosen_field=config.chosen_field,
        rejected_field=config.rejected_field,
        system_field=config.system_field,
        max_rows=config.max_samples,
        prefix_field=config.prefix_field,
        label_field=config.label_field,
        ranking_pairs=config.ranking_pairs,
        encoding=config.encoding,
        weights=weights,
        seed=config.seed,
        completion_field=config.completion_field,
        rating_threshold=config.rating_threshold,
    )


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read.

    Args:
        path: where it is.
        kind: ``json`` (lines or an array), ``csv``, ``parquet`` or ``arrow``.
        packed: None, ``gz`` or ``zst``.
        encoding: of a text file that is not UTF-8, as the user named it; None finds it from the bytes.
        split: the split that the user named, for a file that holds several; None takes ``train`` or the only one.
        part: number of the location that it belongs to.
        is_of_split: whether it was chosen for the split, by its name or its folder's; else its content has to have it.
        note: which files of its folder are read and which are not, in words; with the first file of a folder only.
    """

    path: Path
    kind: str
    packed: str | None = None
    encoding: str | None = None
    split: str | None = None
    part: int = 0
    is_of_split: bool = False
    note: str = ""

    @property
    def may_hold_splits(self) -> bool:
        """Whether it is JSON that may be one object, with a list of rows for each split, and not JSON lines."""
        return self.kind == "json" and not any(suffix in (".jsonl", ".ndjson") for suffix in self.path.suffixes)


def is_data_file(name: PurePath) -> bool:
    """Whether a file of a dataset holds rows, by its name: its suffix, and that it is neither hidden nor metadata.

    Args:
        name: relative to the dataset's folder or repository.
    """
    if any(part.startswith(".") for part in name.parts) or name.name in _DATASETS_METADATA:
        return False
    suffixes = [suffix.lower() for suffix in name.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def data_file(path: Path) -> DataFile:
    """Find the kind of a file by its first bytes, and where they leave it open, by its name.

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
    for magic, description in _OTHER_MAGIC:
        if head.startswith(magic):
            raise DataError(f"{path} is {description}", hint=READABLE)
    packed = next((name for magic, name in _PACKED_MAGIC if head.startswith(magic)), None)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    # Without a known suffix it is taken for JSON: a line of something else is then shown to the user as a bad row.
    kind = next((SUFFIXES[suffix] for suffix in reversed(suffixes) if suffix in SUFFIXES), "json")
    if kind == "parquet":
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1", hint="Was the download cut short?")
    return DataFile(path, kind, packed)
