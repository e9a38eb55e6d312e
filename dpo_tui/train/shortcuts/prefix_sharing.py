"""Prefix sharing: the prompt of a pair is computed once, not once for each answer (arXiv 2410.20305).

TRL passes ``[2B, L]`` rows to the backbone, chosen half first. The wrapped ``forward`` of the backbone packs each pair
as prompt + chosen + rejected in one row, gives the rejected answer the positions that follow the prompt, masks the
chosen answer from it, and gathers the last hidden states back into ``[2B, L]``; TRL's losses need no change. Router
logits of a mixture of experts are gathered in the same way, so its load-balancing loss counts every token of a prompt
twice, as in TRL. A batch that packing would not make cheaper, that is not made of right-padded pairs, or that has a
larger pair than were checked, passes through unchanged.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers.pytorch_utils import Conv1D

from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.varlen_attention import Sequences
from dpo_tui.train.shortcuts.check_budget import PairSize
from dpo_tui.train.shortcuts.pair_layout import LayoutCost, PairLayout, PairLengths, measure_pairs, plan_layout

# What TRL passes to a text model; a call with anything else (images, caches) passes through unchanged.
_KNOWN_ARGUMENTS = {"input_ids", "attention_mask", "use_cache", "output_router_logits"}
UNLIMITED = PairSize(float("inf"), float("inf"))
"""Size that covers every pair."""
# Softmax and memory traffic make a multiplication in masked attention dearer than one in a linear layer: 1.4 times on
# an AVX2 processor (SmolLM2-135M, rows of 349 tokens: 34 against 49 GFLOP/s). On GPUs a guess that is not measured yet.
_ATTENTION_SURCHARGE = {"cpu": 1.5}
_ATTENTION_SURCHARGE_ELSEWHERE = 3.0
# What a model's own code raises under inputs that it does not expect. torch derives its error of a lack of memory from
# RuntimeError: that one is none of them.
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


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
        count: tokens through the backbones inside the context, those of generation left out.
        largest: size that covers the pairs that may share; a batch with a larger one passes through.
        ended: why sharing ended in mid-run, empty where it did not.
    """

    def __init__(self) -> None:
        self.enabled = True
        self.count = TokenCount()
        self.largest = UNLIMITED
        self.ended = ""
        self._depth = 0
        self._checking = False
        # Input ids, mask, pairs of the latest batch, as policy and reference are called with the same tensors; and its
        # layout with the size that was covered when it was planned, and the attention that it was planned for.
        self._latest: tuple[torch.Tensor, torch.Tensor, list[PairLengths] | None] | None = None
        self._planned: tuple[tuple[PairSize, str], PairLayout | None] | None = None

    def install(self, model: Any, max_length: int | None = None) -> None:
        """Wrap the backbone's ``forward`` of a causal language model.

        Args:
            model: without its adapter's wrapper.
            max_length: longest sequence, in tokens; bounds the memory of attention where scores are materialised.
        """
        backbone = backbone_of(model)
        plain_forward = backbone.forward
        # By attention implementation, which may change while the fastest is chosen (attention_choice).
        costs = {model.config._attn_implementation: layout_cost(model, backbone)}

        def forward(*args: Any, **kwargs: Any) -> Any:
            attention = model.config._attn_implementation
            if attention not in costs:
                costs[attention] = layout_cost(model, backbone)
            # SDPA's kernels on CPU and CUDA materialise no scores, and their memory falls with the tokens that sharing
            # saves; attention for variable lengths has no mask at all. Eager attention materialises its scores, and
            # torch builds a block mask from a mask of every query and key.
            frugal = attention == varlen_attention.NAME or (
                attention == "sdpa" and model.device.type in ("cpu", "cuda")
            )
            longest = None if frugal else max_length
            shares = not args and self.enabled and self._depth
            layout = self._layout_of(kwargs, attention, costs[attention], longest) if shares else None
            outputs = None if layout is None else self._packed_outputs(plain_forward, kwargs, layout, model)
            if layout is None or outputs is None:
                self._count(kwargs, None)
                return plain_forward(*args, **kwargs)
            self._count(kwargs, layout)
            return unpack_outputs(outputs, layout)

        # Whoever asks which arguments the backbone takes, as sharing_obstacle does, still sees its own.
        forward.__signature__ = inspect.signature(plain_forward)  # type: ignore[attr-defined]
        backbone.forward = forward

    def reset(self) -> None:
        """Set the count to zero."""
        self.count = TokenCount()

    def end(self, why: str) -> None:
        """Share nothing from here on; tokens are counted on, so that the count tells what the whole run saved."""
        self.enabled, self.ended = False, why

    def larger_pairs(self, input_ids_NL: torch.Tensor, attention_mask_NL: torch.Tensor) -> list[tuple[int, PairSize]]:
        """Return index and size of each pair of a batch that is larger than those that may share; none in a check."""
        if self._checking:
            return []
        sizes = [size_of(pair) for pair in self._measured(input_ids_NL, attention_mask_NL) or []]
        return [(index, size) for index, size in enumerate(sizes) if not self.largest.covers(size)]

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Share pairs of every size, count nothing, and let the model's errors through, as a check needs it."""
        counted, self._checking = self.count, True
        self.count = TokenCount()
        try:
            with self:
                yield
        finally:
            self.count, self._checking = counted, False

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._latest = self._planned = None

    def _layout_of(
        self, kwargs: dict[str, Any], attention: str, cost: LayoutCost, max_length: int | None
    ) -> PairLayout | None:
        """Return the layout for a call of the backbone, None where the call is to pass through."""
        given = {name for name, value in kwargs.items() if value is not None}
        if not {"input_ids", "attention_mask"} <= given <= _KNOWN_ARGUMENTS or kwargs.get("use_cache"):
            return None
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        if mask.shape != ids.shape:
            return None
        pairs = self._measured(ids, mask)
        largest = UNLIMITED if self._checking else self.largest
        if self._planned is None or self._planned[0] != (largest, attention):
            shared = bool(pairs) and all(largest.covers(size_of(pair)) for pair in pairs or [])
            layout = plan_layout(pairs, ids.shape[1], cost, max_length) if pairs and shared else None
            self._planned = ((largest, attention), layout.to(ids.device) if layout else None)
        return self._planned[1]

    def _measured(self, ids: torch.Tensor, mask: torch.Tensor) -> list[PairLengths] | None:
        if self._latest is None or self._latest[0] is not ids or self._latest[1] is not mask:
            self._latest, self._planned = (ids, mask, measure_pairs(ids, mask)), None
        return self._latest[2]

    def _packed_outputs(
        self,
        plain_forward: Callable[..., Any],
        kwargs: dict[str, Any],
        layout: PairLayout,
        model: Any,
    ) -> Any:
        """Return the backbone's outputs for the packed rows of a batch; None where the model refuses them."""
        # The model's own forward, unlike TRL's head, passes position_ids = None on.
        replaced = ("input_ids", "attention_mask", "position_ids")
        given = {name: value for name, value in kwargs.items() if name not in replaced}
        try:
            mask = packed_mask(layout, model.config._attn_implementation, backbone_of(model))
            outputs = plain_forward(
                input_ids=kwargs["input_ids"].reshape(-1)[layout.source_RT],
                attention_mask=mask,
                # Explicit: the model would count positions along the row, across answers and pairs.
                position_ids=layout.positions_RT,
                **(given | {"use_cache": False}),
            )
            varlen_attention.require_every_layer(mask, model.config.num_hidden_layers)
            return outputs
        except REFUSALS as error:
            refusal = refusal_of(error)
            if self._checking or refusal is None:
                raise
            # A check saw shorter rows: a table of the model may end at fewer tokens than a packed row has.
            self.end(refusal)
            return None

    def _count(self, kwargs: dict[str, Any], layout: PairLayout | None) -> None:
        ids = kwargs.get("input_ids")
        if not (self.enabled or self.ended) or not self._depth or ids is None or kwargs.get("use_cache"):
            return
        self.count.plain += ids.numel()
        self.count.computed += layout.source_RT.numel() if layout else ids.numel()


def size_of(pair: PairLengths) -> PairSize:
    """Return the size of a pair."""
    return PairSize(pair.prompt + max(pair.chosen, pair.rejected), pair.packed)


def refusal_of(error: Exception) -> str | None:
    """Return an error of a model's own code under packed inputs as a clause; None for one that has another cause."""
    if not isinstance(error, REFUSALS) or isinstance(error, torch.OutOfMemoryError):
        return None
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"the model refuses it: {type(error).__name__}: {first_line[:200]}"


def unpack_outputs(outputs: Any, layout: PairLayout) -> Any:
    """Gather the outputs of packed rows into the rows of the batch, in place.

    Args:
        outputs: of the backbone, with ``last_hidden_state`` ``[R, T, D]``; ``router_logits``, where there are any,
            has a tensor ``[R * T, E]`` or ``[R, T, E]`` a layer, over ``E`` experts.
        layout: of the packed rows.

    Returns:
        ``outputs`` with ``[N, L, D]``, and ``[N * L, E]`` or ``[N, L, E]``.

    Raises:
        ValueError: router logits have another shape.
    """
    # Gradient checkpointing recomputes layers, not this gather, so the result is the same with it. At padding both
    # have the values of the first packed token, which masks keep out of every loss.
    states_RTD = outputs.last_hidden_state
    outputs.last_hidden_state = states_RTD.reshape(-1, states_RTD.shape[-1])[layout.target_NL]
    if router_logits := getattr(outputs, "router_logits", None):
        outputs.router_logits = tuple(
            None if logits is None else _unpack_router(logits, layout) for logits in router_logits
        )
    return outputs


def _unpack_router(logits: torch.Tensor, layout: PairLayout) -> torch.Tensor:
    rows, length = layout.source_RT.shape
    if logits.shape[:-1] == (rows * length,):
        return logits[layout.target_NL.reshape(-1)]
    if logits.shape[:-1] == (rows, length):
        return logits.reshape(rows * length, -1)[layout.target_NL]
    raise ValueError(f"router logits of the shape {tuple(logits.shape)} for {rows} rows of {length} tokens")


def backbone_of(model: Any) -> Any:
    """Return the part of a causal language model below its LM head (transformers' ``base_model``)."""
    return model.base_model


def layout_cost(model: Any, backbone: Any) -> LayoutCost:
    """Count the multiplications of a forward pass from the shapes of a model's layers."""
    linear = 0
    for module in backbone.modules():
        # A LoRA layer has the shape of the layer that it wraps, which is counted by itself.
        if hasattr(module, "in_features") and hasattr(module, "out_features") and not hasattr(module, "base_layer"):
            linear += module.in_features * module.out_features
        elif isinstance(module, Conv1D):  # GPT-2's
            linear += module.weight.numel()
    config = model.config
    if config._attn_implementation in ("flex_attention", varlen_attention.NAME):
        # Blocks that no query attends to are skipped, or there is no mask, and no layout lets a token attend to more
        # than its own sequence. So attention counts against no layout; only padding does.
        return LayoutCost(token=linear, attention=0.0)
    # Of a wrapper, such as Gemma 3's, the language model's.
    config = config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    surcharge = _ATTENTION_SURCHARGE.get(model.device.type, _ATTENTION_SURCHARGE_ELSEWHERE)
    # Two products a layer: queries with keys, and attention weights with values.
    return LayoutCost(token=linear, attention=surcharge * 2 * width * config.num_hidden_layers)


def packed_mask(layout: PairLayout, attention: str, backbone: Any) -> torch.Tensor | BlockMask:
    """Return the attention mask of packed rows in the form that an attention implementation takes.

    Args:
        layout: of the batch.
        attention: ``sdpa``, ``eager``, ``flex_attention`` or ``varlen``.
        backbone: whose embedding names the dtype of an additive mask; used for ``eager`` only.

    Returns:
        A block mask for FlexAttention, sequences in a mask's place for attention for variable lengths; ``[R, 1, T, T]``
        boolean for SDPA, additive for eager attention.
    """
    if attention == varlen_attention.NAME:
        return answer_sequences(layout).as_mask()
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


def answer_sequences(layout: PairLayout) -> Sequences:
    """Return what each token of packed rows attends to, as sequences: two of each pair.

    One has the prompt and the chosen answer, which stand side by side. The queries of the other are the rejected
    answer, its keys those of the prompt and its own.

    Raises:
        ValueError: the rows have padding, which is in no sequence.
    """
    queries, keys, index = [], [], []
    for start, pair in layout.placed:
        first = pair.prompt + pair.chosen
        # A pair has at least one of them, as no row of the batch is empty.
        if first:
            queries.append(first)
            keys.append(first)
            index.append(torch.arange(start, start + first))
        if pair.rejected:
            queries.append(pair.rejected)
            keys.append(pair.prompt + pair.rejected)
            index += [torch.arange(start, start + pair.prompt), torch.arange(start + first, start + pair.packed)]
    if sum(queries) != layout.source_RT.numel():
        raise ValueError("packed rows with padding, which attention for variable lengths has no place for")
    return Sequences.of(queries, keys, torch.cat(index), layout.source_RT.device)
