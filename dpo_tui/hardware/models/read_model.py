"""An architecture from the content of ``config.json`` and, where they are at hand, the files of the weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.config_values import EXPERTS, HIDDEN, LAYERS, ConfigValues
from dpo_tui.hardware.models.decoder_layers import head_size, key_heads, layer_kinds, mlp_width, query_heads
from dpo_tui.hardware.models.experts import token_width
from dpo_tui.hardware.models.family_layouts import LAYOUTS, ON_BY_DEFAULT, TIED_WRAPPERS, ModelLayout
from dpo_tui.hardware.models.gemma_layer_extras import layer_input_embedding
from dpo_tui.hardware.models.layers_from_tensors import layers_from_tensors
from dpo_tui.hardware.models.matrices import LayerPart, Linear
from dpo_tui.hardware.models.quantised import quantisation_in
from dpo_tui.hardware.models.stored_weights import StoredWeights, stored_weights
from dpo_tui.hardware.models.vision_tower import TOWERS, tower_part

_CLOSE = 0.001
"""Share by which the weights in files may differ from those counted by the family's layout."""


def from_config(config: Mapping[str, Any], source: str, folder: Path | None = None) -> Architecture:
    """Read an architecture.

    Args:
        config: the content of ``config.json``.
        source: where it came from, for messages.
        folder: of the model's files; their headers are read where there are any.

    Raises:
        ConfigError: the file lacks dimensions.
    """
    text = config.get("text_config")
    wrapped = isinstance(text, Mapping) and any(name in text for name in HIDDEN)
    values = ConfigValues(dict(text) if wrapped and isinstance(text, Mapping) else config, source)
    found = LAYOUTS.get(values.model_type)
    layout = _with_biases(found or LAYOUTS["llama"], values)
    tied, said = _tied(config, values, layout, wrapped=wrapped)
    arch = _counted(config, values, layout, tied=tied, known=found is not None)
    stored = stored_weights(folder, layers=arch.layers, tied=tied) if folder is not None else None
    if stored is not None and folder is not None and tied and not said and stored.has_head:
        # transformers ties them only where the files do not hold both.
        tied = False
        stored = stored_weights(folder, layers=arch.layers, tied=tied)
        arch = _counted(config, values, layout, tied=tied, known=found is not None)
    return _with_files(arch, stored, values) if stored is not None else arch


def _counted(
    config: Mapping[str, Any], values: ConfigValues, layout: ModelLayout, *, tied: bool, known: bool
) -> Architecture:
    """Count by the layout of the family, which stands for another one where that is not known."""
    hidden, layers, vocabulary = values.size(*HIDDEN), values.size(*LAYERS), values.size("vocab_size")
    attends = layout.mixer != "mamba"
    dense = max((mlp_width(values, layout, layer) for layer in range(layers)), default=0) if layout.mlp else 0
    sparse = token_width(values)
    only_sparse = sparse and not values.count("first_k_dense_replace") and not values.list_of("mlp_only_layers")
    embedding, beside = _outside(values, layout)
    per_layer, extra = layer_input_embedding(values)
    width = values.count("word_embed_proj_dim", default=hidden) if values.model_type == "opt" else hidden
    tower, tower_guessed = (
        tower_part(config, hidden, values.source) if values.values is not config else _no_tower(config)
    )
    return Architecture(
        model_type=values.model_type,
        hidden=hidden,
        layers=layers,
        heads=query_heads(values) if attends else 0,
        kv_heads=key_heads(values) if attends else 0,
        head_dim=max(head_size(values, layer) for layer in range(layers)) if attends else 0,
        intermediate=(sparse if only_sparse else max(dense, sparse)) or _inner_width(values),
        vocabulary=vocabulary,
        tied=tied,
        layout=layout,
        kinds=layer_kinds(values, layout),
        lookup_weights=(1 if tied else 2) * vocabulary * width + embedding + per_layer,
        beside=beside + extra,
        tower=tower,
        softcap=values.model_type == "gemma2" and values.values.get("attn_logit_softcapping", 50.0) is not None,
        source=values.source,
        guess=_guess(config, values, known=known, tower_guessed=tower_guessed),
        quantisation=quantisation_in(config, values.values),
    )


def _no_tower(config: Mapping[str, Any]) -> tuple[LayerPart, bool]:
    """A tower in a config that is no wrapper's is of a kind that is not known."""
    return LayerPart(), any(isinstance(config.get(name), Mapping) for name in TOWERS)


def _guess(config: Mapping[str, Any], values: ConfigValues, *, known: bool, tower_guessed: bool) -> str:
    if not known:
        like = "a Llama with experts" if values.count(*EXPERTS) else "a Llama"
        return f"model type {values.model_type!r} is unknown here and was counted like {like}: a guess"
    if tower_guessed:
        return f"the towers of {config.get('model_type')!r} are not known here; their weights are a guess"
    return ""


def _outside(values: ConfigValues, layout: ModelLayout) -> tuple[int, LayerPart]:
    """Return the elements of learned positions, and what lies beside the layers: norms, projections."""
    hidden = values.size(*HIDDEN)
    per_norm = hidden * (2 if layout.norm_bias else 1)
    norms = 1 + layout.embedding_norm
    positions = 0
    if layout.positions is not None:
        positions = (values.size("max_position_embeddings", "n_positions") + layout.positions) * hidden
    projections: tuple[Linear, ...] = ()
    if values.model_type == "opt":
        width = values.count("word_embed_proj_dim", default=hidden)
        if width != hidden:
            projections = (Linear("project_out", width, hidden), Linear("project_in", hidden, width))
        if not values.has("do_layer_norm_before", default=True) or values.has("_remove_final_layer_norm"):
            norms -= 1
    return positions, LayerPart(projections, norms * per_norm)


def _inner_width(values: ConfigValues) -> int:
    """Width of the inner states of a Mamba layer, which has no MLP."""
    return values.size("intermediate_size", default=values.size("expand", default=2) * values.size(*HIDDEN))


def _tied(config: Mapping[str, Any], values: ConfigValues, layout: ModelLayout, *, wrapped: bool) -> tuple[bool, bool]:
    """Return whether LM head and embedding are one matrix, and whether the file says so: a wrapper's, outside."""
    if wrapped:
        default = str(config.get("model_type")) in TIED_WRAPPERS
        given = config.get("tie_word_embeddings")
        if given is None and not default:
            given = values.values.get("tie_word_embeddings")
        return (default if given is None else bool(given)), given is not None
    given = config.get("tie_word_embeddings")
    return (layout.tied if given is None else bool(given)), given is not None


def _with_biases(layout: ModelLayout, values: ConfigValues) -> ModelLayout:
    default = ON_BY_DEFAULT.get(values.model_type)
    if values.model_type == "starcoder2":
        on = values.has("use_bias", default=True)
        return replace(layout, qkv_bias=on, output_bias=on, mlp_bias=on)
    if layout.bias_key and values.has(layout.bias_key, default=default == layout.bias_key):
        layout = replace(layout, qkv_bias=True, output_bias=layout.output_bias_follows)
    if layout.mlp_bias_key and values.has(layout.mlp_bias_key):
        layout = replace(layout, mlp_bias=True)
    if values.model_type == "seed_oss" and values.has("attention_out_bias"):
        layout = replace(layout, output_bias=True)
    if values.has("lm_head_bias"):
        layout = replace(layout, head_bias=True)
    if values.model_type == "qwen2_moe" and not values.has("qkv_bias", default=True):
        layout = replace(layout, qkv_bias=False)
    return layout


def _with_files(arch: Architecture, stored: StoredWeights, values: ConfigValues) -> Architecture:
    """Take from the files what they say exactly: how many weights there are and, of unknown families, which."""
    arch = replace(arch, stored=stored)
    if stored.parameters is None:
        return arch
    if not arch.guess and abs(stored.parameters - arch.counted_parameters) <= _CLOSE * stored.parameters:
        return arch
    layers = layers_from_tensors(stored, values)
    if layers is None:
        return replace(arch, guess=arch.guess or "the files hold other weights than the model type has: a guess")
    known = f"model type {arch.model_type!r} is " + ("not counted exactly" if not arch.guess else "unknown") + " here"
    return replace(
        arch,
        kinds=layers.kinds,
        beside=layers.beside,
        tower=layers.tower,
        lookup_weights=layers.lookup_weights,
        guess=f"{known}: its weights are counted in its files, the rest like a Llama's, which is a guess",
    )
