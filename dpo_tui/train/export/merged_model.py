"""The whole model of a run that trained an adapter: weights merged, with everything that a model folder needs."""

import json
import shutil
from pathlib import Path

import torch

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.merge_weights import Progress, merge, read_adapter
from dpo_tui.train.model.base_files import base_folder

# What belongs to the weights of an adapter, not to its tokenizer.
_ADAPTER_ONLY = {"adapter_config.json", "adapter_model.safetensors", "README.md"}


def write_model(config: Config, folder: RunFolder, target: Path, dtype: torch.dtype, progress: Progress) -> Path:
    """Merge a run's adapter into its base and write a model folder.

    Args:
        config: of the run.
        folder: of the run.
        target: an existing, empty folder.
        dtype: of the weights.
        progress: told the shards done and in all.

    Returns:
        The base model's folder.

    Raises:
        TrainingError: the adapter or its base is not there, or they do not go together.
    """
    if not folder.adapter.is_dir():
        raise TrainingError(f"{folder.adapter}: the adapter is not there", hint="the run must have ended well")
    base = base_folder(config)
    merge(base, read_adapter(folder.adapter), target, dtype, nf4=config.use_4bit, progress=progress)
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    settings.pop("quantization_config", None)
    settings.pop("torch_dtype", None)
    settings["dtype"] = str(dtype).removeprefix("torch.")
    write_json_atomic(target / "config.json", settings)
    for path in folder.adapter.iterdir():
        if path.is_file() and path.name not in _ADAPTER_ONLY:
            shutil.copy2(path, target / path.name)
    for path in (base / "generation_config.json", *base.glob("LICENSE*"), base / "README.md"):
        if path.is_file():
            shutil.copy2(path, target / path.name)
    return base


def merge_in_place(config: Config, folder: RunFolder, dtype: torch.dtype, progress: Progress) -> None:
    """Write a run's ``merged/``, so that it appears whole or not at all; see :func:`write_model`."""
    partial = folder.merged.with_name(f".{folder.merged.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write_model(config, folder, partial, dtype, progress)
    shutil.rmtree(folder.merged, ignore_errors=True)
    partial.rename(folder.merged)
