"""Prefix sharing: the prompt of a pair is computed once, not once for each answer (arXiv 2410.20305).

TRL passes ``[2B, L]`` rows to the backbone, chosen half first. The wrapped ``forward`` of the backbone packs each pair
as prompt + chosen + rejected in one row, gives the rejected answer the positions that follow the prompt, masks the
chosen answer from it, and gathers the last hidden states back into ``[2B, L]``; TRL's losses need no change. A batch
that packing would not make cheaper, or that is not made of right-padded pairs, passes through unchanged.
"""

import inspect
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from dpo_tui.train.shortcuts.pair_layout import LayoutCost, PairLayout, measure_pairs, plan_layout

# Attention implementations to which transformers (masking_utils) passes a four-dimensional mask unchanged.
_MASKABLE = {"eager", "sdpa", "flex_attention"}
# What TRL passes to a text model; a call with anything else (images, router logits, caches) passes through unchanged.
_KNOWN_ARGUMENTS = {"input_ids", "attention_mask", "use_cache"}
# Softmax and memory traffic make a multiplication in masked attention dearer than one in a linear layer: 1.4 times on
# an AVX2 processor (SmolLM2-135M, rows of 349 tokens: 34 against 49 GFLOP/s). On GPUs a guess that is not measured yet.
_ATTENTION_SURCHARGE = {"cpu": 1.5}
_ATTENTION_SURCHARGE_ELSEWHERE = 3.0


@dataclass
class TokenCount:
    """Tokens that a part of the model computed, padding included.

    Attributes:
        plain: as many as plain TRL would have computed.
        computed: as many as were computed.
    """

    plain: int = 0
    computed: int = 0

    @property
    def saved(self) -> float:
        """Share of the tokens that was not computed, 0 to 1."""
        return 1 - self.computed / self.plain if self.plain else 0.0


class PrefixSharing:
    """Context manager within which the backbones it is installed in share prompts, as long as it is enabled.

    Attributes:
        enabled: whether prompts are shared inside the context.
        count: tokens through the backbones inside the context.
    """

    def __init__(self) -> None:
        self.enabled = True
        self.count = TokenCount()
        self._depth = 0
        # Input ids, mask and layout of the latest batch: policy and reference are called with the same tensors.
        self._latest: tuple[torch.Tensor, torch.Tensor, PairLayout | None] | None = None

    def install(self, model: Any, max_length: int | None = None) -> None:
        """Wrap the backbone's ``forward`` of a causal language model.

        Args:
            model: without its adapter's wrapper.
            max_length: longest sequence, in tokens; bounds the memory of attention where scores are materialised.
        """
        backbone = backbone_of(model)
        cost, plain_forward = layout_cost(model, backbone), backbone.forward
        attention = model.config._attn_implementation
        # SDPA's kernels on CPU and CUDA materialise no scores, and their memory falls with the tokens that sharing
        # saves. Eager attention does, and torch builds a block mask from a mask of every query and key.
        longest = None if attention == "sdpa" and model.device.type in ("cpu", "cuda") else max_length

        def forward(*args: Any, **kwargs: Any) -> Any:
            layout = None if args or not (self.enabled and self._depth) else self._layout_of(kwargs, cost, longest)
            if layout is None:
                return plain_forward(*args, **kwargs)
            outputs = plain_forward(
                input_ids=kwargs["input_ids"].reshape(-1)[layout.source_RT],
                attention_mask=packed_mask(layout, attention, backbone),
                # Explicit: the model would count positions along the row, across answers and pairs.
                position_ids=layout.positions_RT,
                use_cache=False,
            )
            states_RTD = outputs.last_hidden_state
            # Gradient checkpointing recomputes layers, not this gather, so the result is the same with it.
            outputs.last_hidden_state = states_RTD.reshape(-1, states_RTD.shape[-1])[layout.target_NL]
            return outputs

        # Whoever asks which arguments the backbone takes, as sharing_obstacle does, still sees its own.
        forward.__signature__ = inspect.signature(plain_forward)  # type: ignore[attr-defined]
        backbone.forward = forward

    def reset(self) -> None:
        """Set the count to zero."""
        self.count = TokenCount()

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._latest = None

    def _layout_of(self, kwargs: dict[str, Any], cost: LayoutCost, max_length: int | None) -> PairLayout | None:
        """Return the layout for a call of the backbone, None where the call is to pass through; count its tokens."""
        given = {name for name, value in kwargs.items() if value is not None}
        if not {"input_ids", "attention_mask"} <= given <= _KNOWN_ARGUMENTS or kwargs.get("use_cache"):
            return None
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        if mask.shape != ids.shape:
            return None
        if self._latest is None or self._latest[0] is not ids or self._latest[1] is not mask:
            pairs = measure_pairs(ids, mask)
            layout = plan_layout(pairs, ids.shape[1], cost, max_length) if pairs else None
            self._latest = (ids, mask, layout.to(ids.device) if layout else None)
        layout = self._latest[2]
        self.count.plain += ids.numel()
        self.count.computed += layout.source_RT.numel() if layout else ids.numel()
        return layout


def backbone_of(model: Any) -> Any:
    """Return the part of a causal language model below its LM head (transformers' ``base_model``)."""
    return model.base_model


def sharing_obstacle(model: Any, max_length: int) -> str | None:
    """Return why a model cannot share prompts, as a clause for a message; None where nothing is known against it.

    Args:
        model: a causal language model without its adapter's wrapper.
        max_length: longest sequence, in tokens.
    """
    config = model.config
    if config.get_text_config() is not config or config.is_encoder_decoder:
        return "the model is not a plain text model"
    if config._attn_implementation not in _MASKABLE:
        return f"{config._attn_implementation} takes no mask of its own; sdpa, eager and flex_attention do"
    if getattr(model, "_is_stateful", False):
        return "the model is recurrent"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"the model has layers of the kind {odd[0]}"
    window = _window(config, kinds)
    if window is not None and window < max_length:
        return f"the model's attention slides over {window:,} tokens, max_seq_length is {max_length:,}"
    if "position_ids" not in inspect.signature(backbone_of(model).forward).parameters:
        return "the model takes no positions"
    if any(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)):
        return "dropout is on: a shared prompt would draw it once for both answers"
    return None


def _window(config: Any, kinds: set[str]) -> int | None:
    """Return the width of the narrowest attention window that is in use."""
    chunk = getattr(config, "attention_chunk_size", None)
    sliding = getattr(config, "sliding_window", None)
    if getattr(config, "layer_types", None) is not None and "sliding_attention" not in kinds:
        sliding = None
    return min((width for width in (chunk, sliding) if width), default=None)


def layout_cost(model: Any, backbone: Any) -> LayoutCost:
    """Count the multiplications of a forward pass from the shapes of a model's layers."""
    linear = sum(
        module.in_features * module.out_features
        for module in backbone.modules()
        # A LoRA layer has the shape of the layer that it wraps, which is counted by itself.
        if hasattr(module, "in_features") and hasattr(module, "out_features") and not hasattr(module, "base_layer")
    )
    config = model.config
    if config._attn_implementation == "flex_attention":
        # Block-sparse: blocks that no query attends to are skipped, and no layout lets a token attend to more than its
        # own sequence. So attention counts against no layout; only padding does.
        return LayoutCost(token=linear, attention=0.0)
    heads = getattr(config, "num_attention_heads", 1)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    surcharge = _ATTENTION_SURCHARGE.get(model.device.type, _ATTENTION_SURCHARGE_ELSEWHERE)
    # Two products a layer: queries with keys, and attention weights with values.
    return LayoutCost(token=linear, attention=surcharge * 2 * width * config.num_hidden_layers)


def packed_mask(layout: PairLayout, attention: str, backbone: Any) -> torch.Tensor | BlockMask:
    """Return the attention mask of packed rows in the form that an attention implementation takes.

    Args:
        layout: of the batch.
        attention: ``sdpa``, ``eager`` or ``flex_attention``.
        backbone: whose embedding names the dtype of an additive mask; used for ``eager`` only.

    Returns:
        A block mask for FlexAttention; ``[R, 1, T, T]`` boolean for SDPA, additive for eager attention.
    """
    if attention == "flex_attention":
        rows, length = layout.source_RT.shape
        return create_block_mask(
            lambda row, attention_head, query, key: layout.may_attend(row, query, key),
            rows,
            None,
            length,
            length,
            layout.source_RT.device,
        )
    allowed = layout.attention_mask()
    if attention == "sdpa":
        return allowed
    dtype = backbone.get_input_embeddings().weight.dtype
    # The smallest finite number rather than -inf, as transformers fills its own additive masks.
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)
