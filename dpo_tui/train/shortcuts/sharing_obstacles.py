"""Why a model cannot share prompts, as far as its config and its modules say so.

What they do not say, the equivalence check finds (:mod:`dpo_tui.train.shortcuts.equivalence_check`).
"""

import inspect
from typing import Any

from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.dropout_rates import module_rates
from dpo_tui.train.shortcuts.prefix_sharing import backbone_of

# Attention implementations to which transformers (masking_utils) passes a four-dimensional mask unchanged.
_MASKABLE = {"eager", "sdpa", "flex_attention"}


def sharing_obstacle(model: Any, max_length: int, attention: str | None = None) -> str | None:
    """Return why a model cannot share prompts, as a clause for a message; None where nothing is known against it.

    Args:
        model: a causal language model without its adapter's wrapper.
        max_length: longest sequence, in tokens.
        attention: the implementation that would compute it; None for the model's own.
    """
    config = model.config
    attention = attention or config._attn_implementation
    by_sequences = attention == varlen_attention.NAME
    if config.get_text_config() is not config or config.is_encoder_decoder:
        return "the model is not a plain text model"
    if by_sequences and (obstacle := varlen_attention.model_obstacle(model)):
        return obstacle
    if not by_sequences and attention not in _MASKABLE:
        return f"{attention} takes no mask of its own; sdpa, eager and flex_attention do"
    if getattr(model, "_is_stateful", False):
        return "the model is recurrent"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"the model has layers of the kind {odd[0]}"
    # A mask of four dimensions takes the place of the model's own, the window included: a packed row would see further
    # than TRL's. A window that no row exceeds makes no difference. Attention for variable lengths takes a window.
    window = _window(config, kinds, sliding=not by_sequences)
    if window is not None and window < max_length:
        return f"the model's attention slides over {window:,} tokens, max_seq_length is {max_length:,}"
    local = _local_window(config)
    # It counts along the row, where a rejected answer stands behind the chosen one: up to twice the longest sequence.
    if local is not None and local < 2 * max_length:
        return f"the model's local layers see {local:,} tokens of a row, max_seq_length is {max_length:,}"
    if "position_ids" not in inspect.signature(backbone_of(model).forward).parameters:
        return "the model takes no positions"
    if rates := module_rates(model):
        name = rates[0].name if rates[0].name != "p" else "a rate"
        return f"dropout is on: a shared prompt would draw it once for both answers ({name} = {rates[0].value:g})"
    return None


def _window(config: Any, kinds: set[str], *, sliding: bool) -> int | None:
    """Return the width of the narrowest attention window that is in use, with those that slide or without."""
    chunk = getattr(config, "attention_chunk_size", None)
    slid = getattr(config, "sliding_window", None) if sliding else None
    if getattr(config, "layer_types", None) is not None and "sliding_attention" not in kinds:
        slid = None
    return min((width for width in (chunk, slid) if width), default=None)


def _local_window(config: Any) -> int | None:
    """Return the width of GPT-Neo's local layers, whose own code masks what lies further back in a row."""
    layers = getattr(config, "attention_layers", None) or []
    return getattr(config, "window_size", None) if "local" in layers else None
