"""The matrices of a wrapper's vision tower, which takes no part in training on text but needs memory."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.hardware.models.config_values import HEADS, HIDDEN, INTERMEDIATE, LAYERS, ConfigValues
from dpo_tui.hardware.models.matrices import LayerPart, Linear

TOWERS = ("vision_config", "audio_config")
_QWEN = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
_GUESSED_DEPTH, _GUESSED_WIDTH = 24, 1024


def tower_part(wrapper: Mapping[str, Any], hidden: int, source: str) -> tuple[LayerPart, bool]:
    """Return what a wrapper has beside its language model.

    Args:
        wrapper: the whole ``config.json``.
        hidden: size of the language model's hidden states.
        source: where it came from, for messages.

    Returns:
        The matrices and other elements, and whether they are a guess.
    """
    parts, guessed = LayerPart(), False
    kind = str(wrapper.get("model_type"))
    for name in TOWERS:
        values = wrapper.get(name)
        if not isinstance(values, Mapping):
            continue
        config = ConfigValues(values, source)
        if name == "vision_config" and kind in _QWEN:
            parts = parts + _qwen(config, deep=3 if kind.startswith("qwen3_vl") else 0)
        elif name == "vision_config" and kind == "gemma3":
            parts = parts + _siglip(config) + LayerPart((), config.size(*HIDDEN, default=1152) * (hidden + 1))
        elif name == "vision_config" and kind == "mistral3" and values.get("model_type", "pixtral") == "pixtral":
            parts = parts + _pixtral(config) + _mistral_projector(wrapper, config, hidden)
        else:
            parts, guessed = parts + _unknown(config, hidden), True
    return parts, guessed


def _repeated(layers: int, linears: tuple[Linear, ...]) -> tuple[Linear, ...]:
    return linears * layers


def _siglip(config: ConfigValues) -> LayerPart:
    width, wide = config.size(*HIDDEN, default=1152), config.size(*INTERMEDIATE, default=4304)
    layers, patch = config.size(*LAYERS, default=27), config.size("patch_size", default=14)
    attention = tuple(Linear(name, width, width, True) for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    mlp = (Linear("fc1", wide, width, True), Linear("fc2", width, wide, True))
    positions = (config.size("image_size", default=896) // patch) ** 2
    small = layers * 4 * width + width * (3 * patch * patch + 1) + positions * width + 2 * width
    linears = _repeated(layers, (*attention, *mlp))
    if config.has("vision_use_head", default=True):
        linears = (*linears, Linear("out_proj", width, width, True), *mlp)
        small += width + 3 * width * width + 3 * width + 2 * width
    return LayerPart(linears, small)


def _pixtral(config: ConfigValues) -> LayerPart:
    width, wide = config.size(*HIDDEN, default=1024), config.size(*INTERMEDIATE, default=4096)
    layers, patch = config.size(*LAYERS, default=24), config.size("patch_size", default=16)
    query = config.size(*HEADS, default=16) * config.size("head_dim", default=width // config.size(*HEADS, default=16))
    attention = (
        *(Linear(name, query, width) for name in ("q_proj", "k_proj", "v_proj")),
        Linear("o_proj", width, query),
    )
    mlp = (Linear("gate_proj", wide, width), Linear("up_proj", wide, width), Linear("down_proj", width, wide))
    return LayerPart(
        _repeated(layers, (*attention, *mlp)),
        layers * 2 * width + width + 3 * patch * patch * width,
    )


def _mistral_projector(wrapper: Mapping[str, Any], config: ConfigValues, hidden: int) -> LayerPart:
    outer = ConfigValues(wrapper, config.source)
    width, merged = config.size(*HIDDEN, default=1024), outer.size("spatial_merge_size", default=2) ** 2
    bias = outer.has("multimodal_projector_bias")
    linears = (
        Linear("merging_layer", width, width * merged),
        Linear("linear_1", hidden, width, bias),
        Linear("linear_2", hidden, hidden, bias),
    )
    return LayerPart(linears, width)


def _qwen(config: ConfigValues, *, deep: int) -> LayerPart:
    """The tower of Qwen3-VL and Qwen 3.5; ``deep`` layers have a merger too where the file does not say which."""
    width, wide = config.size(*HIDDEN, default=1152), config.size(*INTERMEDIATE, default=4304)
    layers, patch = config.size("depth", default=27), config.size("patch_size", default=16)
    merged = width * config.size("spatial_merge_size", default=2) ** 2
    out = config.size("out_hidden_size", default=3584)
    block = (
        Linear("qkv", 3 * width, width, True),
        Linear("proj", width, width, True),
        Linear("linear_fc1", wide, width, True),
        Linear("linear_fc2", width, wide, True),
    )
    merger = (Linear("linear_fc1", merged, merged, True), Linear("linear_fc2", out, merged, True))
    if config.values.get("deepstack_visual_indexes") is not None:
        deep = len(config.list_of("deepstack_visual_indexes"))
    pixels = config.size("in_channels", default=3) * config.size("temporal_patch_size", default=2) * patch * patch
    small = layers * 4 * width + width * (pixels + 1) + 2 * width + deep * 2 * merged
    small += config.size("num_position_embeddings", default=2304) * width
    return LayerPart((*_repeated(layers, block), *(merger * (1 + deep))), small)


def _unknown(config: ConfigValues, hidden: int) -> LayerPart:
    """A transformer of the named width and depth, with a projection into the language model."""
    width = config.count(*HIDDEN, "embed_dim", default=_GUESSED_WIDTH)
    wide = config.count(*INTERMEDIATE, default=4 * width)
    layers = config.count(*LAYERS, "depth", default=_GUESSED_DEPTH)
    block = (*(Linear(name, width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")),)
    block = (*block, Linear("fc1", wide, width), Linear("fc2", width, wide))
    return LayerPart((*_repeated(layers, block), Linear("linear", hidden, width)))
