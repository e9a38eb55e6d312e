"""The layers of a model of an unknown family, as the names and shapes in its files show them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dpo_tui.hardware.models.config_values import ACTIVE_EXPERTS, ConfigValues
from dpo_tui.hardware.models.matrices import LayerKind, LayerPart, Linear, Source
from dpo_tui.hardware.models.stored_weights import StoredWeights, is_of_tower, stored_layers

_EXPERT = re.compile(r"experts\.(\d+)\.")
_LOOKUP = re.compile(r"(?:embed\w*|wte|wpe|word_embeddings|lm_head|embed_out|embed_tokens\w*)(?:\.\d+)?\.weight$")
_ROUTERS = ("gate", "router")
_UP_OF = {"gate_proj": "up_proj", "w1": "w3"}
_MATRIX, _STACK = 2, 3
_READS: dict[str, Source] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value"), "attention input"),
    **dict.fromkeys(("o_proj", "dense", "out_proj"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "fc1", "c_fc"), "mlp input"),
    **dict.fromkeys(("down_proj", "w2", "fc2"), "product"),
}


@dataclass(frozen=True)
class LayersFromTensors:
    """What files show of a model.

    Attributes:
        kinds: decoder layers.
        beside: matrices beside them.
        tower: matrices that see or hear.
        lookup_weights: elements of embeddings and LM head.
    """

    kinds: tuple[LayerKind, ...]
    beside: LayerPart
    tower: LayerPart
    lookup_weights: int


def layers_from_tensors(stored: StoredWeights, values: ConfigValues) -> LayersFromTensors | None:
    """Sort the weights in files into decoder layers, tower, embeddings and the rest; None where no layer is found."""
    layers = stored_layers(stored.tensors)
    if not layers:
        return None
    active = values.count(*ACTIVE_EXPERTS, default=1) or 1
    parts = Counter(_part(tensors.items(), active) for tensors in layers.values())
    tower = [(name, shape) for name, shape in stored.tensors.items() if is_of_tower(name)]
    outside = [
        (name, shape)
        for name, shape in stored.tensors.items()
        if not is_of_tower(name) and not stored_layers({name: shape})
    ]
    lookup = sum(math.prod(shape) for name, shape in outside if _LOOKUP.search(name))
    return LayersFromTensors(
        kinds=tuple(LayerKind(count, part.linears, part.small) for part, count in parts.items()),
        beside=_part([item for item in outside if not _LOOKUP.search(item[0])], active),
        tower=_part(tower, active),
        lookup_weights=lookup,
    )


def _part(tensors: Iterable[tuple[str, tuple[int, ...]]], active: int) -> LayerPart:
    linears, small = [], 0
    experts: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for name, shape in sorted(tensors):
        leaf = name.removesuffix(".weight").rpartition(".")[2]
        if _EXPERT.search(name) and len(shape) == _MATRIX:
            experts[leaf].append(shape)
        elif len(shape) == _STACK and min(shape) > 1:  # a convolution over positions has one input channel
            stack, rows, columns = shape
            linears.append(Linear(leaf, rows, columns, False, "experts", stack, min(active, stack)))
        elif len(shape) == _MATRIX and name.endswith(".weight"):
            linears.append(Linear(leaf, shape[0], shape[1], reads=_READS.get(leaf, "other")))
        else:
            small += math.prod(shape)
    stacks = _stacks(experts, active)
    many = stacks[0].stack if stacks else 0
    linears = [replace(one, form="router") if one.name in _ROUTERS and one.rows == many else one for one in linears]
    return LayerPart((*linears, *stacks), small)


def _stacks(experts: dict[str, list[tuple[int, ...]]], active: int) -> list[Linear]:
    """Put the matrices of experts together as transformers does: one parameter for gate and up, one for down."""
    found: list[Linear] = []
    for leaf, shapes in experts.items():
        if leaf in ("up_proj", "w3") and {"gate_proj", "w1"} & experts.keys():
            continue
        rows, columns = shapes[0]
        paired = _UP_OF.get(leaf) in experts
        name = "gate_up_proj" if paired else "down_proj" if leaf == "w2" else leaf
        rows = 2 * rows if paired else rows
        many = len(shapes)
        found.append(Linear(name, rows, columns, False, "experts", many, min(active, many), _READS.get(leaf, "other")))
    return found
