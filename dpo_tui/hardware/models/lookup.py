"""Dimensions of a model by its name, from a local folder, the hub's cache or the shipped table; no network."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dpo_tui.errors import ConfigError
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.read_model import from_config
from dpo_tui.hub.cache import cached_config
from dpo_tui.paths import expanded
from dpo_tui.text.plain_documents import parse_toml
from dpo_tui.text.printable import printable


@dataclass(frozen=True)
class RecommendedModel:
    """An open model that suits a first run.

    Attributes:
        name: hub id.
        parameters: in billions.
        licence: its name.
        gated: the hub requires a token and an accepted licence for the download.
        instruct: tuned to follow a chat template; a base model needs SFT before DPO.
        note: a sentence for the user.
    """

    name: str
    parameters: float
    licence: str
    gated: bool
    instruct: bool = True
    note: str = ""


def architecture_of(model_name: str, revision: str | None = None) -> Architecture:
    """Find a model's dimensions without the network.

    A local folder's ``config.json`` comes first, then the cache of the hub client, then the shipped table.

    Args:
        model_name: a hub id or a folder.
        revision: of the hub id; the default branch when left out.

    Raises:
        ConfigError: the dimensions are not known, or cannot be counted.
    """
    shown = printable(model_name, single_line=True)
    folder = expanded(model_name)
    if folder.is_dir():
        return _from_folder(folder, shown)
    cached = cached_config(model_name, revision)
    if cached is not None:
        return from_config(_read_json(cached, shown), f"{shown} (hub cache)", cached.parent)
    shipped = _table().get(model_name.lower())
    if shipped is not None:
        return from_config(shipped, f"{shown} (shipped table)")
    if model_name.startswith(("/", "./", "../", "~")):
        raise ConfigError(f"model {shown}: no such folder", hint="give a hub id or a folder that holds a config.json")
    near = [name for name in known_models() if _short(name) == _short(model_name)]
    raise ConfigError(
        f"model {shown}: its dimensions are not known here (no folder, not in the hub cache, not in the shipped table)",
        hint=f"did you mean {near[0]}?"
        if near
        else f"`hf download {shown} config.json` fetches the few kilobytes it needs",
    )


def known_models() -> list[str]:
    """The ids in the shipped table, in its order."""
    return [name for entry in _entries() for name in entry["models"]]


@functools.cache
def recommended_models() -> tuple[RecommendedModel, ...]:
    """The shipped list of recommended models, smallest first."""
    text = resources.files("dpo_tui.hardware.models").joinpath("models.toml").read_text(encoding="utf-8")
    return tuple(RecommendedModel(**entry) for entry in parse_toml(text)["model"])


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _from_folder(folder: Path, shown: str) -> Architecture:
    path = folder / "config.json"
    if not path.is_file():
        adapter = folder / "adapter_config.json"
        if adapter.is_file():
            base = _read_json(adapter, shown).get("base_model_name_or_path")
            if isinstance(base, str) and base and expanded(base) != folder:
                return architecture_of(base)
        raise ConfigError(
            f"model {shown}: no config.json in that folder", hint="give the folder that holds the model's files"
        )
    return from_config(_read_json(path, shown), shown, folder)


def _read_json(path: Path, shown: str) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"model {shown}: {path.name} cannot be read: {printable(str(error), single_line=True)}"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"model {shown}: {path.name} is not an object of settings")
    return content


@functools.cache
def _entries() -> list[dict[str, Any]]:
    text = resources.files("dpo_tui.hardware.models").joinpath("architectures.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    return {name.lower(): entry["config"] for entry in _entries() for name in entry["models"]}
