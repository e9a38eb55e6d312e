"""Merged weights of a LoRA adapter and its base model, computed in the memory of one shard and one layer.

W' = W + s·B·A (Hu et al. 2021, arXiv 2106.09685) in fp32, by PEFT's own layers (:mod:`adapted_layers`). A 4-bit run
trained its adapter on top of dequantised NF4 weights, so the product is added to those (QLoRA, arXiv 2305.14314); a
base that is stored in 4 bits is written dequantised.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.train.export.adapted_layers import UNMERGED, AdaptedModel
from dpo_tui.train.export.bnb_4bit_files import Bnb4BitFiles

INDEX = "model.safetensors.index.json"
_BLOCK = 64
"""Weights that share a scale in NF4: the block size that transformers quantises with, through bitsandbytes."""

ShardsWritten = Callable[[int, int], None]
"""Called with the number of shards written and the number of all shards."""


def merge_weights(
    base: Path, adapted: AdaptedModel, target: Path, dtype: torch.dtype, *, nf4: bool, progress: ShardsWritten
) -> bool:
    """Write the merged weights into a folder, shard by shard; no other file of a model.

    Args:
        base: folder of the base model, with safetensors.
        adapted: from :func:`adapted_layers.read_adapted_model`, of the same base.
        target: an existing folder.
        dtype: of the floating-point weights that are written.
        nf4: whether the adapter was trained on top of weights that the run itself rounded to NF4.
        progress: called after each shard.

    Returns:
        Whether weights that the base model ties are two in the merged one.

    Raises:
        TrainingError: the base has no safetensors, or its files do not hold the weights under their names in memory.
    """
    shards = {shard: names_in(base / shard) for shard in shards_of(base)}
    quantised = Bnb4BitFiles(base, shards)
    names = {
        name: adapted.name_in_memory(name)
        for stored in shards.values()
        for name in stored
        if not quantised.is_part(name)
    }
    untied = _untied(adapted, set(names.values()))
    written = [*names.values(), *untied.values()]
    missing = sorted(adapted.changed - set(written))
    if missing:
        raise TrainingError(
            f"{base}: no file holds a weight named {missing[0]}, which the adapter changes: transformers fuses "
            "the weights of this family when it loads them, and such a model cannot be merged shard by shard",
            hint=UNMERGED,
        )
    total_bytes = 0
    weight_map: dict[str, str] = {}
    # Output shards have the names of the base's.
    for number, shard in enumerate(shards, start=1):
        merged = {}
        for stored, weight in _weights(base / shard):
            if quantised.is_part(stored):
                continue
            name = names[stored]
            # In the order of the run's forward pass: the base is quantised, then the adapter's product is added.
            start = quantised.dequantise(stored, weight)
            if nf4 and name in adapted.linear:
                start = _quantise_and_dequantise(start)
            results = {stored: adapted.merge(name, start)}
            if name in untied:
                results[untied[name]] = adapted.merge(untied[name], start)
            for key, result in results.items():
                merged[key] = result.to(dtype).contiguous() if result.is_floating_point() else result
                total_bytes += merged[key].numel() * merged[key].element_size()
                weight_map[key] = shard
        save_file(merged, target / shard, metadata={"format": "pt"})
        progress(number, len(shards))
    if list(shards) != ["model.safetensors"]:
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        metadata = {**index.get("metadata", {}), "total_size": total_bytes}
        write_json_atomic(target / INDEX, {**index, "metadata": metadata, "weight_map": weight_map})
    return any(adapted.changed & set(pair) for pair in adapted.tied)


def quantise_linear_layers(model: torch.nn.Module, linear: frozenset[str]) -> None:
    """Round a whole model's linear weights in place to the NF4 values that a 4-bit run computed with."""
    for name, parameter in model.named_parameters():
        if name in linear:
            parameter.data = _quantise_and_dequantise(parameter.data)


def _untied(adapted: AdaptedModel, stored: set[str]) -> dict[str, str]:
    """Return the weights to write a second time, under another name, by the name that is stored.

    PEFT changes one of two tied weights and leaves the other as it was: they are then two. Files hold one of them.
    """
    found = {}
    for left_out, source in adapted.tied:
        if adapted.changed & {left_out, source}:
            if left_out not in stored:
                found[source] = left_out
            elif source not in stored:
                found[left_out] = source
    return found


def shards_of(base: Path) -> list[str]:
    """Return the file names of a model's weights."""
    if (base / "model.safetensors").is_file():  # transformers looks for it before it looks for an index
        return ["model.safetensors"]
    if (base / INDEX).is_file():
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    raise TrainingError(
        f"{base}: the base model has no safetensors weights",
        hint="save it with transformers once (model.save_pretrained), which writes safetensors, and merge again",
    )


def names_in(shard: Path) -> list[str]:
    """Return the names of the tensors in a file."""
    with safe_open(shard, framework="pt") as file:
        return list(file.keys())


def _weights(shard: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a file, one in memory at a time."""
    with safe_open(shard, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            yield name, file.get_tensor(name)


def _quantise_and_dequantise(weight: torch.Tensor) -> torch.Tensor:
    """Round a weight to NF4 with double quantisation: the values that the run computed with."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight, blocksize=_BLOCK, compress_statistics=True, quant_type="nf4")
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored
