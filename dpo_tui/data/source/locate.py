"""The files behind a source: a file, a folder, a saved `datasets` folder, or what a hub id names."""

import difflib
import os
import stat
from dataclasses import replace
from pathlib import Path

from dpo_tui.data.source.hub_dataset import cached, download
from dpo_tui.data.source.hub_splits import choose_split, files_of_split
from dpo_tui.data.source.source import READABLE, DataFile, Progress, Source, data_file
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import PACKED, SUFFIXES, looks_like_hub_id

_EVALUATION = ("test", "validation", "valid", "val", "dev", "eval", "test_prefs")


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
    return [data_file(one) for one in cached(source)]


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
        raise DataError(f"{path} holds no data file", hint=READABLE)
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
