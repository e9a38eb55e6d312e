"""Attention for variable lengths (``torch.nn.attention.varlen``) as an attention implementation of transformers.

For rows in which prompts are shared it needs no mask and no compiler: the keys and values of each sequence are gathered
from the packed tokens, those of the prompt once for each answer, and torch's FlashAttention kernel computes all
sequences in one call. Every other call, such as plain TRL's passes and generation, goes to transformers' SDPA.

A layout reaches the layers in the place of their mask, which transformers hands through unchanged where it has four
dimensions (``masking_utils``). As keyword arguments it would be lost without a word in a model that does not pass them
on. Whatever a layer asks of its attention that the kernel does not have raises ValueError, and so does a layer that is
called without the layout: the check at the start takes it for a refusal.

Dimensions in names with a suffix: ``Q`` packed tokens, ``K`` gathered keys, ``H`` heads, ``D`` of a head.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "varlen"
"""As ``attn_implementation``, in our settings and in transformers' registry."""
# FlashAttention 2, which torch's varlen_attn calls: compute capability, and sizes of a head.
CAPABILITY = (8, 0)
_LARGEST_HEAD = 256
_HEAD_MULTIPLE = 8
# No kernel of SDPA takes a mask of this type, so that a layout that gets there raises instead of masking nothing.
_LAYOUT_DTYPE = torch.int64
# What models pass on to attention besides its own arguments, and which changes nothing in it.
_WITHOUT_EFFECT = {
    "cache_position",
    "num_items_in_batch",
    "output_hidden_states",
    "output_router_logits",
    "position_embeddings",
    "position_ids",
    "return_dict",
    "use_cache",
}


@dataclass(frozen=True)
class Sequences:
    """Sequences that packed tokens attend in: each a stretch of queries, and keys of which the queries are the last.

    Attributes:
        query_starts: first query of each, and the end of the last, int32.
        key_starts: the same of the gathered keys.
        key_index_K: for every gathered key its place among the packed tokens.
        longest_query: queries of the longest.
        longest_key: keys of the longest.
        layers: layers that have attended by this object, each with its number of calls.
    """

    query_starts: torch.Tensor
    key_starts: torch.Tensor
    key_index_K: torch.Tensor
    longest_query: int
    longest_key: int
    layers: dict[int, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, queries: list[int], keys: list[int], key_index_K: torch.Tensor, device: torch.device) -> "Sequences":
        """Return sequences on a device, from their lengths and the index of their keys."""
        starts = [torch.tensor([0, *one], dtype=torch.int32).cumsum(0, dtype=torch.int32) for one in (queries, keys)]
        query_starts, key_starts, index = (one.to(device, non_blocking=True) for one in (*starts, key_index_K))
        return cls(query_starts, key_starts, index, max(queries), max(keys))

    def as_mask(self) -> torch.Tensor:
        """Return these sequences in the form in which transformers hands them to every layer: as a mask."""
        mask = torch.empty((1, 1, 1, 0), dtype=_LAYOUT_DTYPE, device=self.key_index_K.device)
        mask.sequences = self
        return mask


def register() -> None:
    """Make the implementation known to transformers, before a model gets it; doing so twice is harmless."""
    AttentionInterface.register(NAME, varlen_attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def kernel_obstacle() -> str | None:
    """Return why torch's attention for variable lengths cannot be used, as a clause; None where it can."""
    try:
        parameters = _parameters()
    except ImportError:
        return f"torch {torch.__version__} has no attention for variable lengths; 2.10 and newer have"
    if not parameters & {"window_size", "is_causal"}:
        return f"varlen_attn of torch {torch.__version__} has neither window_size nor is_causal"
    return None


def model_obstacle(model: Any) -> str | None:
    """Return why a model's attention cannot be computed by the kernel, as a clause; None where nothing is known.

    Args:
        model: a causal language model without its adapter's wrapper.
    """
    config = model.config.get_text_config()
    if not model._can_set_attn_implementation():
        return "the model has attention code of its own, beside transformers' registry"
    if cap := getattr(config, "attn_logit_softcapping", None):
        return f"the model caps attention scores softly (attn_logit_softcapping = {cap:g}), which varlen_attn cannot"
    if any(name.rpartition(".")[2] == "sinks" for name, _ in model.named_parameters()):
        return "the model has attention sinks, which varlen_attn has not"
    if not model._supports_sdpa:
        return "the model has no SDPA, which computes everything but packed rows"
    if not model._supports_flash_attn:
        return "transformers has no FlashAttention for the model, which is what varlen_attn computes"
    heads = getattr(config, "num_attention_heads", None)
    size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)
    if size and (size > _LARGEST_HEAD or size % _HEAD_MULTIPLE):
        return f"the model's heads have {size} numbers; the kernel takes multiples of 8 up to {_LARGEST_HEAD}"
    return None


def require_every_layer(mask: Any, layers: int) -> None:
    """Check after a forward pass that each layer has attended by the sequences of a mask.

    Args:
        mask: that the pass had; one without sequences is not looked at.
        layers: of the model.

    Raises:
        ValueError: one has not, and nobody knows what it attended to.
    """
    sequences = getattr(mask, "sequences", None)
    if sequences is not None and (attended := len(sequences.layers)) != layers:
        raise ValueError(f"{attended} of {layers} layers take their attention from transformers' registry")


def varlen_attention_forward(  # noqa: PLR0917 - as transformers calls it
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as an implementation of transformers' registry does.

    Args:
        module: the attention layer.
        query: ``[rows, heads, tokens, D]``.
        key: the same with key heads, of which there may be fewer.
        value: as ``key``.
        attention_mask: from :meth:`Sequences.as_mask`; any other goes to SDPA with everything else.
        dropout: rate of dropout on attention weights.
        scaling: of the scores; None for D to the power of -1/2.
        sliding_window: keys that a query sees, itself counted.
        is_causal: overrides the layer's own.
        **kwargs: what else the layer passes on.

    Returns:
        ``[rows, tokens, heads, D]``, and None for the weights.

    Raises:
        ValueError: the layer wants something that the kernel does not have.
    """
    sequences: Sequences | None = getattr(attention_mask, "sequences", None)
    if sequences is None:
        if attention_mask is not None and attention_mask.dtype == _LAYOUT_DTYPE:
            raise ValueError("the model changes the mask that it is given")
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            sliding_window=sliding_window,
            **kwargs,
        )
        return attended
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    _require_expressible(causal=causal, dropout=dropout, others=kwargs)
    window = _window(module, sliding_window, sequences)
    rows, heads, tokens, size = query.shape
    if value.shape[-1] != size:
        raise ValueError(f"queries of {size} numbers a head and values of {value.shape[-1]}, which varlen_attn cannot")
    # SDPA runs in autocast's type, and so does this: rotary embeddings and norms of queries may have left fp32.
    dtype = _half(query)
    flat = [tensor.to(dtype).transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    # A prompt's keys and values stand in front of both answers' own: the gather adds up the gradients of both.
    gathered = [tensor.index_select(0, sequences.key_index_K) for tensor in flat[1:]]
    output = _kernel_call(flat[0].contiguous(), gathered[0], gathered[1], sequences, scaling=scaling, window=window)
    layer = getattr(module, "layer_idx", None)
    number = layer if isinstance(layer, int) else len(sequences.layers)
    sequences.layers[number] = sequences.layers.get(number, 0) + 1
    return output.reshape(rows, tokens, heads, size), None


def _require_expressible(*, causal: bool, dropout: float, others: dict[str, Any]) -> None:
    if not causal:
        raise ValueError("its attention is not causal")
    if dropout:
        raise ValueError(f"its attention drops weights (rate {dropout:g}), which varlen_attn cannot")
    # Everything that is unknown is refused: ignored, it would be another model.
    for name, wanted in others.items():
        if name not in _WITHOUT_EFFECT and wanted is not None and wanted is not False:
            raise ValueError(f"its attention takes {name}, which varlen_attn does not")


def _window(module: Any, given: int | None, sequences: Sequences) -> int | None:
    """Return the window of a layer's call, None where no sequence is longer.

    Raises:
        ValueError: the layer's config has another window than the call, which masks alone express in this model.
    """
    config = getattr(module, "config", None)
    expected, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    layer = getattr(module, "layer_idx", None)
    if kinds is not None and isinstance(layer, int) and layer < len(kinds) and kinds[layer] != "sliding_attention":
        expected = None
    windows = [None if one is None or one >= sequences.longest_key else one for one in (given, expected)]
    if windows[0] != windows[1]:
        raise ValueError(f"a layer slides over {expected} tokens by its config, and {given} by its call of attention")
    return windows[0]


def _half(query: torch.Tensor) -> torch.dtype:
    kind = query.device.type
    if query.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    if query.dtype == torch.float32 and kind == "cuda":
        raise ValueError("it computes in fp32, and varlen_attn in bf16 and fp16")
    return query.dtype


def _kernel_call(
    query_QHD: torch.Tensor,
    key_KHD: torch.Tensor,
    value_KHD: torch.Tensor,
    sequences: Sequences,
    *,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Call torch's varlen_attn by the arguments that this torch's has.

    Raises:
        ValueError: it lacks one that is needed.
    """
    parameters = _parameters()
    options: dict[str, Any] = {}
    # Both are aligned to the end: a sequence's last query sees its last key. A window does not count the query itself.
    if "window_size" in parameters:
        options["window_size"] = (-1 if window is None else window - 1, 0)
    elif window is None:
        options["is_causal"] = True
    else:
        raise ValueError(f"varlen_attn of torch {torch.__version__} takes no window_size; 2.11 and newer do")
    if scaling is not None and scaling != query_QHD.shape[-1] ** -0.5:
        if "scale" not in parameters:
            raise ValueError(f"varlen_attn of torch {torch.__version__} takes no scale; 2.11 and newer do")
        options["scale"] = scaling
    groups = query_QHD.shape[1] // key_KHD.shape[1]
    if groups > 1 and "enable_gqa" in parameters:
        options["enable_gqa"] = True
    elif groups > 1:
        key_KHD, value_KHD = (tensor.repeat_interleave(groups, dim=1) for tensor in (key_KHD, value_KHD))
    output: torch.Tensor = _varlen_attn()(
        query_QHD,
        key_KHD,
        value_KHD,
        sequences.query_starts,
        sequences.key_starts,
        sequences.longest_query,
        sequences.longest_key,
        **options,
    )
    return output


def _parameters() -> set[str]:
    return set(inspect.signature(_varlen_attn()).parameters)


def _varlen_attn() -> Callable[..., Any]:
    # Imported where it is needed: a torch without it trains by every other implementation.
    from torch.nn.attention import varlen

    found: Callable[..., Any] = varlen.varlen_attn
    return found
