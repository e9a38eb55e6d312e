"""Merge an adapter into its base, one shard after the other, so that the memory of one shard is enough.

W' = W + s·B·A, with s = alpha / r, or alpha / √r where it is rank-stabilised (Hu et al. 2021, arXiv 2106.09685). A run
in 4-bit trained its adapter over dequantised NF4 weights, so those are what it is added to (QLoRA, arXiv 2305.14314).
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
"""Weights that share a scale in NF4, as bitsandbytes and transformers have it."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerDelta:
    """What an adapter does to one weight.

    Attributes:
        low: A, of shape (r, in).
        high: B, of shape (out, r).
        scale: of their product.
        magnitude: DoRA's length of each row, None without DoRA.
    """

    low: torch.Tensor
    high: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the merged weight, in fp32."""
        delta = self.scale * (self.high.float() @ self.low.float())
        if delta.shape != weight.shape:
            delta = delta.T
        merged = weight.float() + delta
        if self.magnitude is not None:
            # DoRA (arXiv 2402.09353): the direction of W + ΔW, at a learnt length.
            merged *= (self.magnitude.float() / merged.norm(dim=1))[:, None]
        return merged


@dataclass(frozen=True)
class Adapter:
    """An adapter as what it does to the base's weights.

    Attributes:
        changes: by the name of the weight that changes.
        replaced: weights that were trained whole.
    """

    changes: Mapping[str, LayerDelta]
    replaced: Mapping[str, torch.Tensor]


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter that PEFT saved.

    Raises:
        TrainingError: it is no LoRA adapter, or of a kind that is not merged here.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("layer_replication") or config.get("bias", "none") != "none":
        raise TrainingError(f"{folder}: only plain LoRA adapters can be merged shard by shard")
    tensors = load_file(folder / "adapter_model.safetensors")
    changes: dict[str, LayerDelta] = {}
    replaced: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.removeprefix(_PREFIX).partition(".lora_")
        if kind == "A.weight":
            stem = f"{_PREFIX}{module}.lora_"
            changes[f"{module}.weight"] = LayerDelta(
                tensor,
                tensors[f"{stem}B.weight"],
                _scale(config, module, tensor.shape[0]),
                tensors.get(f"{stem}magnitude_vector"),
            )
        elif not kind:
            replaced[module] = tensor
    return Adapter(changes, replaced)


def merge(base: Path, adapter: Adapter, target: Path, dtype: torch.dtype, *, nf4: bool, progress: Progress) -> None:
    """Write the merged weights into a folder, shard by shard.

    Args:
        base: folder of the base model, with safetensors.
        adapter: to merge.
        target: an existing folder.
        dtype: of the weights that are written.
        nf4: the adapter was trained over NF4 weights.
        progress: told the shards done and in all.

    Raises:
        TrainingError: the base has no safetensors, or other weights than the adapter was trained on.
    """
    shards = _shards(base)
    missing = set(adapter.changes) | set(adapter.replaced)
    quantised = _linear_weights(base) if nf4 else frozenset()
    total = 0
    for number, shard in enumerate(shards, start=1):
        merged = {}
        for name, weight in _weights(base / shard):
            missing.discard(name)
            # As it was computed with: quantised first, then changed.
            held = _through_nf4(weight) if name in quantised else weight
            if name in adapter.replaced:
                held = adapter.replaced[name]
            elif name in adapter.changes:
                held = adapter.changes[name].apply(held)
            merged[name] = held.to(dtype).contiguous() if held.is_floating_point() else held
            total += merged[name].numel() * merged[name].element_size()
        save_file(merged, target / shard, metadata={"format": "pt"})
        progress(number, len(shards))
    if missing:
        raise TrainingError(
            f"the base model has no weight named {min(missing)}: the adapter was trained on another model",
            hint="merge with the model and revision that the run's config.toml names",
        )
    if (base / INDEX).is_file():
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        write_json_atomic(target / INDEX, {**index, "metadata": {**index.get("metadata", {}), "total_size": total}})


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = next(
        (value for key, value in (config.get("alpha_pattern") or {}).items() if re.search(rf"(^|\.){key}$", module)),
        config["lora_alpha"],
    )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _shards(base: Path) -> list[str]:
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
    with safe_open(shard, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            yield name, file.get_tensor(name)


def _linear_weights(base: Path) -> frozenset[str]:
    """Name the weights that transformers holds in 4 bits: of linear layers, the output layer apart."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    head = model.get_output_embeddings()
    return frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )


def _through_nf4(weight: torch.Tensor) -> torch.Tensor:
    """Return what is left of a weight after NF4 with double quantisation, as the run computed with it."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight, blocksize=_BLOCK, compress_statistics=True, quant_type="nf4")
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored
