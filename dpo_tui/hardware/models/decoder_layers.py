"""The matrices of each decoder layer, from config.json and the layout of the family."""

from collections import Counter

from dpo_tui.hardware.models.config_values import EXPERTS, HEADS, HIDDEN, LAYERS, ConfigValues
from dpo_tui.hardware.models.experts import expert_part, is_sparse
from dpo_tui.hardware.models.family_layouts import LAYOUTS, ModelLayout
from dpo_tui.hardware.models.gemma_layer_extras import gemma_layer_extras
from dpo_tui.hardware.models.matrices import LayerKind, LayerPart, Linear, Source
from dpo_tui.hardware.models.state_space import convolution, delta_net, mamba, mamba2


def query_heads(config: ConfigValues) -> int:
    """Heads of the queries; for a family that is not known, which may have none, heads of 64 are assumed."""
    default = None if config.model_type in LAYOUTS else max(1, config.size(*HIDDEN) // 64)
    return config.size(*HEADS, default=default)


def head_size(config: ConfigValues, layer: int = 0) -> int:
    """Size of an attention head; Gemma 4 has larger ones in layers that see the whole text."""
    if own := config.of_layer(layer, "head_dim"):
        return own
    if _sees_all(config, layer):
        return config.size("global_head_dim", default=512)
    return config.size("head_dim", default=max(1, config.size(*HIDDEN) // query_heads(config)))


def key_heads(config: ConfigValues, layer: int = 0) -> int:
    """Key and value heads of a layer."""
    heads = query_heads(config)
    if config.model_type == "falcon":
        if config.has("new_decoder_architecture"):
            return config.size("num_kv_heads", default=heads)
        return 1 if config.has("multi_query", default=True) else heads
    if config.model_type in ("gpt2", "gptj", "gpt_neo", "gpt_neox", "bloom", "opt", "mpt"):
        return heads
    if own := config.of_layer(layer, "num_key_value_heads"):
        return own
    if _shares_key_and_value(config, layer) and config.count("num_global_key_value_heads"):
        return config.size("num_global_key_value_heads")
    return config.size("num_key_value_heads", default=heads)


def mlp_width(config: ConfigValues, layout: ModelLayout, layer: int) -> int:
    """Width of a dense layer's inner states."""
    widths = config.list_of("intermediate_size")
    if widths:
        return ConfigValues({"intermediate_size": widths[min(layer, len(widths) - 1)]}, config.source).size(
            "intermediate_size"
        )
    if config.model_type == "lfm2":
        return _lfm2_width(config)
    wide = layout.wide if config.model_type in LAYOUTS else 4
    default = wide * config.size(*HIDDEN) if wide else None
    names = ["intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim"]
    if config.model_type == "llama4_text":
        names.insert(0, "intermediate_size_mlp")
    if config.model_type in ("bloom", "mpt"):
        names = [""]  # four hidden sizes, whatever the file says
    wide = config.size(*names, default=default)
    doubled = config.has("use_double_wide_mlp") and _reuses_keys(config, layer)
    return 2 * wide if doubled else wide


def layer_kinds(config: ConfigValues, layout: ModelLayout) -> tuple[LayerKind, ...]:
    """Return the decoder layers, alike ones counted together."""
    parts = Counter(_layer(config, layout, layer) for layer in range(config.size(*LAYERS)))
    return tuple(LayerKind(count, part.linears, part.small) for part, count in parts.items())


def _layer(config: ConfigValues, layout: ModelLayout, layer: int) -> LayerPart:
    hidden = config.size(*HIDDEN)
    norms = _norms(config, layout) * hidden * (2 if layout.norm_bias else 1)
    part = _mixer(config, layout, layer) + LayerPart((), norms + layout.layer_extra)
    if layout.mlp:
        sparse = config.count(*EXPERTS) > 0 and is_sparse(config, layer)
        dense = LayerPart() if sparse else _mlp(layout, hidden, mlp_width(config, layout, layer))
        part = part + (expert_part(config, layout) if sparse else dense)
    return part + gemma_layer_extras(config)


def _norms(config: ConfigValues, layout: ModelLayout) -> int:
    if config.model_type == "falcon":
        if config.has("new_decoder_architecture"):
            return config.count("num_ln_in_parallel_attn", default=2)
        return 1 if config.has("parallel_attn", default=True) else 2
    if config.model_type == "stablelm" and config.has("use_parallel_residual"):
        return 1
    return layout.norms


def _mixer(config: ConfigValues, layout: ModelLayout, layer: int) -> LayerPart:
    kind = config.layer_type(layer)
    if layout.mixer == "mamba":
        return mamba(config, "")
    if layout.mixer == "jamba":
        period = config.count("attn_layer_period", default=8) or 1
        if layer % period != config.count("attn_layer_offset", default=4):
            return mamba(config, "mamba_")
    if layout.mixer == "parallel_mamba":
        return mamba2(config) + _attention(config, layout, layer)
    if layout.mixer == "convolution" and kind != "full_attention":
        return convolution(config)
    if layout.output_gate and kind != "full_attention" and _is_linear(config, layer):
        return delta_net(config)
    return _latent(config) if layout.mixer == "latent" else _attention(config, layout, layer)


def _is_linear(config: ConfigValues, layer: int) -> bool:
    """Whether a layer of Qwen3-Next and Qwen 3.5 has linear attention: three of four, where the file has no list."""
    if config.list_of("layer_types"):
        return config.layer_type(layer) == "linear_attention"
    return bool((layer + 1) % config.size("full_attention_interval", default=4))


def _attention(config: ConfigValues, layout: ModelLayout, layer: int) -> LayerPart:
    hidden, size = config.size(*HIDDEN), head_size(config, layer)
    heads, keys = query_heads(config), key_heads(config, layer)
    query, key = heads * size, keys * size
    reuses = _reuses_keys(config, layer)

    def projection(name: str, rows: int) -> Linear:
        return Linear(name, rows, hidden, layout.qkv_bias, reads="attention input")

    if layout.fused_qkv:
        linears = [projection(layout.fused_qkv, query + 2 * key)]
    else:
        linears = [projection("q_proj", query * (2 if layout.output_gate else 1))]
        if not reuses:
            linears.append(projection("k_proj", key))
            if not _shares_key_and_value(config, layer):
                linears.append(projection("v_proj", key))
    linears.append(Linear(layout.output, hidden, query, layout.output_bias, reads="attention"))
    small = heads if layout.sinks else 0
    if layout.qk_norm == "head":
        small += size if reuses else 2 * size
    elif layout.qk_norm == "full" or (config.model_type == "cohere" and config.has("use_qk_norm")):
        small += query + key
    elif config.model_type == "glm4_moe" and config.has("use_qk_norm"):
        small += 2 * size
    elif config.has("qk_layernorm"):
        small += 4 * size if config.model_type == "phi" else query + key
    return LayerPart(tuple(linears), small)


def _reuses_keys(config: ConfigValues, layer: int) -> bool:
    """Whether a layer takes keys and values of an earlier one (the last layers of Gemma 3n and Gemma 4)."""
    shared = config.count("num_kv_shared_layers", default=15 if config.model_type == "gemma3n_text" else 0)
    return shared > 0 and layer >= config.size(*LAYERS) - shared


def _shares_key_and_value(config: ConfigValues, layer: int) -> bool:
    return config.has("attention_k_eq_v") and config.layer_type(layer) == "full_attention"


def _sees_all(config: ConfigValues, layer: int) -> bool:
    """Whether a layer of Gemma 4 sees the whole text, with sizes that config.json does not give layer by layer."""
    listed = isinstance(config.values.get("per_layer_config"), dict)
    return config.model_type == "gemma4_text" and not listed and config.layer_type(layer) == "full_attention"


def _latent(config: ConfigValues) -> LayerPart:
    """Multi-head latent attention (DeepSeek-V2 and V3): queries, keys and values by way of smaller vectors."""
    hidden, heads = config.size(*HIDDEN), query_heads(config)
    rope, plain = config.size("qk_rope_head_dim", default=64), config.size("qk_nope_head_dim", default=128)
    value, key_rank = config.size("v_head_dim", default=128), config.size("kv_lora_rank", default=512)
    bias, query_rank, query = config.has("attention_bias"), config.count("q_lora_rank"), heads * (plain + rope)
    first = Linear("q_proj", query, hidden, reads="attention input")
    queries: tuple[Linear, ...] = (first,)
    if query_rank:
        queries = (
            Linear("q_a_proj", query_rank, hidden, bias, reads="attention input"),
            Linear("q_b_proj", query, query_rank),
        )
    linears = (
        *queries,
        Linear("kv_a_proj_with_mqa", key_rank + rope, hidden, bias, reads="attention input"),
        Linear("kv_b_proj", heads * (plain + value), key_rank),
        Linear("o_proj", hidden, heads * value, bias, reads="attention"),
    )
    return LayerPart(linears, query_rank + key_rank)


def _mlp(layout: ModelLayout, hidden: int, wide: int) -> LayerPart:
    *inner, last = layout.mlp
    reads: Source = "attention input" if layout.norms == 1 else "mlp input"  # parallel blocks read one normed input
    rows = 2 * wide if layout.fused else wide
    into = tuple(Linear(name, rows, hidden, layout.mlp_bias, reads=reads) for name in inner)
    return LayerPart((*into, Linear(last, hidden, wide, layout.mlp_bias, reads="product")))


def _lfm2_width(config: ConfigValues) -> int:
    wide = config.size("intermediate_size", "block_ff_dim", default=12288)
    if not config.has("block_auto_adjust_ff_dim", default=True):
        return wide
    wide, multiplier = 2 * wide // 3, config.values.get("block_ffn_dim_multiplier", 1.0)
    if isinstance(multiplier, int | float):
        wide = int(multiplier * wide)
    multiple = config.size("block_multiple_of", default=256)
    return multiple * -(-wide // multiple)
