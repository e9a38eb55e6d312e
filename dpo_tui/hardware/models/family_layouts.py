"""The families whose weights are counted, and what distinguishes their decoder layers.

Rows follow ``transformers/models/<type>/modeling_<type>.py`` (5.23). What a row does not say is like Llama.
"""

from dataclasses import dataclass
from typing import Any, Literal

QkNorm = Literal["none", "head", "full"]
Mixer = Literal["attention", "latent", "mamba", "jamba", "parallel_mamba", "convolution"]


@dataclass(frozen=True)
class ModelLayout:
    """What the decoder layer of a model family has.

    Attributes:
        norms: per layer, each of the hidden size.
        norm_bias: whether norms have a bias.
        qk_norm: norms of queries and keys: none, one per head's size, or over all heads.
        fused_qkv: name of the matrix that makes queries, keys and values; empty where each has its own.
        output: name of the attention's output projection.
        mlp: names of the MLP's matrices, the last of which projects back.
        fused: the matrix that ``mlp`` names first makes gate and up values together.
        gated: whether a gate multiplies the inner values.
        qkv_bias: biases of the matrices before attention.
        output_bias: bias of the output projection.
        mlp_bias: biases of the MLP.
        head_bias: bias of the LM head.
        bias_key: key of config.json that turns attention's biases on.
        output_bias_follows: the same key turns on the output projection's.
        mlp_bias_key: key of config.json that turns the MLP's biases on.
        activation_saves: tensors of the MLP's width that the activation function keeps for the backward pass.
        mixer: what mixes positions.
        output_gate: queries come with a gate of the same size.
        sinks: every head has one learned logit more.
        wide: hidden sizes in the MLP's width where config.json has none.
        positions: learned positions beside those of config.json; None where positions are not learned.
        embedding_norm: norms outside the layers, beside the last one.
        layer_extra: single learned numbers of a layer.
        router: how a mixture of experts routes: a bare matrix, or a linear layer.
        router_bias: whether the router has a bias.
        expert_bias: whether experts have biases.
        tied: LM head and embedding are one matrix where config.json does not say.
    """

    norms: int = 2
    norm_bias: bool = False
    qk_norm: QkNorm = "none"
    fused_qkv: str = ""
    output: str = "o_proj"
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    fused: bool = False
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    bias_key: str = ""
    output_bias_follows: bool = False
    mlp_bias_key: str = ""
    activation_saves: int = 2
    mixer: Mixer = "attention"
    output_gate: bool = False
    sinks: bool = False
    wide: int | None = None
    positions: int | None = None
    embedding_norm: int = 0
    layer_extra: int = 0
    router: Literal["router", "linear"] = "router"
    router_bias: bool = False
    expert_bias: bool = False
    tied: bool = False


_BOTH: dict[str, Any] = {"bias_key": "attention_bias", "output_bias_follows": True}
_NEOX = ("dense_h_to_4h", "dense_4h_to_h")
_GATE_UP: dict[str, Any] = {"mlp": ("gate_up_proj", "down_proj"), "fused": True}

LAYOUTS: dict[str, ModelLayout] = {
    "llama": ModelLayout(**_BOTH, mlp_bias_key="mlp_bias"),
    "mistral": ModelLayout(),
    "ministral": ModelLayout(),
    "ministral3": ModelLayout(),
    "qwen2": ModelLayout(qkv_bias=True),
    "qwen2_moe": ModelLayout(qkv_bias=True),
    "qwen3": ModelLayout(qk_norm="head", **_BOTH),
    "qwen3_moe": ModelLayout(qk_norm="head", **_BOTH),
    "qwen3_vl_text": ModelLayout(qk_norm="head", **_BOTH),
    "qwen3_vl_moe_text": ModelLayout(qk_norm="head", **_BOTH, tied=True),
    "qwen3_next": ModelLayout(qk_norm="head", output_gate=True, **_BOTH),
    "qwen3_5_text": ModelLayout(qk_norm="head", output_gate=True, **_BOTH),
    "qwen3_5_moe_text": ModelLayout(qk_norm="head", output_gate=True, **_BOTH),
    "gemma": ModelLayout(tied=True, **_BOTH),
    "gemma2": ModelLayout(norms=4, tied=True, **_BOTH),
    "gemma3_text": ModelLayout(norms=4, qk_norm="head", tied=True, **_BOTH),
    "gemma3n_text": ModelLayout(norms=4, qk_norm="head", tied=True, **_BOTH),
    "gemma4_text": ModelLayout(norms=4, qk_norm="head", tied=True, **_BOTH),
    "phi3": ModelLayout(fused_qkv="qkv_proj", **_GATE_UP),
    # NewGELUActivation is written in tensor operations: autograd keeps x, x·0.5, 1+tanh and tanh.
    "phi": ModelLayout(
        norms=1,
        norm_bias=True,
        output="dense",
        mlp=("fc1", "fc2"),
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
        activation_saves=4,
    ),
    "phimoe": ModelLayout(norm_bias=True, router="linear", **_BOTH),
    "olmo2": ModelLayout(qk_norm="full", **_BOTH),
    "olmo3": ModelLayout(qk_norm="full", **_BOTH),
    "olmoe": ModelLayout(qk_norm="full", **_BOTH),
    "mixtral": ModelLayout(),
    "gpt_oss": ModelLayout(qkv_bias=True, output_bias=True, sinks=True, router_bias=True, expert_bias=True),
    "deepseek_v2": ModelLayout(mixer="latent"),
    "deepseek_v3": ModelLayout(mixer="latent"),
    "glm4": ModelLayout(norms=4, bias_key="attention_bias", **_GATE_UP),
    "glm4_moe": ModelLayout(bias_key="attention_bias"),
    "exaone4": ModelLayout(qk_norm="head"),
    "cohere": ModelLayout(norms=1, tied=True, **_BOTH),
    "cohere2": ModelLayout(norms=1, tied=True, **_BOTH),
    "apertus": ModelLayout(qk_norm="head", mlp=("up_proj", "down_proj"), gated=False, layer_extra=2, **_BOTH),
    "hunyuan_v1_dense": ModelLayout(qk_norm="head", **_BOTH),
    "granite": ModelLayout(**_BOTH, mlp_bias_key="mlp_bias"),
    "granitemoe": ModelLayout(**_BOTH),
    "smollm3": ModelLayout(**_BOTH, mlp_bias_key="mlp_bias", tied=True),
    "stablelm": ModelLayout(norm_bias=True, bias_key="use_qkv_bias"),
    "nemotron": ModelLayout(
        norm_bias=True, mlp=("up_proj", "down_proj"), gated=False, **_BOTH, mlp_bias_key="mlp_bias"
    ),
    "starcoder2": ModelLayout(
        norm_bias=True, mlp=("c_fc", "c_proj"), gated=False, **_BOTH, mlp_bias_key="use_bias", tied=True
    ),
    "seed_oss": ModelLayout(bias_key="attention_bias"),
    "llama4_text": ModelLayout(router="linear", **_BOTH),
    "lfm2": ModelLayout(qk_norm="head", output="out_proj", mlp=("w1", "w3", "w2"), mixer="convolution", tied=True),
    "jamba": ModelLayout(mixer="jamba"),
    "falcon_h1": ModelLayout(mixer="parallel_mamba", **_BOTH, mlp_bias_key="mlp_bias"),
    "mamba": ModelLayout(norms=1, mixer="mamba", mlp=(), tied=True),
    "falcon_mamba": ModelLayout(norms=1, mixer="mamba", mlp=(), tied=True),
    "gpt2": ModelLayout(
        norm_bias=True,
        fused_qkv="c_attn",
        output="c_proj",
        mlp=("c_fc", "c_proj"),
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        activation_saves=4,
        wide=4,
        positions=0,
        tied=True,
    ),
    "gptj": ModelLayout(
        norms=1,
        norm_bias=True,
        output="out_proj",
        mlp=("fc_in", "fc_out"),
        gated=False,
        mlp_bias=True,
        head_bias=True,
        activation_saves=4,
        wide=4,
    ),
    "gpt_neo": ModelLayout(
        norm_bias=True,
        output="out_proj",
        mlp=("c_fc", "c_proj"),
        gated=False,
        output_bias=True,
        mlp_bias=True,
        activation_saves=4,
        wide=4,
        positions=0,
        tied=True,
    ),
    "gpt_neox": ModelLayout(
        norm_bias=True,
        fused_qkv="query_key_value",
        output="dense",
        mlp=_NEOX,
        gated=False,
        mlp_bias=True,
        **_BOTH,
    ),
    "falcon": ModelLayout(
        norm_bias=True,
        fused_qkv="query_key_value",
        output="dense",
        mlp=_NEOX,
        gated=False,
        bias_key="bias",
        output_bias_follows=True,
        mlp_bias_key="bias",
        wide=4,
        tied=True,
    ),
    "bloom": ModelLayout(
        norm_bias=True,
        fused_qkv="query_key_value",
        output="dense",
        mlp=_NEOX,
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        activation_saves=4,
        wide=4,
        embedding_norm=1,
        tied=True,
    ),
    "opt": ModelLayout(
        norm_bias=True,
        output="out_proj",
        mlp=("fc1", "fc2"),
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        positions=2,
        tied=True,
    ),
    "mpt": ModelLayout(
        fused_qkv="Wqkv", output="out_proj", mlp=("up_proj", "down_proj"), gated=False, wide=4, tied=True
    ),
}
ON_BY_DEFAULT = {
    "gpt_neox": "attention_bias",
    "starcoder2": "use_bias",
    "seed_oss": "attention_bias",
    "glm4": "attention_bias",
}
"""Switches of biases that are on where config.json does not say."""
TIED_WRAPPERS = {"mistral3", "gemma3", "gemma3n", "gemma4", "paligemma"}
"""Wrappers whose LM head and embedding are one matrix where config.json does not say."""
