"""Folder of a whole model made from a run's adapter and its base: merged weights, config, tokenizer, licence.

Every merge is made here, and none is kept that does not agree with base + adapter.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings
from dpo_tui.errors import TrainingError
from dpo_tui.hub.model_code import code_files
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.adapted_layers import read_adapted_model
from dpo_tui.train.export.bnb_4bit_files import is_stored_in_4_bits
from dpo_tui.train.export.end_tokens import add_end_tokens
from dpo_tui.train.export.merge_check import check_merge, fits_in_memory, probe_texts
from dpo_tui.train.export.merge_weights import merge_weights
from dpo_tui.train.model.base_files import base_folder
from dpo_tui.train.model.load import model_config_values
from dpo_tui.train.model.verified_code import may_run_code_of
from dpo_tui.train.worker.result_folder import publish

# Files of an adapter's folder that describe the adapter; the others are its tokenizer.
_ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}

_BASE_FILES = (
    "generation_config.json",
    "README.md",
    # Servers of a language model with a vision tower read how its images are cut into patches.
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)

NOT_CHECKED = "Not compared with its parts: the model does not fit into this machine's memory in fp32."


class MergeProgress(Protocol):
    """Receives how far a merge is."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Receive what is done now, and how many of the files, where they are known, are written."""


def write_merged_model(
    config: Config, folder: RunFolder, target: Path, dtype: torch.dtype, progress: MergeProgress, *, check: bool = True
) -> str | None:
    """Merge a run's adapter into its base model, write a folder that transformers loads, and check it.

    Args:
        config: of the run.
        folder: of the run.
        target: an existing, empty folder, which the caller removes where this raises.
        dtype: of the weights.
        progress: called after each shard, and before the check.
        check: whether to compare the merged model with base + adapter.

    Returns:
        The result of the check in a sentence; None without one.

    Raises:
        TrainingError: the adapter or its base model is missing, the adapter was trained on another model, or the merged
            model does not compute what base and adapter compute.
    """
    if not folder.adapter.is_dir():
        raise TrainingError(
            f"run {folder.id} has no adapter to merge: {folder.adapter} does not exist",
            hint=f"It is saved when a run is done. `dpo-tui status {folder.id}` shows how this one ended.",
        )
    # The caller removes the folder where anything below raises: what is written before the check is no result.
    base = base_folder(config)
    adapted = read_adapted_model(base, folder.adapter)
    untied = merge_weights(
        base,
        adapted,
        target,
        dtype,
        nf4=_in_nf4(config, base),
        progress=lambda done, total: progress("Merging", done, total),
    )
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    # The merged weights are not quantised; torch_dtype is the older name of dtype and would contradict it.
    settings.pop("quantization_config", None)
    settings.pop("torch_dtype", None)
    settings["dtype"] = str(dtype).removeprefix("torch.")
    if untied:
        _untie(settings)
    write_json_atomic(target / "config.json", settings)
    for path in folder.adapter.iterdir():
        if path.is_file() and path.name not in _ADAPTER_FILES:
            shutil.copyfile(path, target / path.name)
    for path in (*(base / name for name in _BASE_FILES), *base.glob("LICENSE*")):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    for name in code_files(base):  # without it a model of its own code could not be loaded
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, target / name)
    # After both copies: it reads the tokenizer of the adapter and changes the generation config of the base.
    add_end_tokens(target, target)
    if config.eos_token is not None:
        _name_eos_token(target)
    result = _checked(config, folder, base, target, dtype=dtype, progress=progress) if check else None
    # After the check, which compares with the base as it is.
    values = model_config_values(config)
    if values:
        _write_config_values(target, values)
    return result


def _in_nf4(config: Config, base: Path) -> bool:
    """Whether the run quantised its base: transformers leaves one as it is whose files hold it in 4 bits already."""
    return config.use_4bit and not is_stored_in_4_bits(base)


def _checked(
    config: Config, folder: RunFolder, base: Path, target: Path, *, dtype: torch.dtype, progress: MergeProgress
) -> str:
    """Compare a merged model with base and adapter, and say how they agree.

    Raises:
        TrainingError: they do not.
    """
    if not fits_in_memory(base):
        return NOT_CHECKED
    progress("Comparing the logits with base + adapter", 0, None)
    found = check_merge(base, folder.adapter, target, probe_texts(folder), dtype=dtype, nf4=_in_nf4(config, base))
    if not found.agrees:
        raise TrainingError(
            f"The merged model does not agree with its parts. {found.sentence()}",
            hint="the merged model was removed; use base and adapter together, and report this with the base's name",
        )
    return found.sentence()


def _write_config_values(target: Path, values: dict[str, Any]) -> None:
    """Write the values of [model_init] into a merged model's config.json: the adapter was trained with them."""
    trusts = may_run_code_of(target)
    plain = AutoConfig.from_pretrained(target, trust_remote_code=trusts).to_dict()
    changed = AutoConfig.from_pretrained(target, trust_remote_code=trusts, **values).to_dict()
    settings = json.loads((target / "config.json").read_text(encoding="utf-8"))
    settings |= {name: value for name, value in changed.items() if value != plain.get(name)}
    write_json_atomic(target / "config.json", settings)


def _name_eos_token(target: Path) -> None:
    """Name the tokenizer's end-of-text token in a merged model's config.json, because the run's config sets it."""
    tokenizer = TokenizerSettings(target)
    number = tokenizer.id_of(tokenizer.special_tokens.get("eos_token"))
    if number is not None:
        write_json_atomic(target / "config.json", {**(read_json(target / "config.json") or {}), "eos_token_id": number})


def write_merged_folder(config: Config, folder: RunFolder, dtype: torch.dtype, progress: MergeProgress) -> str | None:
    """Write ``merged/`` of a run's folder, or leave none; see :func:`write_merged_model`."""
    # Under another name first, so that merged/ appears whole or not at all.
    partial = folder.merged.with_name(f".{folder.merged.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        result = write_merged_model(config, folder, partial, dtype, progress)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        # One that an earlier attempt left is of another adapter, and the next stage would train from it.
        shutil.rmtree(folder.merged, ignore_errors=True)
        raise
    publish(partial, folder.merged)
    return result


def _untie(settings: dict[str, Any]) -> None:
    """Set a config, and those nested in it, to an output layer with weights of its own."""
    for nested in settings.values():
        if isinstance(nested, dict) and "tie_word_embeddings" in nested:
            nested["tie_word_embeddings"] = False
    settings["tie_word_embeddings"] = False
