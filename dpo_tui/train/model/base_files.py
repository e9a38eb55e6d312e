"""The base model's own files: where they lie, and under which licence."""

import re
import tomllib
from pathlib import Path
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import read_json

_WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*")


def base_folder(config: Config) -> Path:
    """Return the folder of a config's base model: local, in the hub's cache, or downloaded now.

    Raises:
        TrainingError: it is nowhere.
    """
    local = Path(config.model_name).expanduser()
    if local.is_dir():
        return local
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"revision": config.model_revision, "allow_patterns": list(_WANTED)}
    try:
        return Path(snapshot_download(config.model_name, local_files_only=True, **options))
    except Exception:  # the cache lacks it, in one of several ways
        try:
            return Path(snapshot_download(config.model_name, **options))
        except Exception as error:
            raise TrainingError(
                f"the base model {config.model_name} is not on this machine and could not be downloaded: "
                f"{str(error).splitlines()[0]}",
                hint="merge where there is a connection, or keep a local copy and name it in model_name",
            ) from error


def licence_of(base: Path) -> dict[str, str]:
    """Return the licence keys of a model card's head (license, license_name, license_link); empty without any."""
    import yaml

    try:
        text = (base / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    head = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    try:
        told = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {key: str(told[key]) for key in ("license", "license_name", "license_link") if told.get(key)}


def require_stage(config: Config) -> None:
    """Refuse to start a stage whose earlier stage has left no model.

    Raises:
        TrainingError: the config trains from the merged model of another run, and that is not there.
    """
    folder = _stage_of(config.model_name)
    if folder is None or (folder / "merged").is_dir():
        return
    state = read_json(folder / "state.json") or {}
    reason = str(state.get("reason") or "").partition("\n")[0]
    raise TrainingError(
        f"run {folder.name}, which this one goes on from, has left no model: it is {state.get('status', 'not there')}"
        + (f" ({reason})" if reason else ""),
        hint=f"dpo-tui resume {folder.name}, and when that is done, resume this run",
    )


def root_model(model_name: str) -> str:
    """Return the model at the start of a chain: what the earliest stage trained from."""
    folder = _stage_of(model_name)
    if folder is None:
        return model_name
    try:
        earlier = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["model"]["model_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return model_name
    return root_model(str(earlier))


def _stage_of(model_name: str) -> Path | None:
    path = Path(model_name)
    return path.parent if path.name == "merged" and (path.parent / "state.json").is_file() else None
