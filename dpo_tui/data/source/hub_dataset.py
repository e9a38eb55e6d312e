"""Download the data files of a hub dataset; its loading script, if it has one, is never run."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dpo_tui.data.source.dataset_splits import files_of_split, split_word
from dpo_tui.data.source.source import Progress, Source, is_data_file
from dpo_tui.errors import DataError
from dpo_tui.hub.client_errors import first_line, is_unreachable

# The hub converts every public dataset to Parquet on this branch, as <subset>/<split>/0000.parquet.
_CONVERTED = "refs/convert/parquet"


def download(source: Source, progress: Progress | None = None) -> list[Path]:
    """Download the data files of one subset and split; without a network, take those in the hub's cache.

    Args:
        source: names the dataset, the subset and the split.
        progress: called before each file with the bytes done and the bytes in all.

    Raises:
        DataError: the dataset does not exist, may not be read, cannot be reached, or its split is not clear.
    """
    try:
        files, revision = _files_on_hub(source.location)
    except Exception as error:
        if is_unreachable(error):
            return _from_cache(source, error)
        raise _rejected(source.location, error) from error
    chosen = _chosen(files, source)
    paths = []
    done, total = 0, sum(files[name] for name in chosen)
    for name in chosen:
        if progress:
            progress(f"downloading {name}", done, total)
        paths.append(_downloaded(source, name, revision))
        done += files[name]
    if progress:
        progress("downloaded", total, total)
    return paths


def hub_splits(source: Source) -> list[str]:
    """The names of the splits that a subset has on the hub, or without a network in its cache.

    Raises:
        DataError: the dataset does not exist, may not be read or cannot be reached, or has no such subset.
    """
    try:
        names = list(_files_on_hub(source.location)[0])
    except Exception as error:
        if not is_unreachable(error):
            raise _rejected(source.location, error) from error
        names = [str(name) for name in _cached_files(source, error)[1]]
    return sorted({split_word(name) for name in _of_subset(names, source)} - {""})


def _files_on_hub(location: str) -> tuple[dict[str, int], str | None]:
    """Names and sizes of a dataset's data files, and the branch that they are on."""
    files = _listed(location, None)
    return (files, None) if files else (_listed(location, _CONVERTED), _CONVERTED)


def _listed(name: str, revision: str | None) -> dict[str, int]:
    """Names and sizes in bytes of a dataset's data files on the hub."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(name, revision=revision, files_metadata=True)
    files = {one.rfilename: one.size or 0 for one in info.siblings or []}
    return {file: size for file, size in files.items() if is_data_file(PurePosixPath(file))}


def _downloaded(source: Source, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source.location, file, repo_type="dataset", revision=revision))
    except Exception as error:
        if is_unreachable(error):
            raise _unreachable(source.location) from error
        raise _rejected(source.location, error) from error


def _chosen(files: Iterable[str], source: Source) -> list[str]:
    """Of a dataset's data files, those of the subset and split that a source names."""
    names = _of_subset(files, source)
    if len(names) == 1 and source.split is None:
        return names
    kept = files_of_split([Path(one) for one in names], names, source.split, source.location)
    return [str(one) for one in kept]


def _of_subset(files: Iterable[str], source: Source) -> list[str]:
    """Of a dataset's data files, those of the subset that a source names, or of the only one."""
    names = sorted(files)
    if source.subset:
        inside = [one for one in names if source.subset in one.split("/")[:-1] or one.startswith(f"{source.subset}.")]
        if not inside:
            folders = sorted({one.split("/")[0] for one in names if "/" in one})
            raise DataError(f"{source.location} has no subset {source.subset!r}", hint=f"It has: {', '.join(folders)}.")
        names = inside
    if not names:
        raise DataError(f"{source.location} holds no data files", hint="Download it and give the local file.")
    if len(names) == 1 and source.split is None:
        return names
    # A folder is a subset unless it is named after a split; `data/` beside nothing else is the usual single one.
    subsets = sorted({one.split("/")[0] for one in names if "/" in one and not split_word(one.split("/")[0])})
    if source.subset is None and len(subsets) > 1:
        raise DataError(
            f"{source.location} has several subsets",
            hint=f"Choose one (dataset_config, inspect: --subset): {', '.join(subsets)}.",
        )
    return names


def cached(source: Source) -> list[Path]:
    """The data files of one subset and split in the hub's cache; the hub itself is not asked.

    Raises:
        DataError: there are none.
    """
    return _from_cache(source, None)


def _from_cache(source: Source, error: Exception | None) -> list[Path]:
    """As :func:`cached`; ``error`` is why the hub was not reached, to be the cause of this one's error."""
    folder, names = _cached_files(source, error)
    return [folder / name for name in _chosen([str(name) for name in names], source)]


def _cached_files(source: Source, error: Exception | None) -> tuple[Path, list[Path]]:
    """The folder of a dataset in the hub's cache, and its data files relative to it."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source.location, repo_type="dataset", local_files_only=True))
    except Exception:
        raise _unreachable(source.location) from error
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if is_data_file(name)]
    if not names:
        raise _unreachable(source.location) from error
    return folder, names


def _unreachable(name: str) -> DataError:
    return DataError(
        f"{name} is no local file, and the hub cannot be reached to look for a dataset of that name",
        hint="Download it where there is a network and give the local file, or set HF_HOME to a filled cache.",
    )


def _rejected(name: str, error: Exception) -> DataError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return DataError(f"{name} is gated", hint="Ask for access on its page, then set HF_TOKEN.")
    if isinstance(error, RepositoryNotFoundError):
        return DataError(
            f"there is no file {name}, and no dataset of that name on the hub (or it is private)",
            hint="Check the spelling; for a private dataset set HF_TOKEN.",
        )
    return DataError(f"the hub refused {name}: {first_line(error)}")
