"""Folder of a whole model made from a run's adapter and its base: merged weights, config, tokenizer, licence."""

import json
import shutil
from pathlib import Path

import torch

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.merge_weights import Progress, merge_weights, read_adapter
from dpo_tui.train.model.base_files import base_folder

# Files of an adapter's folder that describe the adapter; the others are its tokenizer.
_ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}


def write_merged_model(config: Config, folder: RunFolder, target: Path, dtype: torch.dtype, progress: Progress) -> Path:
    """Merge a run's adapter into its base model and write a folder that transformers loads.

    Args:
        config: of the run.
        folder: of the run.
        target: an existing, empty folder.
        dtype: of the weights.
        progress: called after each shard.

    Returns:
        The base model's folder.

    Raises:
        TrainingError: the adapter or its base model is missing, or the adapter was trained on another model.
    """
    if not folder.adapter.is_dir():
        raise TrainingError(
            f"run {folder.id} has no adapter to merge: {folder.adapter} does not exist",
            hint=f"It is saved when a run is done. `dpo-tui status {folder.id}` shows how this one ended.",
        )
    base = base_folder(config)
    merge_weights(base, read_adapter(folder.adapter), target, dtype, nf4=config.use_4bit, progress=progress)
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    # The merged weights are not quantised; torch_dtype is the older name of dtype and would contradict it.
    settings.pop("quantization_config", None)
    settings.pop("torch_dtype", None)
    settings["dtype"] = str(dtype).removeprefix("torch.")
    write_json_atomic(target / "config.json", settings)
    for path in folder.adapter.iterdir():
        if path.is_file() and path.name not in _ADAPTER_FILES:
            shutil.copy2(path, target / path.name)
    for path in (base / "generation_config.json", *base.glob("LICENSE*"), base / "README.md"):
        if path.is_file():
            shutil.copy2(path, target / path.name)
    return base


def write_merged_folder(config: Config, folder: RunFolder, dtype: torch.dtype, progress: Progress) -> None:
    """Write ``merged/`` of a run's folder; see :func:`write_merged_model`."""
    # Under another name first, so that merged/ appears whole or not at all.
    partial = folder.merged.with_name(f".{folder.merged.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write_merged_model(config, folder, partial, dtype, progress)
    shutil.rmtree(folder.merged, ignore_errors=True)
    partial.rename(folder.merged)
