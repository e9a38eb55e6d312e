"""Merged weights of a LoRA adapter and its base model, computed in the memory of one shard and one layer.

W' = W + s·B·A (Hu et al. 2021, arXiv 2106.09685) in fp32, by PEFT's own layers (:mod:`adapted_layers`). A 4-bit run
trained its adapter on top of dequantised NF4 weights, so the product is added to those (QLoRA, arXiv 2305.14314); a
base that is stored in 4 bits is written dequantised.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.train.export.adapted_layers import UNMERGED, AdaptedModel
from dpo_tui.train.export.bnb_4bit_files import Bnb4BitFiles
from dpo_tui.train.export.weight_conversion import WeightConversion, WeightGroup

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
        TrainingError: the base has no safetensors, or its files do not hold the weights that the adapter changes.
    """
    # Everything that can be refused is refused before the first shard is written.
    shards = {shard: names_in(base / shard) for shard in shards_of(base)}
    merge = _Merge(base, adapted, shards, nf4=nf4)
    merge.require_all_weights()
    total_bytes = 0
    weight_map: dict[str, str] = {}
    # Output shards have the names of the base's.
    for number, shard in enumerate(shards, start=1):
        merged = {}
        for stored, weight in _weights(base / shard):
            # Rounded once, after the sum in fp32: in 16 bits the rounding of the result cannot be avoided, that of B, A
            # and their product can. safetensors refuses tensors that are not contiguous.
            for key, result in merge.tensors(stored, weight).items():
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


class _Merge:
    """Merged tensors for the files, by the tensors of the base's files.

    Args:
        base: folder of the base model.
        adapted: effect of the adapter.
        shards: names of the tensors in each of the base's files, by the file's name.
        nf4: whether the adapter was trained on top of NF4 weights.
    """

    def __init__(self, base: Path, adapted: AdaptedModel, shards: dict[str, list[str]], *, nf4: bool) -> None:
        self._base, self._adapted, self._nf4 = base, adapted, nf4
        self._shard_of = {name: shard for shard, stored in shards.items() for name in stored}
        self._quantised_files = Bnb4BitFiles(base, shards)
        self._conversion = conversion = WeightConversion(adapted.base, shapes_of_weights(base, shards))
        self._untied = _untied(adapted, conversion.in_memory)
        # Tensors of a group that lie in another file than the first of it.
        self._waiting: dict[str, torch.Tensor] = {}

    def require_all_weights(self) -> None:
        """Check that the files hold every weight that the adapter changes.

        Raises:
            TrainingError: they do not.
        """
        missing = sorted(self._adapted.changed - self._conversion.in_memory - set(self._untied.values()))
        if missing:
            raise TrainingError(
                f"{self._base}: no file holds a weight that transformers loads as {missing[0]}, "
                "which the adapter changes",
                hint=UNMERGED,
            )

    def tensors(self, stored: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what is written in place of a tensor of the base's files, by name.

        It is that tensor, merged; where it is one of two tied weights of which the adapter changes one, both; and
        nothing where it is only a part of how a weight is quantised.
        """
        if self._quantised_files.is_part(stored):
            return {}
        weight = self._quantised_files.dequantise(stored, weight)
        group = self._conversion.group_of(stored)
        if group.converter is None:
            name = self._conversion.names[group][0]
            start = self._quantised(name, weight)
            results = {stored: self._adapted.merge(name, start)}
            if name in self._untied:
                other = self._untied[name]
                results |= self._conversion.stored_as({other: self._adapted.merge(other, start)})
            return results
        # A group is computed when the first of its tensors is asked for; the others wait, since they may lie in later
        # shards. Not computed again for each: a mixture's experts would be read and fused once for every expert.
        if stored not in self._waiting:
            # A group that neither the adapter nor NF4 changes is copied as it is, without the conversion to memory and
            # back.
            touched = self._adapted.changed | (self._adapted.linear if self._nf4 else frozenset())
            if not touched & set(self._conversion.names[group]):
                return {stored: weight}
            loaded = self._conversion.load(group, self._read(group))
            merged = {name: self._adapted.merge(name, self._quantised(name, value)) for name, value in loaded.items()}
            self._waiting |= self._conversion.save(group, merged)
        return {stored: self._waiting.pop(stored)}

    def _quantised(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight that the run computed with: the base is quantised, then the adapter's product is added."""
        return _quantise_and_dequantise(weight) if self._nf4 and name in self._adapted.linear else weight

    def _read(self, group: WeightGroup) -> dict[str, torch.Tensor]:
        tensors = {}
        for name in group.stored:
            with safe_open(self._base / self._shard_of[name], framework="pt") as file:
                tensors[name] = self._quantised_files.dequantise(name, file.get_tensor(name))
        return tensors


def _untied(adapted: AdaptedModel, stored: set[str]) -> dict[str, str]:
    """Return the weights to write a second time, under another name, by the name that is stored.

    PEFT changes one of two tied weights and leaves the other as it was: they are then two. Files hold one of them.
    """
    found = {}
    for left_out, source in adapted.tied:
        # If the adapter changes neither, they stay one tensor, and the merged model ties them as the base does.
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


def shapes_of_weights(base: Path, shards: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Return the shapes of a model's weights in its files, by name, without the parts of how they are quantised.

    Args:
        base: folder of the model.
        shards: names of the tensors in each of its files, by the file's name.
    """
    quantised = Bnb4BitFiles(base, shards)
    shapes: dict[str, list[int]] = {}
    for shard, names in shards.items():
        with safe_open(base / shard, framework="pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in names if not quantised.is_part(name)}
    return shapes


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
