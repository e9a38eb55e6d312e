"""Which base model an export belongs to: its name, its revision on the hub, and the SHA-256 of its files of weights.

An adapter is right on the weights that it was trained on and on no others, and a name alone does not say which those
are: a repository of the hub changes, a folder is replaced. The digests are of the files at the time of the export, and
those that the hub shows for a file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.runs.file_digest import digest_of_file

_SNAPSHOTS = "snapshots"
"""Folder of the hub's cache in which every revision of a repository has a folder, named by its commit."""


def base_record(config: Config, base: Path) -> dict[str, Any]:
    """Describe the base model of a run.

    Args:
        config: of the run.
        base: its folder; one that does not exist where the base is not on this machine.

    Returns:
        ``model`` (the hub id, or the name of a local folder without its path), ``revision`` (the commit; None where the
        base is no repository) and ``sha256`` (by the name of the file; empty where the base is not on this machine).
    """
    local = Path(config.model_name).is_absolute()
    return {
        "model": Path(config.model_name).name if local else config.model_name,
        "revision": revision_of(base) or (None if local else config.model_revision),
        "sha256": {file.name: digest_of_file(file) for file in weight_files_of(base)},
    }


def revision_of(base: Path) -> str | None:
    """Return the commit of a folder in the hub's cache; None for any other."""
    return base.name if base.parent.name == _SNAPSHOTS else None


def weight_files_of(base: Path) -> list[Path]:
    """Return the files of weights of a model's folder, by name."""
    return sorted(base.glob("*.safetensors")) or sorted(base.glob("pytorch_model*.bin"))


def other_base_files(record: Mapping[str, Any], base: Path) -> list[str]:
    """Return the names of files of weights that are missing in a folder, or are others than those in the record."""
    now = {file.name: digest_of_file(file) for file in weight_files_of(base)}
    recorded: Mapping[str, str] = record.get("sha256") or {}
    return [name for name, digest in recorded.items() if now.get(name) != digest]
