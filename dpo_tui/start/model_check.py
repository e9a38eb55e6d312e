"""Check without torch whether a model can be loaded: the files of a folder, or the hub's answer within seconds."""

from pathlib import Path

from dpo_tui.errors import ConfigError
from dpo_tui.hub.cache import cached_config
from dpo_tui.hub.client_errors import first_line, http_status

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_HUB_SECONDS = 5.0
_HUB_ID = (
    "a hub id is a name, or an organisation and a name: Qwen/Qwen3-0.6B, of letters, digits, - _ and . ; "
    "a folder is given by its path; run:ID means the model of an earlier run"
)
_LOCAL_FOLDER = 'download it where there is a connection, copy the folder here, and set model_name = "/path/to/folder"'


def check_model(name: str, revision: str | None = None) -> None:
    """Check that the worker will be able to load a model.

    Args:
        name: an absolute folder, or a hub id.
        revision: branch, tag or commit on the hub.

    Raises:
        ConfigError: the folder is not a complete model, the name is no valid hub id, the hub does not know it or
            requires a login, or the model is not on this machine and the hub cannot be reached.
    """
    if Path(name).is_absolute():
        _check_folder(Path(name))
    elif name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"model_name = {name}: no such folder")
    elif cached_config(name) is None:
        _check_hub_id(name)
        _ask_hub(name, revision)


def _check_folder(folder: Path) -> None:
    place = f"model_name = {folder}"
    if not folder.is_dir():
        raise ConfigError(f"{place}: no such folder")
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{place}: is an adapter, not a model",
            hint="merge it into its base model first, and train from the merged folder",
        )
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{place}: the folder has no config.json, so it is no model")
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        raise ConfigError(
            f"{place}: the folder has no weights (*.safetensors)",
            hint="copy the whole model folder, or download it again",
        )


def _check_hub_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ConfigError(f"model_name = {name}: is neither a folder here nor a hub id", hint=_HUB_ID) from None


def _ask_hub(name: str, revision: str | None) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    place = f"model_name = {name}"
    try:
        HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS)
    except GatedRepoError:
        raise ConfigError(
            f"{place}: is gated: its owner asks you to accept a licence",
            hint="accept it on the model's hub page, then log in with `hf auth login` or set HF_TOKEN",
        ) from None
    except RevisionNotFoundError:
        raise ConfigError(f"model_revision = {revision}: {name} has no such branch, tag or commit") from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{place}: the hub has no such model, or it is private",
            hint="check the name; for a private model log in with `hf auth login` or set HF_TOKEN",
        ) from None
    except Exception as error:  # the hub's client lets every exception of its HTTP library through
        raise ConfigError(
            f"{place}: is not on this machine and the hub cannot be reached: {_reason(error)}", hint=_LOCAL_FOLDER
        ) from None


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
