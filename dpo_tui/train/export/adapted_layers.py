"""Layers that an adapter changes, as PEFT builds them: each merges its own weight, one in memory at a time.

The model and its adapter are made on torch's meta device, which allocates nothing. What depends on the type of a layer
(GPT-2's Conv1D stores its weight as [in, out]; the axis of DoRA's norm) and on the adapter's config (the scale s of
W' = W + s·B·A, under rsLoRA and ``alpha_pattern`` too) is then computed by PEFT, which trained the adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open

from dpo_tui.errors import TrainingError
from dpo_tui.train.model.model_class import model_without_weights

UNMERGED = "use base and adapter together, or merge with PEFT's merge_and_unload, which holds the whole model"
"""What to do where no merge is possible here."""
_PREFIX = "base_model.model."
_ADAPTER = "default"
_LORA_PARAMETERS = {
    "lora_A.weight": f"lora_A.{_ADAPTER}.weight",
    "lora_B.weight": f"lora_B.{_ADAPTER}.weight",
    "lora_embedding_A": f"lora_embedding_A.{_ADAPTER}",
    "lora_embedding_B": f"lora_embedding_B.{_ADAPTER}",
    "lora_magnitude_vector": f"lora_magnitude_vector.{_ADAPTER}.weight",
    # PEFT saves the whole embedding beside its LoRA matrices where an embedding is a target.
    "base_layer.weight": "base_layer.weight",
}
"""Parameters of a LoRA layer: the name in the adapter's file, and the name in PEFT's module."""


@dataclass(frozen=True)
class AdaptedLayer:
    """A layer with LoRA matrices.

    Attributes:
        layer: PEFT's layer, on the meta device between two merges.
        keys: names of its tensors in the adapter's file, by the name of the layer's parameter.
    """

    layer: Any
    keys: Mapping[str, str]


@dataclass(frozen=True)
class AdaptedModel:
    """Effect of an adapter on the weights of its base model. Weights have the names of the model in memory.

    Attributes:
        file: safetensors of the adapter.
        layers: LoRA layers, by the name of their weight.
        replaced: keys in ``file`` of weights that were trained whole (``modules_to_save``), by the name of the weight.
        tied: pairs of weights that are one tensor in the base model, the one that its files leave out first.
        linear: weights that transformers quantises to 4 bits: all linear layers but the output layer.
        base: the base model without the adapter, on the meta device.
    """

    file: Path
    layers: Mapping[str, AdaptedLayer]
    replaced: Mapping[str, str]
    tied: tuple[tuple[str, str], ...]
    linear: frozenset[str]
    base: Any

    @property
    def changed(self) -> frozenset[str]:
        """Names of the weights that the adapter changes."""
        return frozenset(self.layers) | frozenset(self.replaced)

    def merge(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the merged value of a weight, computed in fp32; the weight itself where the adapter has no part."""
        if name not in self.changed:
            return weight
        with safe_open(self.file, framework="pt") as adapter:
            if name in self.replaced:
                replaced: torch.Tensor = adapter.get_tensor(self.replaced[name])
                return replaced
            keys = self.layers[name].keys
            tensors = {"base_layer.weight": weight} | {part: adapter.get_tensor(key) for part, key in keys.items()}
        return merge_layer(self.layers[name].layer, tensors)


@torch.no_grad()  # type: ignore[untyped-decorator]
def merge_layer(layer: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the merged weight of one of PEFT's layers, in fp32.

    Args:
        layer: on the meta device, where it is put again.
        tensors: its parameters by name, ``base_layer.weight`` among them.
    """
    # A copy, as PEFT adds to the base's weight in place.
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
    base_layer, parameter = layer.get_base_layer(), getattr(layer, "parameter_name", "weight")
    setattr(base_layer, parameter, torch.nn.Parameter(copies.pop("base_layer.weight"), requires_grad=False))
    # assign: tensors on the meta device have no memory to copy into. Not strict: the base's weight is set already.
    layer.load_state_dict(copies, strict=False, assign=True)
    layer.merge(adapter_names=[_ADAPTER])
    merged: torch.Tensor = getattr(base_layer, parameter).detach()
    # PEFT skips adapters on this list: a second merge by the same layer would return the base's weight unchanged.
    layer.merged_adapters.clear()
    layer.to("meta")
    return merged


def read_adapted_model(base: Path, adapter: Path) -> AdaptedModel:
    """Read which weights of a model an adapter that PEFT saved changes, and how.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter.

    Raises:
        TrainingError: it is not a LoRA adapter, was trained on another model, or changes what is not supported here:
            biases, replicated layers, single tokens.
    """
    settings = LoraConfig.from_pretrained(str(adapter))
    _require_supported(settings, adapter)
    model = model_without_weights(base, adapter)
    head = model.get_output_embeddings()
    linear = frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    tied = tuple(dict(model.all_tied_weights_keys).items())
    try:
        adapted = get_peft_model(model, settings, adapter_name=_ADAPTER, low_cpu_mem_usage=True).base_model.model
    except ValueError as error:  # PEFT's word for target modules that are not there
        raise _other_model(str(error).splitlines()[0]) from error

    file = adapter / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as stored:
        shapes = {key.removeprefix(_PREFIX): stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
    layers: dict[str, AdaptedLayer] = {}
    replaced: dict[str, str] = {}
    unread = dict(shapes)
    absent: list[str] = []
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            # Both ways round: a tensor of the file that no layer takes belongs to another model, and a parameter that
            # no tensor fills would keep PEFT's start, with which nothing is added to the weight.
            parameters = module.state_dict()
            keys = {}
            for saved, parameter in _LORA_PARAMETERS.items():
                shape = unread.pop(f"{name}.{saved}", None)
                if shape is not None and parameter in parameters:
                    _require_shape(f"{name}.{saved}", shape, parameters[parameter])
                    keys[parameter] = f"{_PREFIX}{name}.{saved}"
                elif parameter in parameters and parameter != "base_layer.weight":
                    absent.append(f"{name}.{saved}")
            layers[adapted_weight(name, module)] = AdaptedLayer(module, keys)
        elif isinstance(module, ModulesToSaveWrapper):
            for parameter, value in module.modules_to_save[_ADAPTER].state_dict().items():
                shape = unread.pop(f"{name}.{parameter}", None)
                if shape is None:
                    absent.append(f"{name}.{parameter}")
                    continue
                _require_shape(f"{name}.{parameter}", shape, value)
                replaced[f"{name}.{parameter}"] = f"{_PREFIX}{name}.{parameter}"
    if unread:
        raise _other_model(f"the base model has no layer for {min(unread)}")
    if absent:
        raise _other_model(f"the adapter has no tensor named {absent[0]}")
    # PEFT has changed the first one.
    return AdaptedModel(file, layers, replaced, tied, linear, model_without_weights(base, adapter))


def adapted_weight(name: str, layer: LoraLayer) -> str:
    """Return the name in the base model of the weight that one of PEFT's layers, itself of this name, adapts."""
    if not isinstance(layer, ParamWrapper):
        return f"{name}.weight"
    # Wrappers of several parameters of one module are nested in each other.
    while name.endswith(".base_layer"):
        name = name.removesuffix(".base_layer")
    return f"{name}.{layer.parameter_name}"


def _require_supported(settings: LoraConfig, adapter: Path) -> None:
    unsupported = {
        "bias": settings.bias != "none",
        "lora_bias": settings.lora_bias,
        "layer_replication": settings.layer_replication,
        "trainable_token_indices": settings.trainable_token_indices,
        "ensure_weight_tying": settings.ensure_weight_tying,
    }
    for name, used in unsupported.items():
        if used:
            raise TrainingError(
                f"{adapter}: adapters with {name} cannot be merged shard by shard",
                hint=UNMERGED,
            )


def _require_shape(name: str, found: list[int], parameter: torch.Tensor) -> None:
    if list(found) != list(parameter.shape):
        raise _other_model(f"{name} is {list(found)}, and {list(parameter.shape)} in the base model")


def _other_model(what: str) -> TrainingError:
    return TrainingError(
        f"{what}: the adapter was trained on another model",
        hint="merge with the model and revision that the run's config.toml names",
    )
