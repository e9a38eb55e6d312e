"""Files of a run's base model: its folder, its licence, and the run that made it where it is an earlier stage."""

import re
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.hub.repository import MODEL_FILES
from dpo_tui.paths import expanded
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.text.plain_documents import parse_toml, parse_yaml


def base_folder(config: Config) -> Path:
    """Return the folder of a config's base model: local, in the hub's cache, or downloaded now.

    Raises:
        TrainingError: it is not on this machine and cannot be downloaded.
    """
    local = local_base_folder(config.model_name, config.model_revision)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(config.model_name, revision=config.model_revision, allow_patterns=list(MODEL_FILES))
        )
    except Exception as error:  # several exception types say so
        raise TrainingError(
            f"the base model {config.model_name} is not on this machine and could not be downloaded: "
            f"{str(error).splitlines()[0]}",
            hint="merge where there is a connection, or keep a local copy and name it in model_name",
        ) from error


def local_base_folder(model_name: str, revision: str | None = None) -> Path | None:
    """Return the folder of a model that is on this machine, by itself or in the hub's cache; None for any other."""
    local = expanded(model_name)
    if local.is_dir():
        return local
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model_name, revision=revision, allow_patterns=list(MODEL_FILES), local_files_only=True
        )
    except Exception:  # not in the cache, or no hub id; several exception types say so
        return None
    return Path(found)


def licence_of(base: Path) -> dict[str, str]:
    """Return the licence keys of a model card's YAML front matter (license, license_name, license_link).

    Empty where the card has none, or there is no card.
    """
    try:
        text = (base / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    front_matter = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    try:
        values = parse_yaml(front_matter[1]) if front_matter else None
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: str(values[key]) for key in ("license", "license_name", "license_link") if values.get(key)}


def require_earlier_stages(config: Config) -> None:
    """Check that earlier stages of a chain have left the model that this one trains from, and its reference.

    Raises:
        TrainingError: one of them is the merged model of another run, and that does not exist.
    """
    for name in filter(None, (config.model_name, config.ref_model)):
        _require_earlier_stage(name)


def _require_earlier_stage(model_name: str) -> None:
    folder = _earlier_run(model_name)
    if folder is None or (folder / "merged").is_dir():
        return
    state = read_json(folder / "state.json") or {}
    reason = str(state.get("reason") or "").partition("\n")[0]
    raise TrainingError(
        f"run {folder.name}, whose result this run trains from, has left no model: it is "
        f"{state.get('status', 'in an unknown state')}" + (f" ({reason})" if reason else ""),
        hint=f"dpo-tui resume {folder.name}, and when that is done, resume this run",
    )


def root_model(model_name: str) -> str:
    """Return the model at the start of a chain of stages: the one that the earliest stage trained from.

    Of a model that was merged for a run to start from it is the base of the adapter.
    """
    merged = MergedStart.of(model_name)
    if merged is not None:
        return root_model(merged.base)
    folder = _earlier_run(model_name)
    if folder is None:
        return model_name
    try:
        earlier = parse_toml((folder / "config.toml").read_text(encoding="utf-8"))["model"]["model_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return model_name
    return root_model(str(earlier))


def _earlier_run(model_name: str) -> Path | None:
    """Return the folder of the run whose ``merged/`` a model is; None for any other model."""
    path = Path(model_name)
    return path.parent if path.name == "merged" and (path.parent / "state.json").is_file() else None
