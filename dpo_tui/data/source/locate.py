"""Find the files of a dataset: one file, a folder, a saved `datasets` folder, or a hub dataset."""

import difflib
import glob
import os
import stat
from dataclasses import replace
from pathlib import Path, PurePath

from dpo_tui.data.source.dataset_splits import EVALUATION_WORDS, are_parts, choose_split, files_of_split, split_word
from dpo_tui.data.source.hub_dataset import cached, download, hub_splits
from dpo_tui.data.source.source import READABLE, DataFile, Progress, Source, data_file, is_data_file
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import looks_like_hub_id

_EVALUATION_SPLITS = (*EVALUATION_WORDS, "test_prefs")


def locate(source: Source, progress: Progress | None = None) -> list[DataFile]:
    """Find the files of a dataset; those of a hub id are downloaded.

    A path on this machine goes before a hub id of the same spelling.

    Args:
        source: the dataset, as the user named it.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: there is nothing there, or nothing that can be read, or it is not clear which split is meant.
    """
    return [
        replace(file, encoding=source.encoding, split=source.split, part=part)
        for part, location in enumerate(source.locations)
        for file in _located(replace(source, location=location, more=()), progress)
    ]


def _located(source: Source, progress: Progress | None) -> list[DataFile]:
    if not source.location:  # Path("") is the working folder, which nobody has asked for
        raise DataError("the dataset has no name", hint="Give a file, a folder or a hub id such as org/name.")
    path = Path(source.location).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if is_pattern(source.location):
            return _matches(path)
        if looks_like_hub_id(source.location):
            return [data_file(file) for file in download(source, progress)]
        raise _not_found(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{source.location}: {error}") from error
    if stat.S_ISDIR(mode):
        return _folder(path, source)
    return [data_file(path)]


def locate_evaluation(source: Source, evaluation: Source | None) -> list[DataFile]:
    """Find the files of the evaluation data that belong to a dataset; an empty list when there is none.

    Args:
        source: the training data.
        evaluation: the evaluation data that the user set; None looks for an evaluation split in the same local folder,
            or in the hub's cache for a hub dataset.

    Raises:
        DataError: the data that the user set cannot be read.
    """
    if evaluation is not None:
        return locate(evaluation)
    if source.more or is_pattern(source.location):  # what belongs to one of several is held out from it, too
        return []
    path = Path(source.location).expanduser()
    find = locate if path.is_dir() else _from_hub_cache
    if path.is_file():
        return []
    for name in _EVALUATION_SPLITS:
        try:
            files = find(replace(source, split=name))
            return files if files != find(source) else []
        except DataError:
            continue
    return []


def splits_of(source: Source) -> list[str]:
    """The names of the splits of a folder or a hub dataset; empty for a file, and where no name says so.

    Raises:
        DataError: the dataset cannot be reached, or has no such subset.
    """
    path = Path(source.location).expanduser()
    if path.is_dir():
        path = _subset_folder(path, source)
        if (path / "dataset_dict.json").is_file():
            return sorted(state.parent.name for state in path.glob("*/state.json"))
        names = [str(file.relative_to(path)) for file in _data_files_in(path)]
        return sorted({split_word(name) for name in names} - {""})
    if path.exists() or is_pattern(source.location) or not looks_like_hub_id(source.location):
        return []
    return hub_splits(source)


def _from_hub_cache(source: Source) -> list[DataFile]:
    if not looks_like_hub_id(source.location):
        return []
    return [data_file(file) for file in cached(source)]


def is_pattern(location: str) -> bool:
    """Whether a location that does not exist by this name stands for the files that match it."""
    return any(sign in location for sign in "*?[")


def _matches(pattern: Path) -> list[DataFile]:
    """The data files that match a pattern, in the order of their names.

    Raises:
        DataError: there are none.
    """
    paths = [Path(found) for found in sorted(glob.glob(str(pattern), recursive=True))]
    files = [path for path in paths if path.is_file() and is_data_file(PurePath(path.name))]
    if not files:
        what = f"matches no data file, only {paths[0].name}" if paths else "matches no file"
        raise DataError(f"{pattern} {what}", hint=READABLE)
    return [data_file(path) for path in files]


def _folder(path: Path, source: Source) -> list[DataFile]:
    """The files of a folder: a ``DatasetDict`` or ``Dataset`` saved by `datasets`, or any data files."""
    path = _subset_folder(path, source)
    if (path / "dataset_dict.json").is_file():
        splits = sorted(state.parent.name for state in path.glob("*/state.json"))
        return _saved_dataset(path / choose_split(splits, source.split, path))
    if (path / "state.json").is_file():
        return _saved_dataset(path)
    found = _data_files_in(path)
    if not found:
        raise DataError(f"{path} holds no data file", hint=READABLE)
    if len(found) > 1:
        names = [str(file.relative_to(path)) for file in found]
        if source.split is not None or not are_parts(names):
            found = files_of_split(found, names, source.split, path)
    return [data_file(file) for file in found]


def _subset_folder(path: Path, source: Source) -> Path:
    return path / source.subset if source.subset and (path / source.subset).is_dir() else path


def _data_files_in(path: Path) -> list[Path]:
    return [file for file in sorted(path.rglob("*")) if file.is_file() and is_data_file(file.relative_to(path))]


def _saved_dataset(path: Path) -> list[DataFile]:
    """The Arrow files of a folder written by ``Dataset.save_to_disk``, in the order of its ``state.json``."""
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


def _not_found(path: Path) -> DataError:
    if "," in str(path):
        return DataError(f"{path} does not exist", hint='Several are a list: dataset = ["a.jsonl", "b.jsonl"].')
    folder = path.parent if path.parent.is_dir() else None
    near = difflib.get_close_matches(path.name, os.listdir(folder), n=1) if folder else []
    hint = (
        f"Did you mean {folder / near[0]}?"
        if folder and near
        else "Give a file, a folder or a hub id such as org/name."
    )
    return DataError(f"{path} does not exist", hint=hint)
