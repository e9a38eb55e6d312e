"""The matrices of layers that mix positions without attention: state spaces, linear attention, short convolutions."""

from dpo_tui.hardware.models.config_values import HIDDEN, ConfigValues
from dpo_tui.hardware.models.matrices import LayerPart, Linear


def mamba(config: ConfigValues, prefix: str) -> LayerPart:
    """Mamba, and with the prefix ``mamba_`` the layers of Jamba, which have three norms more."""
    hidden = config.size(*HIDDEN)
    plain = not prefix
    inner = config.size(f"{prefix}expand", default=2) * hidden
    if plain:
        inner = config.size("intermediate_size", default=inner)
    state = config.size("state_size" if plain else "mamba_d_state", default=16)
    kernel = config.size("conv_kernel" if plain else "mamba_d_conv", default=4)
    name = "time_step_rank" if plain else "mamba_dt_rank"
    rank = -(-hidden // 16) if config.values.get(name) in (None, "auto") else config.size(name)
    bias = config.has("use_bias" if plain else "mamba_proj_bias")
    linears = (
        Linear("in_proj", 2 * inner, hidden, bias, reads="attention input"),
        Linear("x_proj", rank + 2 * state, inner),
        Linear("dt_proj", inner, rank, True),
        Linear("out_proj", hidden, inner, bias, reads="attention"),
    )
    convolved = inner * kernel + (inner if config.has(f"{'use' if plain else 'mamba'}_conv_bias", default=True) else 0)
    norms = 0 if plain else rank + 2 * state
    return LayerPart(linears, inner * state + inner + convolved + norms)


def mamba2(config: ConfigValues) -> LayerPart:
    """The state space beside the attention of Falcon-H1."""
    hidden, heads = config.size(*HIDDEN), config.size("mamba_n_heads", default=128)
    inner = config.size("mamba_d_ssm", default=config.size("mamba_expand", default=2) * hidden)
    grouped = 2 * config.size("mamba_n_groups", default=1) * config.size("mamba_d_state", default=256)
    convolved = (inner + grouped) * (config.size("mamba_d_conv", default=4) + config.has("mamba_conv_bias", True))
    linears = (
        Linear("in_proj", 2 * inner + grouped + heads, hidden, config.has("mamba_proj_bias"), reads="attention input"),
        Linear("out_proj", hidden, inner, config.has("projectors_bias"), reads="attention"),
    )
    return LayerPart(linears, 3 * heads + convolved + (inner if config.has("mamba_rms_norm") else 0))


def delta_net(config: ConfigValues) -> LayerPart:
    """Gated DeltaNet, the linear attention of Qwen3-Next and Qwen 3.5."""
    hidden = config.size(*HIDDEN)
    value_heads = config.size("linear_num_value_heads", default=32)
    key = config.size("linear_num_key_heads", default=16) * config.size("linear_key_head_dim", default=128)
    value_size = config.size("linear_value_head_dim", default=128)
    value = value_heads * value_size
    outputs = (
        {"in_proj_qkvz": 2 * key + 2 * value, "in_proj_ba": 2 * value_heads}
        if config.model_type == "qwen3_next"
        else {
            "in_proj_qkv": 2 * key + value,
            "in_proj_z": value,
            "in_proj_b": value_heads,
            "in_proj_a": value_heads,
        }
    )
    into = tuple(Linear(name, rows, hidden, reads="attention input") for name, rows in outputs.items())
    convolved = (2 * key + value) * config.size("linear_conv_kernel_dim", default=4)
    return LayerPart(
        (*into, Linear("out_proj", hidden, value, reads="attention")), convolved + 2 * value_heads + value_size
    )


def convolution(config: ConfigValues) -> LayerPart:
    """The gated short convolution of LFM2."""
    hidden, bias = config.size(*HIDDEN), config.has("conv_bias")
    linears = (
        Linear("in_proj", 3 * hidden, hidden, bias, reads="attention input"),
        Linear("out_proj", hidden, hidden, bias, reads="attention"),
    )
    return LayerPart(linears, hidden * (config.size("conv_L_cache", default=3) + bias))
