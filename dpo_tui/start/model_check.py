"""Check whether a run can load its model: the files on this machine, or the hub's answer within seconds; no torch."""

import os
from pathlib import Path

from dpo_tui.config.files import LoadedConfig, local_paths, with_changes
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hub.cache import cached_config, local_model_folder
from dpo_tui.hub.client_errors import first_line, http_status
from dpo_tui.paths import expanded
from dpo_tui.start.adapter_start import is_adapter, read_adapter
from dpo_tui.start.earlier_run_model import is_earlier_run
from dpo_tui.start.model_checks.adapter_targets import check_merge_at_end
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.own_code import brings_code, with_trusted_code
from dpo_tui.start.model_checks.registry import CHECKS, ModelUse
from dpo_tui.start.model_checks.weight_files import has_weights
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from dpo_tui.start.providers.registry import provider_of

_HUB_SECONDS = 5.0
_HUB_ID = (
    "a hub id is a name, or an organisation and a name: Qwen/Qwen3-0.6B, of letters, digits, - _ and . ; "
    "a folder is given by its path; run:ID means the model of an earlier run"
)
_LOCAL_FOLDER = 'download it where there is a connection, copy the folder here, and set {} = "/path/to/folder"'
_ADAPTER_HERE = "download it, with its base model, and name its folder: hf download {0} --local-dir DIR"


def check_model(config: Config, *, has_gpu: bool = True) -> list[str]:
    """Check that the worker will be able to load, train and, where it must, merge a model.

    Args:
        config: its ``model_name`` is an absolute folder, of a model or an adapter, or a hub id.
        has_gpu: whether the run may use a GPU.

    Returns:
        What is unusual and may be right, in sentences.

    Raises:
        ConfigError: the folder is not a complete model, or one that cannot be trained so; the name is no valid hub id,
            the hub does not know it or requires a login, or the model is not on this machine and the hub cannot be
            reached.
    """
    if is_adapter(config.model_name):
        # The model that it is merged into does not exist yet: before a start that is checked as any other.
        return [read_adapter(config.model_name).sentence()]
    folder = model_files(config.model_name, config.model_revision)
    if folder is None:
        return []
    packages = WorkerPackages(provider_of(config).interpreter())
    config = with_trusted_code(config, packages)
    use = ModelUse(config, packages, has_gpu)
    notes = [note for check in CHECKS for note in check(folder, use)]
    if config.merge_at_end and not brings_code(folder, packages):
        check_merge_at_end(folder, config)
    return notes


def trusted(config: Config) -> Config:
    """Return a config whose ``trust_remote_code`` names the code that the user has allowed before; see `own_code`."""
    return with_trusted_code(config, WorkerPackages(provider_of(config).interpreter()))


def check_next_stage(config: Config) -> None:
    """Check that a next stage can train from the result of a run, whose adapter is merged for it.

    Args:
        config: of the run, which :func:`check_model` has accepted.

    Raises:
        ConfigError: the adapter cannot be merged.
    """
    folder = None if config.merge_at_end else model_files(config.model_name, config.model_revision)
    if folder is not None:
        check_merge_at_end(folder, config)


def is_missing_folder(name: str) -> bool:
    """Whether a model's name is a path, and nothing is there."""
    is_path = name.startswith(("/", ".", "~")) or (name.count("/") > 1 and ":" not in name)
    return is_path and not expanded(name).exists()


def model_refusal(loaded: LoadedConfig, *, has_gpu: bool = True) -> ConfigError | None:
    """Return why a run could not start from the model of a config, where that is on this machine; the hub is not asked.

    Args:
        loaded: the config; a folder may be relative to where it was loaded.
        has_gpu: whether the run may use a GPU.

    Returns:
        The error of :func:`check_model`; None without one, or where the model is that of an earlier run.
    """
    name = loaded.config.model_name
    if is_earlier_run(name):
        return None
    config = with_changes(loaded, local_paths(loaded), "file").config
    if not Path(config.model_name).is_absolute() and local_model_folder(name, config.model_revision) is None:
        return None
    try:
        check_model(trusted(config), has_gpu=has_gpu)
    except ConfigError as error:
        return error
    return None


def model_remarks(config: Config, *, has_gpu: bool = True) -> tuple[str, ...]:
    """Return what :func:`check_model` finds, its error too, in sentences; nothing without weights on this machine."""
    found = local_model_folder(config.model_name, config.model_revision)
    if found is None or not (has_weights(found) or is_adapter(config.model_name)):
        return ()
    try:
        return tuple(check_model(trusted(config), has_gpu=has_gpu))
    except ConfigError as error:
        return (f"A run would not start: {error.message}. {error.hint or ''}".strip(),)


def model_files(name: str, revision: str | None, setting: str = "model_name") -> ModelFolder | None:
    """Return where a model's files are; None where the hub has to be asked for them, and has answered.

    Args:
        name: absolute folder or hub id.
        revision: of the hub id.
        setting: which names the model, for messages.

    Raises:
        ConfigError: it is nowhere.
    """
    if Path(name).is_absolute():
        folder = ModelFolder(Path(name), name, setting=setting)
        if not folder.path.is_dir():
            raise folder.error("no such folder", "check the path")
        return folder
    if name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"{setting} = {name}: no such folder")
    cached = cached_config(name, revision)
    if cached is None:
        _check_hub_id(name, setting)
        _ask_hub(name, revision, setting)
        return None
    folder = ModelFolder(cached.parent, name, cached=True, setting=setting)
    if _is_complete(folder):
        return folder
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise folder.error(
            "only a part of its files has been downloaded, and HF_HUB_OFFLINE is set",
            f"where there is a connection: hf download {name}",
        )
    _ask_hub(name, revision, setting)  # the worker downloads the rest
    return None


def _is_complete(folder: ModelFolder) -> bool:
    """Whether a snapshot of the hub has files of weights, and every part that an index names."""
    if not has_weights(folder.path):
        return False
    return all((folder.path / file).is_file() for file in folder.weight_files)


def _check_hub_id(name: str, setting: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ConfigError(f"{setting} = {name}: is neither a folder here nor a hub id", hint=_HUB_ID) from None


def _ask_hub(name: str, revision: str | None, setting: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    place = f"{setting} = {name}"
    try:
        found = HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS)
    except GatedRepoError:
        raise ConfigError(
            f"{place}: is gated: its owner asks you to accept a licence",
            hint="accept it on the model's hub page, then log in with `hf auth login` or set HF_TOKEN",
        ) from None
    except RevisionNotFoundError:
        named = "model_revision" if setting == "model_name" else f"{setting}_revision"
        raise ConfigError(f"{named} = {revision}: {name} has no such branch, tag or commit") from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{place}: the hub has no such model, or it is private",
            hint="check the name; for a private model log in with `hf auth login` or set HF_TOKEN",
        ) from None
    except Exception as error:  # the hub's client lets every exception of its HTTP library through
        raise ConfigError(
            f"{place}: is not on this machine and the hub cannot be reached: {_reason(error)}",
            hint=_LOCAL_FOLDER.format(setting),
        ) from None
    _check_repository({file.rfilename for file in found.siblings or ()}, name, place)


def _check_repository(files: set[str], name: str, place: str) -> None:
    """Check by the names of a repository's files that it holds a model; the hub may not list them."""
    if not files or "config.json" in files:
        return
    if "adapter_config.json" in files:
        raise ConfigError(f"{place}: is an adapter, not a model", hint=_ADAPTER_HERE.format(name))
    if any(file.endswith(".gguf") for file in files):
        raise ConfigError(
            f"{place}: the repository has GGUF files only, which llama.cpp and Ollama read",
            hint="name the repository that they were made from: the model's page names it",
        )
    raise ConfigError(f"{place}: the repository has no config.json, so it is no model", hint="check the name")


def _reason(error: Exception) -> str:
    """Why the hub gave no answer. Class names are compared: the classes come from several HTTP libraries."""
    names = {one.__name__ for one in type(error).__mro__}
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE is set"
    if any("Timeout" in name for name in names):
        return f"no answer within {_HUB_SECONDS:.0f} seconds"
    status = http_status(error)
    if status is not None:
        return f"it answered with HTTP status {status}"
    return first_line(error)
