"""Where preference data lies: a file, a folder, a saved `datasets` folder or a hub id, and the files behind it."""

import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_tui.data.shapes import Mapping
from dpo_tui.errors import DataError

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
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
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
_EVALUATION = ("test", "validation", "valid", "val", "dev", "eval", "test_prefs")
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
    def mapping(self) -> Mapping:
        """The column names that were given by hand."""
        return Mapping(self.prompt_field, self.chosen_field, self.rejected_field, self.system_field)


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


def locate(source: Source, progress: Progress | None = None) -> list[DataFile]:
    """Find the files behind a source, downloading them if it is a hub id.

    Raises:
        DataError: there is nothing there, or nothing that can be read, or it is not clear which split is meant.
    """
    if not source.location:  # a path of no letters is the working folder
        raise DataError("the dataset has no name", hint="Give a file, a folder or a hub id such as org/name.")
    path = Path(source.location).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if looks_like_hub_id(source.location):
            from dpo_tui.data.hub import download

            return [data_file(one) for one in download(source, progress)]
        raise _not_found(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{source.location}: {error}") from error
    if stat.S_ISDIR(mode):
        return _folder(path, source)
    return [data_file(path)]


def locate_evaluation(source: Source, evaluation: Source | None) -> list[DataFile]:
    """Find the evaluation split that belongs to a dataset, or nothing.

    Args:
        source: the training data.
        evaluation: given by hand; None looks for a split of that kind in the same local folder, or among what was
            downloaded of a hub dataset before.

    Raises:
        DataError: a split that was given by hand cannot be read.
    """
    if evaluation is not None:
        return locate(evaluation)
    path = Path(source.location).expanduser()
    find = locate if path.is_dir() else _downloaded
    if path.is_file():
        return []
    for name in _EVALUATION:
        try:
            files = find(replace(source, split=name))
            return files if files != find(source) else []
        except DataError:
            continue
    return []


def _downloaded(source: Source) -> list[DataFile]:
    if not looks_like_hub_id(source.location):
        return []
    from dpo_tui.data.hub import cached

    return [data_file(one) for one in cached(source)]


def looks_like_hub_id(location: str) -> bool:
    """Whether a location that is no local path can be the name of a dataset on the hub."""
    return bool(_HUB_ID.fullmatch(location)) and Path(location).suffix not in {*SUFFIXES, *PACKED}


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
            raise DataError(f"{path} is {name}", hint=_READABLE)
    packed = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    suffixes = [one.lower() for one in path.suffixes[-2:]]
    kind = next((SUFFIXES[one] for one in reversed(suffixes) if one in SUFFIXES), "json")
    if kind == "parquet":
        raise DataError(f"{path} is no Parquet file: it does not begin with PAR1", hint="Was the download cut short?")
    return DataFile(path, kind, packed)


_READABLE = "JSONL, JSON, CSV and Parquet can be read (the first three also as .gz or .zst), and `datasets` folders."


def _folder(path: Path, source: Source) -> list[DataFile]:
    if source.subset and (path / source.subset).is_dir():
        path = path / source.subset
    if (path / "dataset_dict.json").is_file():
        splits = sorted(one.parent.name for one in path.glob("*/state.json"))
        return _folder_of_split(path / choose_split(splits, source.split, path))
    if (path / "state.json").is_file():
        return _folder_of_split(path)
    found = [one for one in sorted(path.rglob("*")) if one.is_file() and _is_data(one) and not _hidden(one, path)]
    if not found:
        raise DataError(f"{path} holds no data file", hint=_READABLE)
    if len(found) > 1:
        found = files_of_split(found, [str(one.relative_to(path)) for one in found], source.split, path)
    return [data_file(one) for one in found]


def _folder_of_split(path: Path) -> list[DataFile]:
    import orjson

    try:
        state = orjson.loads((path / "state.json").read_bytes())
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / 'state.json'} cannot be read: {error}", hint="Save the dataset again.") from error
    files = [path / Path(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing, though state.json names it", hint="Copy the whole folder again.")
    return [DataFile(file, "arrow") for file in files]


def files_of_split(files: list[Path], names: list[str], split: str | None, where: Path | str) -> list[Path]:
    """Choose the files of one split by the words in their names (``train-00000-of-00002.parquet``, ``test.jsonl.gz``).

    Raises:
        DataError: there are several splits, none of them ``train``, and none was asked for.
    """
    split_of = [split_word(name) for name in names]
    splits = sorted({one for one in split_of if one})
    if not splits and split is None:
        raise DataError(
            f"{where} holds {len(files)} data files: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}",  # noqa: PLR2004
            hint="Name the file that is meant.",
        )
    wanted = choose_split(splits, split, where)
    return [file for file, one in zip(files, split_of, strict=True) if one == wanted]


def choose_split(splits: list[str], asked: str | None, where: Path | str) -> str:
    """Return the split that was asked for, or ``train``, or the only one.

    Raises:
        DataError: the split does not exist, or it is not clear which one is meant.
    """
    if asked is not None:
        if asked in splits:
            return asked
        raise DataError(f"{where} has no split {asked!r}", hint=f"It has: {', '.join(splits) or 'none'}.")
    if len(splits) == 1:
        return splits[0]
    for usual in ("train", "train_prefs"):
        if usual in splits:
            return usual
    raise DataError(f"{where} has several splits and none is called train", hint=f"Choose one: {', '.join(splits)}.")


_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val|dev|eval)(_[A-Za-z]+)?(?=$|[/_.-])")


def split_word(name: str) -> str:
    """The split that a file's name speaks of, such as ``train`` or ``test_prefs``, or nothing."""
    found = _SPLIT.findall(name)
    return "".join(found[-1]) if found else ""


def _is_data(path: Path) -> bool:
    suffixes = path.suffixes[-2:]
    return bool(suffixes) and (suffixes[-1] in SUFFIXES or (suffixes[-1] in PACKED and suffixes[0] in SUFFIXES))


def _hidden(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    about = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
    return any(part.startswith(".") for part in parts) or path.name in about


def _not_found(path: Path) -> DataError:
    folder = path.parent if path.parent.is_dir() else None
    near = difflib.get_close_matches(path.name, os.listdir(folder), n=1) if folder else []
    hint = (
        f"Did you mean {folder / near[0]}?"
        if folder and near
        else "Give a file, a folder or a hub id such as org/name."
    )
    return DataError(f"{path} does not exist", hint=hint)
