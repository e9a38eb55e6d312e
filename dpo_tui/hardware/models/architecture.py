"""Dimensions of a model, read from its ``config.json``, and the numbers of weights that follow from them.

The layouts (which linear layers, biases and norms a decoder layer has) are those of transformers' modeling files for
each ``model_type``; ``tests/hardware/memory/test_estimate.py`` compares them with the real classes on the meta device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dpo_tui.errors import ConfigError

QkNorm = Literal["none", "head", "full"]


@dataclass(frozen=True)
class Linear:
    """One linear layer: ``rows`` outputs, ``columns`` inputs."""

    name: str
    rows: int
    columns: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Elements of the weight matrix, without the bias."""
        return self.rows * self.columns


@dataclass(frozen=True)
class ModelLayout:
    """The decoder layer of a model family: which linear layers, norms and biases it has."""

    norms: int = 2  # per layer, each of the hidden size
    norm_bias: bool = False
    qk_norm: QkNorm = "none"
    fused: bool = False  # one qkv and one gate_up matrix
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    activation_saves: int = 2  # tensors of the MLP's width that the activation function keeps for the backward pass
    # Keys of config.json that turn biases on.
    bias_key: str | None = None
    mlp_bias_key: str | None = None


# model_type -> layout; from transformers/models/<type>/modeling_<type>.py.
LAYOUTS: dict[str, ModelLayout] = {
    "llama": ModelLayout(bias_key="attention_bias", mlp_bias_key="mlp_bias"),
    "mistral": ModelLayout(),
    "ministral": ModelLayout(),
    "qwen2": ModelLayout(qkv_bias=True),
    "qwen3": ModelLayout(qk_norm="head", bias_key="attention_bias"),
    "gemma": ModelLayout(),
    "gemma2": ModelLayout(norms=4),
    "gemma3_text": ModelLayout(norms=4, qk_norm="head"),
    "phi3": ModelLayout(fused=True),
    # NewGELUActivation is written in tensor operations: autograd keeps x, x·0.5, 1+tanh and tanh.
    "phi": ModelLayout(
        norms=1,
        norm_bias=True,
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
        activation_saves=4,
    ),
    "olmo2": ModelLayout(qk_norm="full"),
    "granite": ModelLayout(bias_key="attention_bias", mlp_bias_key="mlp_bias"),
    "smollm3": ModelLayout(bias_key="attention_bias", mlp_bias_key="mlp_bias"),
    "stablelm": ModelLayout(norm_bias=True, bias_key="use_qkv_bias"),
}
_OUTPUT_BIAS_FOLLOWS = ("llama", "qwen3", "granite", "smollm3")  # o_proj has a bias when q, k and v have one


@dataclass(frozen=True)
class Architecture:
    """Dimensions of a decoder-only language model.

    Attributes:
        model_type: of ``config.json``; it chooses the layout.
        hidden: size of the hidden states.
        layers: decoder layers.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: size of a head.
        intermediate: size of the MLP's inner states.
        vocabulary: rows of the embedding.
        tied: whether input embedding and LM head are one matrix.
        layout: of a decoder layer.
        softcap: attention scores are soft-capped, which needs eager attention (Gemma 2).
        source: where the dimensions were read, for messages.
        guessed: the model type is unknown and is counted like a Llama.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    layout: ModelLayout
    softcap: bool = False
    source: str = ""
    guessed: bool = False

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.kv_heads * self.head_dim

    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one decoder layer: those that NF4 packs and that LoRA's "all-linear" adapts."""
        layout, hidden, wide = self.layout, self.hidden, self.intermediate
        attention: tuple[Linear, ...]
        if layout.fused:
            attention = (Linear("qkv_proj", self.query_width + 2 * self.key_width, hidden, layout.qkv_bias),)
        else:
            attention = (
                Linear("q_proj", self.query_width, hidden, layout.qkv_bias),
                Linear("k_proj", self.key_width, hidden, layout.qkv_bias),
                Linear("v_proj", self.key_width, hidden, layout.qkv_bias),
            )
        output = "dense" if self.model_type == "phi" else "o_proj"
        attention = (*attention, Linear(output, hidden, self.query_width, layout.output_bias))
        if not layout.gated:
            return (
                *attention,
                Linear("fc1", wide, hidden, layout.mlp_bias),
                Linear("fc2", hidden, wide, layout.mlp_bias),
            )
        up: tuple[Linear, ...] = (Linear("gate_up_proj", 2 * wide, hidden, layout.mlp_bias),)
        if not layout.fused:
            up = (Linear("gate_proj", wide, hidden, layout.mlp_bias), Linear("up_proj", wide, hidden, layout.mlp_bias))
        return (*attention, *up, Linear("down_proj", hidden, wide, layout.mlp_bias))

    @property
    def linear_weights(self) -> int:
        """Elements of all decoder layers' weight matrices."""
        return self.layers * sum(linear.weights for linear in self.linears())

    @property
    def embedding_weights(self) -> int:
        """Elements of the input embedding, and of the LM head where it is not the same matrix."""
        matrices = 1 if self.tied else 2
        return matrices * self.vocabulary * self.hidden + (self.vocabulary if self.layout.head_bias else 0)

    @property
    def small_weights(self) -> int:
        """Elements of all norms and biases, which NF4 leaves in 16 bit."""
        per_norm = self.hidden * (2 if self.layout.norm_bias else 1)
        biases = sum(linear.rows for linear in self.linears() if linear.bias)
        qk = {"none": 0, "head": 2 * self.head_dim, "full": self.query_width + self.key_width}[self.layout.qk_norm]
        return self.layers * (self.layout.norms * per_norm + biases + qk) + per_norm

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear_weights + self.embedding_weights + self.small_weights


def from_config(config: Mapping[str, Any], source: str) -> Architecture:
    """Read an architecture from the content of a ``config.json``.

    Args:
        config: the parsed file.
        source: where it came from, for messages.

    Raises:
        ConfigError: the file lacks dimensions, or describes a model that cannot be counted (mixture of experts,
            recurrent, encoder-decoder).
    """
    text = config.get("text_config")
    if isinstance(text, Mapping) and "hidden_size" in text:
        config = {
            **text,
            "tie_word_embeddings": text.get("tie_word_embeddings", config.get("tie_word_embeddings", True)),
        }
    model_type = str(config.get("model_type", "unknown"))
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if config.get(key):
            raise ConfigError(
                f"{source}: a mixture of experts ({model_type}); the estimate counts dense models only",
                hint="`estimate --probe` measures one real step on a GPU instead",
            )

    def positive_integer(key: str, default: int | None = None) -> int:
        value = config.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ConfigError(
                f"{source}: no usable {key} in the model's config.json (model type {model_type!r})",
                hint="the estimate needs a decoder-only language model's config.json",
            )
        return value

    hidden, heads = positive_integer("hidden_size"), positive_integer("num_attention_heads")
    layout = LAYOUTS.get(model_type)
    known = layout is not None
    layout = _with_biases(layout or LAYOUTS["llama"], model_type, config)
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        layers=positive_integer("num_hidden_layers"),
        heads=heads,
        kv_heads=positive_integer("num_key_value_heads", heads),
        head_dim=positive_integer("head_dim", max(1, hidden // heads)),
        intermediate=positive_integer("intermediate_size"),
        vocabulary=positive_integer("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", model_type.startswith("gemma"))),
        layout=layout,
        softcap=model_type == "gemma2" and config.get("attn_logit_softcapping", 50.0) is not None,
        source=source,
        guessed=not known,
    )


def _with_biases(layout: ModelLayout, model_type: str, config: Mapping[str, Any]) -> ModelLayout:
    if layout.bias_key is not None and config.get(layout.bias_key):
        layout = replace(layout, qkv_bias=True, output_bias=model_type in _OUTPUT_BIAS_FOLLOWS)
    if layout.mlp_bias_key is not None and config.get(layout.mlp_bias_key):
        layout = replace(layout, mlp_bias=True)
    return layout
