"""Model families that GGUF can hold exactly: their settings under llama.cpp's keys, their tensors in its layout.

Layouts and defaults are those of llama.cpp (``conversion/*.py``, ``src/models/*.cpp``). What llama.cpp would compute in
another way than transformers, because it has no key for a setting, is an obstacle and refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

_GEMMA2_27B_LAYERS, _GEMMA3_27B_LAYERS = 46, 62
"""Numbers of layers by which llama.cpp knows the models whose attention is scaled by hidden size / heads."""
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class GgufFamily:
    """How one type of model is stored.

    Attributes:
        architecture: llama.cpp's name of it.
        activation: of the feed-forward layers, which llama.cpp fixes for an architecture.
        biases: layers that may have a bias; llama.cpp has no place for others.
        rotates_pairs: whether llama.cpp rotates neighbouring elements of a head, and not its two halves as transformers
            does: rows of the query and key projections are then stored in another order.
        norm_offset: added to the weights of norms; Gemma's norms multiply by 1 + weight, llama.cpp's by the weight.
        rope_types: kinds of rotary embedding that it can hold.
        sliding_every: of this many layers all but the last slide; 0 where llama.cpp knows no sliding window.
        big_layers: number of layers of the model whose attention scale is another; 0 where there is none.
    """

    architecture: str
    activation: str = "silu"
    biases: tuple[str, ...] = ()
    rotates_pairs: bool = False
    norm_offset: float = 0.0
    rope_types: tuple[str, ...] = ("default", "linear")
    sliding_every: int = 0
    big_layers: int = 0

    def obstacle(self, config: Any) -> str | None:
        """Return why a model of this family cannot be held exactly, as the end of a sentence; None where it can."""
        activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
        if activation != self.activation:
            return f"its activation is {activation}, and llama.cpp computes {self.activation}"
        for rope in _ropes(config):
            kind = rope.get("rope_type") or "default"
            if kind not in self.rope_types:
                return f"its rotary embedding is of the type {kind}"
            if rope.get("partial_rotary_factor", 1.0) != 1.0:
                return "only a part of each head is rotated"
        if self.sliding_every:
            return self._gemma_obstacle(config)
        return None

    def _gemma_obstacle(self, config: Any) -> str | None:
        layers, every = config.num_hidden_layers, self.sliding_every
        if list(config.layer_types) != [_FULL if (layer + 1) % every == 0 else _SLIDING for layer in range(layers)]:
            return f"its layers do not slide as llama.cpp's do, all but one of {every}"
        scale = config.hidden_size // config.num_attention_heads if layers == self.big_layers else config.head_dim
        if config.query_pre_attn_scalar != scale:
            return f"its attention is scaled by {config.query_pre_attn_scalar}, and llama.cpp's by {scale}"
        if getattr(config, "use_bidirectional_attention", False):
            return "its attention goes both ways"
        if not config.sliding_window or _ropes(config)[-1].get("rope_type", "default") != "default":
            return "its sliding layers have no window, or their rotary embedding is scaled"
        capped = config.attn_logit_softcapping, config.final_logit_softcapping
        if self.architecture == "gemma2":
            if None in capped:
                return "its logits are not capped, and llama.cpp's are"
            if not config.tie_word_embeddings:
                return "its output layer is not its embedding, and llama.cpp's is"
        elif capped[0] is not None:
            return "its attention's logits are capped"
        return None

    def context_length(self, config: Any) -> tuple[int, str]:
        """Return the longest context in which llama.cpp computes the same, and why it is not the model's, if not."""
        longest: int = config.max_position_embeddings
        window = getattr(config, "sliding_window", None)
        layer_types = getattr(config, "layer_types", None)
        slides = _SLIDING in layer_types if layer_types else bool(window)
        if self.sliding_every or not slides or not window or window >= longest:
            return longest, ""
        return window, (
            f"The file names {window:,} tokens of context and not {longest:,}: beyond its sliding window llama.cpp "
            "would compute another attention."
        )

    def stored(self, name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
        """Return a tensor of the model's files in the layout of llama.cpp."""
        layer = name.rpartition(".")[0].rpartition(".")[2]
        if self.norm_offset and layer.endswith("norm"):
            return tensor.float() + self.norm_offset
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(layer)
        if not self.rotates_pairs or heads is None:
            return tensor
        # [heads, half, position in the half] becomes [heads, position, half]: element i of a head and element
        # i + head_dim / 2, which are rotated together, become neighbours. Columns are as they were, so that blocks of
        # quantised values, which lie along them, do not change.
        halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
        return halves.transpose(1, 2).reshape(tensor.shape)

    def has_place(self, name: str) -> bool:
        """Whether llama.cpp reads a tensor of this name; whether it is known at all is for the map of names."""
        return not name.endswith(".bias") or name.split(".")[-2] in self.biases

    def extra_tensors(self, config: Any) -> dict[str, torch.Tensor]:
        """Return tensors that the model's files do not have, by llama.cpp's names."""
        rope = _ropes(config)[0]
        if rope.get("rope_type") != "llama3":
            return {}
        # llama.cpp divides the frequency of each pair by a factor; that of a model is in what transformers computes.
        frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        exponents = torch.arange(0, 2 * len(frequencies), 2, dtype=torch.float32) / (2 * len(frequencies))
        return {"rope_freqs.weight": (1.0 / rope["rope_theta"] ** exponents) / frequencies}

    def settings(self, config: Any) -> Iterator[tuple[str, int | float | str]]:
        """Yield llama.cpp's settings with their keys, without the architecture in front."""
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        yield "vocab_size", config.vocab_size
        yield "block_count", config.num_hidden_layers
        yield "context_length", self.context_length(config)[0]
        yield "embedding_length", config.hidden_size
        yield "feed_forward_length", config.intermediate_size
        yield "attention.head_count", config.num_attention_heads
        yield "attention.head_count_kv", config.num_key_value_heads
        yield "attention.key_length", head
        yield "attention.value_length", head
        yield "attention.layer_norm_rms_epsilon", float(config.rms_norm_eps)
        rope = _ropes(config)[0]
        yield "rope.dimension_count", head
        yield "rope.freq_base", float(rope["rope_theta"])
        if rope.get("rope_type") == "linear":
            yield "rope.scaling.type", "linear"
            yield "rope.scaling.factor", float(rope["factor"])
        if not self.sliding_every:
            return
        yield "attention.sliding_window", config.sliding_window
        if config.attn_logit_softcapping:
            yield "attn_logit_softcapping", float(config.attn_logit_softcapping)
        if config.final_logit_softcapping:
            yield "final_logit_softcapping", float(config.final_logit_softcapping)
        if self.architecture == "gemma3":
            yield "rope.freq_base_swa", float(_ropes(config)[1]["rope_theta"])


def _ropes(config: Any) -> list[dict[str, Any]]:
    """Return the settings of the rotary embedding; those of full and of sliding layers where they differ."""
    parameters = config.rope_parameters
    return [parameters[_FULL], parameters[_SLIDING]] if _FULL in parameters else [parameters]


GGUF_FAMILIES = {
    "llama": GgufFamily(
        "llama",
        rotates_pairs=True,
        biases=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        rope_types=("default", "linear", "llama3"),
    ),
    # llama.cpp stores Mistral as Llama.
    "mistral": GgufFamily("llama", rotates_pairs=True),
    "qwen2": GgufFamily("qwen2", biases=("q_proj", "k_proj", "v_proj")),
    "qwen3": GgufFamily("qwen3"),
    "gemma2": GgufFamily(
        "gemma2",
        activation="gelu_pytorch_tanh",
        norm_offset=1.0,
        sliding_every=2,
        big_layers=_GEMMA2_27B_LAYERS,
    ),
    "gemma3_text": GgufFamily(
        "gemma3",
        activation="gelu_pytorch_tanh",
        norm_offset=1.0,
        sliding_every=6,
        big_layers=_GEMMA3_27B_LAYERS,
    ),
}
"""Families by the ``model_type`` of transformers. Each is compared by tests with what transformers computes."""
