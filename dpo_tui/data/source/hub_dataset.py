"""Fetch the data files of a hub dataset, and nothing else of it: no loading script is ever run."""

from pathlib import Path

from dpo_tui.data.source.hub_splits import files_of_split, split_word
from dpo_tui.data.source.source import Progress, Source
from dpo_tui.errors import DataError
from dpo_tui.hub.repository import SUFFIXES as DATA_SUFFIXES

# The hub converts every public dataset to Parquet on this branch, as <subset>/<split>/0000.parquet.
_CONVERTED = "refs/convert/parquet"


def download(source: Source, progress: Progress | None = None) -> list[Path]:
    """Download the data files of one subset and split, or find them in the cache.

    Raises:
        DataError: the dataset does not exist, may not be read, cannot be reached, or its split is not clear.
    """
    name = source.location
    try:
        files = _listed(name, None)
        revision = None
        if not files:
            files, revision = _listed(name, _CONVERTED), _CONVERTED
    except Exception as error:
        if _is_offline(error):
            return _from_cache(source, error)
        raise _refused(name, error) from error
    chosen = _chosen(files, source)
    paths = []
    done, total = 0, sum(files[one] for one in chosen)
    for one in chosen:
        if progress:
            progress(f"downloading {one}", done, total)
        paths.append(_fetch(source, one, revision))
        done += files[one]
    if progress:
        progress("downloaded", total, total)
    return paths


def _listed(name: str, revision: str | None) -> dict[str, int]:
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(name, revision=revision, files_metadata=True)
    files = {one.rfilename: one.size or 0 for one in info.siblings or []}
    return {file: size for file, size in files.items() if _is_data(file)}


def _fetch(source: Source, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source.location, file, repo_type="dataset", revision=revision))
    except Exception as error:
        if _is_offline(error):
            raise _unreachable(source.location) from error
        raise _refused(source.location, error) from error


def _chosen(files: dict[str, int], source: Source) -> list[str]:
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
        raise DataError(f"{source.location} has several subsets", hint=f"Choose one by --subset: {', '.join(subsets)}.")
    kept = files_of_split([Path(one) for one in names], names, source.split, source.location)
    return [str(one) for one in kept]


def cached(source: Source) -> list[Path]:
    """Files of one subset and split that an earlier download left; the hub is not asked.

    Raises:
        DataError: there are none.
    """
    return _from_cache(source, None)


def _from_cache(source: Source, error: Exception | None) -> list[Path]:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source.location, repo_type="dataset", local_files_only=True))
    except Exception:
        raise _unreachable(source.location) from error
    files = {str(one.relative_to(folder)): 0 for one in folder.rglob("*") if one.is_file() and _is_data(one.name)}
    if not files:
        raise _unreachable(source.location) from error
    return [folder / one for one in _chosen(files, source)]


def _is_data(file: str) -> bool:
    name = file.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    about = name.rsplit("/", 1)[-1] in {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
    return not about and not name.startswith(".") and any(name.endswith(suffix) for suffix in DATA_SUFFIXES)


def _is_offline(error: Exception) -> bool:
    """Whether the hub was not reached. The HTTP library differs between hub versions, so its errors go by name."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return True
    if isinstance(error, HfHubHTTPError):
        return False
    names = {base.__name__ for base in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & {"TransportError", "RequestException"})


def _unreachable(name: str) -> DataError:
    return DataError(
        f"{name} is no local file, and the hub cannot be reached to look for a dataset of that name",
        hint="Download it where there is a network and give the local file, or set HF_HOME to a filled cache.",
    )


def _refused(name: str, error: Exception) -> DataError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return DataError(f"{name} is gated", hint="Ask for access on its page, then set HF_TOKEN.")
    if isinstance(error, RepositoryNotFoundError):
        return DataError(
            f"there is no file {name}, and no dataset of that name on the hub (or it is private)",
            hint="Check the spelling; for a private dataset set HF_TOKEN.",
        )
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"the hub refused {name}: {reason}")
