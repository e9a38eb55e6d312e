"""Merged weights of a LoRA adapter and its base model, computed shard by shard in the memory of one shard.

W' = W + s·B·A (Hu et al. 2021, arXiv 2106.09685) with s = alpha / r, or alpha / √r where it is rank-stabilised
(Kalajdzievski 2023, arXiv 2312.03732). A 4-bit run trained its adapter on top of dequantised NF4 weights, so the
product is added to those (QLoRA, arXiv 2305.14314).
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import write_json_atomic

INDEX = "model.safetensors.index.json"
_PREFIX = "base_model.model."
_BLOCK = 64
"""Weights that share a scale in NF4: the block size that transformers quantises with, through bitsandbytes."""

Progress = Callable[[int, int], None]
"""Called with the number of shards written and the number of all shards."""


@dataclass(frozen=True)
class LayerDelta:
    """Change of one weight by an adapter.

    Attributes:
        lora_a: A, ``[r, in]``.
        lora_b: B, ``[out, r]``.
        scale: s, the factor of B·A.
        magnitude: DoRA's norm of each row of the merged weight, ``[out]``; None without DoRA.
    """

    lora_a: torch.Tensor
    lora_b: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the merged weight, computed in fp32 whatever the dtypes of the parts."""
        delta = self.scale * (self.lora_b.float() @ self.lora_a.float())
        # Layers such as GPT-2's Conv1D hold their weight as [in, out].
        if delta.shape != weight.shape:
            delta = delta.T
        merged = weight.float() + delta
        if self.magnitude is not None:
            # DoRA (arXiv 2402.09353): the direction of W + s·B·A with a trained norm.
            merged *= (self.magnitude.float() / merged.norm(dim=1))[:, None]
        return merged


@dataclass(frozen=True)
class Adapter:
    """An adapter, as its effect on the weights of the base model.

    Attributes:
        deltas: changes of LoRA layers, by the name of the weight.
        replaced: weights that were trained whole (``modules_to_save``), by name.
    """

    deltas: Mapping[str, LayerDelta]
    replaced: Mapping[str, torch.Tensor]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that PEFT saved.

    Raises:
        TrainingError: it is not a LoRA adapter, or has biases or replicated layers, which are not supported here.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("layer_replication") or config.get("bias", "none") != "none":
        raise TrainingError(f"{folder}: only plain LoRA adapters can be merged shard by shard")
    tensors = load_file(folder / "adapter_model.safetensors")
    deltas: dict[str, LayerDelta] = {}
    replaced: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.removeprefix(_PREFIX).partition(".lora_")
        if kind == "A.weight":
            stem = f"{_PREFIX}{module}.lora_"
            deltas[f"{module}.weight"] = LayerDelta(
                tensor,
                tensors[f"{stem}B.weight"],
                lora_scale(config, module, tensor.shape[0]),
                tensors.get(f"{stem}magnitude_vector"),
            )
        elif not kind:
            replaced[module] = tensor
    return Adapter(deltas, replaced)


def merge_weights(
    base: Path, adapter: Adapter, target: Path, dtype: torch.dtype, *, nf4: bool, progress: Progress
) -> None:
    """Write the merged weights into a folder, shard by shard; no other file of a model.

    Args:
        base: folder of the base model, with safetensors.
        adapter: from :func:`read_adapter`.
        target: an existing folder.
        dtype: of the floating-point weights that are written.
        nf4: whether the adapter was trained on top of NF4 weights.
        progress: called after each shard.

    Raises:
        TrainingError: the base has no safetensors, or other weights than the adapter was trained on.
    """
    shards = _shards(base)
    missing = set(adapter.deltas) | set(adapter.replaced)
    quantised = _linear_weights(base) if nf4 else frozenset()
    total_bytes = 0
    # Output shards have the names and tensors of the base's, so the base's index describes them too, its size excepted.
    for number, shard in enumerate(shards, start=1):
        merged = {}
        for name, weight in _weights(base / shard):
            missing.discard(name)
            # In the order of the run's forward pass: the base is quantised, then the adapter's product is added.
            result = _quantise_and_dequantise(weight) if name in quantised else weight
            if name in adapter.replaced:
                result = adapter.replaced[name]
            elif name in adapter.deltas:
                result = adapter.deltas[name].apply(result)
            merged[name] = result.to(dtype).contiguous() if result.is_floating_point() else result
            total_bytes += merged[name].numel() * merged[name].element_size()
        save_file(merged, target / shard, metadata={"format": "pt"})
        progress(number, len(shards))
    if missing:
        raise TrainingError(
            f"the base model has no weight named {min(missing)}: the adapter was trained on another model",
            hint="merge with the model and revision that the run's config.toml names",
        )
    if (base / INDEX).is_file():
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        write_json_atomic(
            target / INDEX, {**index, "metadata": {**index.get("metadata", {}), "total_size": total_bytes}}
        )


def lora_scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return s of a module; ``alpha_pattern`` gives single modules an alpha, and the tensor's shape tells its rank."""
    alpha = next(
        (value for key, value in (config.get("alpha_pattern") or {}).items() if re.search(rf"(^|\.){key}$", module)),
        config["lora_alpha"],
    )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _shards(base: Path) -> list[str]:
    """Return the file names of a model's weights."""
    if (base / INDEX).is_file():
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    if (base / "model.safetensors").is_file():
        return ["model.safetensors"]
    raise TrainingError(
        f"{base}: the base model has no safetensors weights",
        hint="save it with transformers once (model.save_pretrained), which writes safetensors, and merge again",
    )


def _weights(shard: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a file, one in memory at a time."""
    with safe_open(shard, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            yield name, file.get_tensor(name)


def _linear_weights(base: Path) -> frozenset[str]:
    """Return the names of the weights that transformers quantises to 4 bits: all linear layers but the output layer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    head = model.get_output_embeddings()
    return frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )


def _quantise_and_dequantise(weight: torch.Tensor) -> torch.Tensor:
    """Round a weight to NF4 with double quantisation: the values that the run computed with."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight, blocksize=_BLOCK, compress_statistics=True, quant_type="nf4")
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored
