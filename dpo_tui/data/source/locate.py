"""Find the files of a dataset: one file, a folder, a saved `datasets` folder, or a hub dataset."""

import difflib
import glob
import os
import stat
from dataclasses import replace
from pathlib import Path, PurePath

from dpo_tui.data.source.dataset_splits import (
    EVALUATION_WORDS,
    WHOLE,
    NoPartsError,
    are_parts,
    choose_split,
    files_of_split,
    left_note,
    require_split,
    split_word,
)
from dpo_tui.data.source.hub_dataset import cached, download, hub_splits
from dpo_tui.data.source.source import READABLE, DataFile, Progress, Source, data_file, is_data_file
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import looks_like_hub_id
from dpo_tui.paths import expanded

_ONLY_SUBSET = "default"
"""What the `datasets` library calls the subset of data that has only one."""
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
    found: list[list[DataFile]] = []
    whole: list[tuple[int, NoPartsError]] = []
    for part, location in enumerate(source.locations):
        one = replace(source, location=location, more=())
        try:
            files = [replace(file, split=source.split) for file in _located(one, progress)]
        except NoPartsError as error:
            whole.append((part, error))
            files = _located(replace(one, subset=None, split=None), progress)
            note = f"{Path(location).name} has no splits or subsets and is read as a whole"
            files = [replace(file, note=note if file is files[0] else "") for file in files]
        found.append([replace(file, encoding=source.encoding, part=part) for file in files])
    # Beside a folder or hub dataset that has the split, files are whole; where nothing has it, it is a mistake.
    if len(whole) == len(source.locations):
        raise whole[0][1]
    return [file for files in found for file in files]


def _located(source: Source, progress: Progress | None) -> list[DataFile]:
    if not source.location:  # Path("") is the working folder, which nobody has asked for
        raise DataError("the dataset has no name", hint="Give a file, a folder or a hub id such as org/name.")
    path = expanded(source.location)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if is_pattern(source.location):
            return _matches(path, source)
        if looks_like_hub_id(source.location):
            return [replace(data_file(file), is_of_split=True) for file in download(source, progress)]
        raise _not_found(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{source.location}: {error}") from error
    if stat.S_ISDIR(mode):
        return _folder(path, source)
    return [_whole_file(path, source)]


def _whole_file(path: Path, source: Source) -> DataFile:
    """A file that the user named by itself.

    Raises:
        NoPartsError: a split or subset was named that it cannot have.
    """
    file = data_file(path)
    if source.subset not in (None, _ONLY_SUBSET):
        raise NoPartsError(
            f"{path} is one file and has no subset {source.subset!r}",
            hint="Leave the subset out (dataset_config or eval_dataset_config, inspect: --subset).",
        )
    if source.split is not None and not file.may_hold_splits:  # of others the reader sees whether they have it
        require_split(source.split, path)
    return file


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
    path = expanded(source.location)
    if path.is_file():
        return []
    find = locate if path.is_dir() else _from_hub_cache
    try:
        names = splits_of(source) if path.is_dir() else _EVALUATION_SPLITS
    except DataError:
        return []
    for name in _EVALUATION_SPLITS:
        if name not in names:
            continue
        try:
            files = find(replace(source, split=name))
            return files if [file.path for file in files] != [file.path for file in find(source)] else []
        except DataError:
            continue
    return []


def splits_of(source: Source) -> list[str]:
    """The names of the splits of a folder or a hub dataset; empty for a file, and where no name says so.

    Raises:
        DataError: the dataset cannot be reached, or has no such subset.
    """
    path = expanded(source.location)
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
    return [replace(data_file(file), is_of_split=True) for file in cached(source)]


def is_pattern(location: str) -> bool:
    """Whether a location that does not exist by this name stands for the files that match it."""
    return any(sign in location for sign in "*?[")


def _matches(pattern: Path, source: Source) -> list[DataFile]:
    """The data files that match a pattern, in the order of their names.

    Raises:
        DataError: there are none, or none of the split that was named.
    """
    paths = [Path(found) for found in sorted(glob.glob(str(pattern), recursive=True))]
    files = [path for path in paths if path.is_file() and is_data_file(PurePath(path.name))]
    if not files:
        what = f"matches no data file, only {paths[0].name}" if paths else "matches no file"
        raise DataError(f"{pattern} {what}", hint=READABLE)
    if source.subset not in (None, _ONLY_SUBSET):
        raise NoPartsError(
            f"{pattern} is a pattern and has no subset {source.subset!r}", hint="Put the subset into the pattern."
        )
    if source.split is None:
        return [data_file(path) for path in files]
    return _of_split(files, [path.name for path in files], source.split, pattern)


def _folder(path: Path, source: Source) -> list[DataFile]:
    """The files of a folder: a ``DatasetDict`` or ``Dataset`` saved by `datasets`, or any data files."""
    path = _subset_folder(path, source)
    if (path / "dataset_dict.json").is_file():
        splits = sorted(state.parent.name for state in path.glob("*/state.json"))
        chosen = choose_split(splits, source.split, path)
        files = _saved_dataset(path / chosen)
        return [replace(files[0], note=left_note(path, splits, [chosen])), *files[1:]] if files else []
    if (path / "state.json").is_file():
        return _saved_dataset(path, source.split)
    found = _data_files_in(path)
    if not found:
        raise DataError(f"{path} holds no data file", hint=READABLE)
    names = [str(file.relative_to(path)) for file in found]
    if source.split is None and (len(found) == 1 or are_parts(names)):
        return [data_file(file) for file in found]
    return _of_split(found, names, source.split, path)


def _of_split(found: list[Path], names: list[str], split: str | None, where: Path) -> list[DataFile]:
    """The files of one split, with a note that names the others.

    Raises:
        DataError: none of them is of the split; or it is not clear which one is meant.
    """
    files = [data_file(file) for file in found] if split is not None else []
    if files and not any(map(split_word, names)) and all(file.may_hold_splits for file in files):
        return files  # each may have a list of rows for each split
    chosen = files_of_split(found, names, split, where)
    note = left_note(where, names, [name for name, file in zip(names, found, strict=True) if file in chosen])
    return [replace(data_file(file), is_of_split=True, note=note if file is chosen[0] else "") for file in chosen]


def _subset_folder(path: Path, source: Source) -> Path:
    """The folder of the subset that was named, or the folder itself.

    Raises:
        DataError: there is no such subset.
    """
    if source.subset is None or (path / source.subset).is_dir():
        return path / (source.subset or "")
    if source.subset == _ONLY_SUBSET:
        return path
    inside = sorted({file.relative_to(path).parts[0] for file in _data_files_in(path) if file.parent != path})
    raise DataError(
        f"{path} has no subset {source.subset!r}",
        hint=f"Its folders are: {', '.join(inside)}." if inside else "It has no folders: leave the subset out.",
    )


def _data_files_in(path: Path) -> list[Path]:
    """The data files of a folder and the folders in it, links to folders elsewhere included."""
    found: list[Path] = []
    walked: set[Path] = set()
    # Not rglob: it leaves links to folders out, and data are often on another disk than their folder.
    for folder, inside, names in os.walk(path, followlinks=True):
        real = Path(folder).resolve()
        if real in walked:
            inside.clear()  # a link to a folder above it, or a second link to it: its rows would be read twice
            continue
        walked.add(real)
        inside.sort()
        found += [Path(folder, name) for name in names]
    return [file for file in sorted(found) if file.is_file() and is_data_file(file.relative_to(path))]


def _saved_dataset(path: Path, split: str | None = None) -> list[DataFile]:
    """The Arrow files of a folder written by ``Dataset.save_to_disk``, in the order of its ``state.json``.

    Raises:
        DataError: a file is missing; or the split that was named is not the one that was saved.
    """
    import orjson

    try:
        state = orjson.loads((path / "state.json").read_bytes())
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / 'state.json'} cannot be read: {error}", hint="Save the dataset again.") from error
    saved = state.get("_split")
    if split not in (None, WHOLE, saved):
        raise DataError(
            f"{path} is one saved split and has no split {split!r}", hint=f"It has: {saved or 'one without a name'}."
        )
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
