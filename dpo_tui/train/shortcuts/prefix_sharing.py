"""Prefix sharing: the prompt of a pair is computed once, not once for each answer (arXiv 2410.20305).

TRL hands the backbone ``[2B, L]`` rows, chosen half first. Between TRL and the backbone stands a forward that lays each
pair out as prompt + chosen + rejected in one row, gives the rejected answer the positions that follow the prompt, hides
chosen from rejected with a mask, and gathers the last hidden states back into ``[2B, L]``. TRL's losses never notice. A
batch that it would not make cheaper, or that is not made of right-padded pairs, goes through as it is.
"""

import inspect
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from dpo_tui.train.shortcuts.pair_layout import LayoutCost, PairLayout, lay_out, pair_lengths

# Attention code to which transformers (masking_utils) hands a mask of four dimensions on as it is.
_MASKABLE = {"eager", "sdpa", "flex_attention"}
# What TRL gives a text model; anything else (images, router logits, caches) goes through untouched.
_KNOWN_ARGUMENTS = {"input_ids", "attention_mask", "use_cache"}
# Softmax and memory traffic make a multiplication in masked attention dearer than one in a linear layer: 1.4 times on
# an AVX2 processor (SmolLM2-135M, rows of 349 tokens: 34 against 49 GFLOP/s). On GPUs a guess that is not measured yet.
_ATTENTION_SURCHARGE = {"cpu": 1.5}
_ATTENTION_SURCHARGE_ELSEWHERE = 3.0


@dataclass
class TokenCount:
    """Tokens through the backbone, padding counted.

    Attributes:
        plain: as TRL would have computed them.
        computed: that were.
    """

    plain: int = 0
    computed: int = 0

    @property
    def saved(self) -> float:
        """The part that was not computed, 0 to 1."""
        return 1 - self.computed / self.plain if self.plain else 0.0


class PrefixSharing:
    """Shares prompts in the backbones it is installed in, while it is entered (a context manager) and enabled.

    Attributes:
        enabled: whether it does anything.
        count: what it saved.
    """

    def __init__(self) -> None:
        self.enabled = True
        self.count = TokenCount()
        self._active = 0
        # The plan of the latest batch: policy and reference see the same one.
        self._planned: tuple[torch.Tensor, torch.Tensor, PairLayout | None] | None = None

    def install(self, model: Any, max_length: int | None = None) -> None:
        """Stand between a causal language model and its backbone.

        Args:
            model: without its adapter's wrapper.
            max_length: of a sequence, in tokens; bounds the memory of attention where that holds its scores.
        """
        backbone = backbone_of(model)
        work, plain_forward = _work_of(model, backbone), backbone.forward
        attention = model.config._attn_implementation
        # SDPA's kernels on CPU and CUDA hold no scores, and memory falls with the tokens that sharing saves. Eager
        # attention holds them, and torch builds a block mask from one that holds every query and key.
        longest = None if attention == "sdpa" and model.device.type in ("cpu", "cuda") else max_length

        def forward(*args: Any, **kwargs: Any) -> Any:
            layout = None if args or not (self.enabled and self._active) else self._plan(kwargs, work, longest)
            if layout is None:
                return plain_forward(*args, **kwargs)
            outputs = plain_forward(
                input_ids=kwargs["input_ids"].reshape(-1)[layout.source],
                attention_mask=_mask(layout, attention, backbone),
                position_ids=layout.positions,
                use_cache=False,
            )
            packed = outputs.last_hidden_state
            # Also under gradient checkpointing: that recomputes layers, not this.
            outputs.last_hidden_state = packed.reshape(-1, packed.shape[-1])[layout.target]
            return outputs

        forward.__signature__ = inspect.signature(plain_forward)  # type: ignore[attr-defined]
        backbone.forward = forward

    def reset(self) -> None:
        """Begin the count anew."""
        self.count = TokenCount()

    def __enter__(self) -> None:
        self._active += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active -= 1
        if not self._active:
            self._planned = None

    def _plan(self, kwargs: dict[str, Any], work: LayoutCost, max_length: int | None) -> PairLayout | None:
        given = {name for name, value in kwargs.items() if value is not None}
        if not {"input_ids", "attention_mask"} <= given <= _KNOWN_ARGUMENTS or kwargs.get("use_cache"):
            return None
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        if mask.shape != ids.shape:
            return None
        if self._planned is None or self._planned[0] is not ids or self._planned[1] is not mask:
            pairs = pair_lengths(ids, mask)
            layout = lay_out(pairs, ids.shape[1], work, max_length) if pairs else None
            self._planned = (ids, mask, layout.to(ids.device) if layout else None)
        layout = self._planned[2]
        self.count.plain += ids.numel()
        self.count.computed += layout.source.numel() if layout else ids.numel()
        return layout


def backbone_of(model: Any) -> Any:
    """Return the part of a causal language model that makes hidden states (transformers' base_model)."""
    return model.base_model


def why_not(model: Any, max_length: int) -> str | None:
    """Return what speaks against sharing for a model, as the end of a sentence; None where nothing is known to.

    Args:
        model: a causal language model without its adapter's wrapper.
        max_length: of a sequence, in tokens.
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
    found = [width for width in (chunk, sliding) if width]
    return min(found) if found else None


def _work_of(model: Any, backbone: Any) -> LayoutCost:
    """Count the multiplications of a forward pass from the model's shape."""
    linear = sum(
        module.in_features * module.out_features
        for module in backbone.modules()
        if hasattr(module, "in_features") and hasattr(module, "out_features") and not hasattr(module, "base_layer")
    )
    config = model.config
    if config._attn_implementation == "flex_attention":
        # Block-sparse: what no token sees is not computed, and no layout makes a token see more than its own row does.
        # So attention speaks against no layout, and padding alone counts.
        return LayoutCost(token=linear, attention=0.0)
    heads = getattr(config, "num_attention_heads", 1)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    surcharge = _ATTENTION_SURCHARGE.get(model.device.type, _ATTENTION_SURCHARGE_ELSEWHERE)
    # Queries with keys, and weights with values.
    return LayoutCost(token=linear, attention=surcharge * 2 * width * config.num_hidden_layers)


def _mask(layout: PairLayout, attention: str, backbone: Any) -> torch.Tensor | BlockMask:
    if attention == "flex_attention":
        rows, length = layout.source.shape
        return create_block_mask(
            lambda row, head, query, key: layout.sees(row, query, key), rows, None, length, length, layout.source.device
        )
    allowed = layout.allowed()
    if attention == "sdpa":
        return allowed
    dtype = backbone.get_input_embeddings().weight.dtype
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)
