"""Bytes of activations: what autograd keeps of a decoder layer, and temporary tensors of a step.

Every term names the tensor that it counts. The terms were read from transformers 5.23 (``modeling_llama.py`` and its
relatives, ``integrations/sdpa_attention.py``), peft 0.21 (``tuners/lora/layer.py``, ``bnb.py``), trl 1.16
(``kernels/chunked_logprob.py``) and torch 2.13 (autocast), and are compared with the tensors that autograd
really saves in ``tests/hardware/memory/test_activations.py``.
"""

from dataclasses import dataclass
from typing import Literal

from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.matrices import Linear

FP32 = 4
# trl/kernels/chunked_logprob.py: logits exist only as one tile of tokens × vocabulary entries at a time.
HEAD_TILE_TOKENS = 4096
HEAD_TILE_VOCABULARY = 32768

Attention = Literal["sdpa", "eager", "flash"]


@dataclass(frozen=True)
class Workload:
    """One forward and backward pass.

    Attributes:
        rows: sequences in the batch; DPO stacks chosen and rejected, so twice the pairs.
        length: tokens per row, padding included.
        width: bytes of a number in matrix products: 2 under bf16 or fp16, else 4.
        rank: of the adapter; 0 trains all weights.
        adapted: names of the linear layers that carry an adapter.
        adapter_width: bytes of an adapter weight.
        dropout: whether the adapter's dropout is active.
        attention: the attention implementation.
        packed: frozen weights are NF4, and are unpacked for each product.
    """

    rows: int
    length: int
    width: int = 2
    rank: int = 16
    adapted: frozenset[str] = frozenset()
    adapter_width: int = 2
    dropout: bool = False
    attention: Attention = "sdpa"
    packed: bool = False

    @property
    def tokens(self) -> int:
        """Positions in the batch."""
        return self.rows * self.length

    @property
    def trains_all(self) -> bool:
        """Whether the weights themselves are trained, without an adapter."""
        return self.rank == 0

    @property
    def stream(self) -> int:
        """Bytes of a number in the residual stream: the weights' own width, so 4 when they are trained in fp32."""
        return FP32 if self.trains_all else self.width


def saved_by_layer(arch: Architecture, work: Workload) -> int:
    """Bytes that autograd keeps of one layer until its backward pass."""
    scores = _per_score(arch, work) * work.rows * work.length**2
    return work.tokens * _per_token(arch, work) + scores + adapted_experts(arch, work)


def adapted_experts(arch: Architecture, work: Workload) -> int:
    """Bytes of one layer's experts with their adapters added, which PEFT computes anew in every forward pass."""
    if work.trains_all:
        return 0
    adapted = [one for one in arch.linears() if one.form == "experts" and one.name in work.adapted]
    return sum(linear.weights for linear in adapted) * work.width


def layer_boundary(arch: Architecture, work: Workload) -> int:
    """Bytes of the hidden states between two layers: with checkpointing, all that is kept of a layer."""
    return work.tokens * arch.hidden * work.stream


def outside_layers(arch: Architecture, work: Workload) -> int:
    """Bytes that autograd keeps outside the layers: last hidden state, final norm, rotary tables, mask, token ids."""
    final_norm = work.tokens * arch.hidden * (FP32 + work.stream)
    rotary = 2 * work.length * arch.head_dim * work.stream
    mask = work.rows * work.length**2 if work.attention != "flash" else 0  # booleans, one byte each
    ids = 4 * work.tokens * 8  # input_ids, labels, attention_mask, completion_mask as int64
    return final_norm + rotary + mask + ids


def backward_extra(arch: Architecture, work: Workload) -> int:
    """Bytes beside a layer's saved tensors at the peak of its backward pass, which is at the down projection.

    These are the gradient of the layer's output, and the gradient of the projection's input once for the frozen path
    and once for the adapter's (an fp32 adapter has its own as bf16 and as fp32); plus one unpacked weight matrix where
    weights are packed.
    """
    gradient_out = work.tokens * arch.hidden * work.stream
    paths = 1 if work.trains_all else 2 + 2 * (work.adapter_width > work.width)
    gradient_in = work.tokens * arch.intermediate * work.width * paths
    # The gradient of experts with their adapters has the size of all experts, whichever a token passes through.
    return gradient_out + gradient_in + unpacked_weight(arch, work) + adapted_experts(arch, work)


def forward_extra(arch: Architecture, work: Workload) -> int:
    """Bytes of a layer's forward pass without gradients (reference, evaluation), most of them the MLP's tensors."""
    wide = (3 if arch.layout.gated else 2) * work.tokens * arch.intermediate * work.width
    stream = work.tokens * arch.hidden * (2 * work.stream + FP32)
    scores = _per_score(arch, work) * work.rows * work.length**2
    return wide + stream + scores + unpacked_weight(arch, work)


def unpacked_weight(arch: Architecture, work: Workload) -> int:
    """Bytes of the largest weight matrix in computing precision: bitsandbytes unpacks NF4 for each large product."""
    if not work.packed:
        return 0
    return max((one.weights for one in arch.linears() if one.form == "linear"), default=0) * work.width


def head_forward(arch: Architecture, work: Workload) -> int:
    """Bytes of TRL 1.16's fused LM head in the forward pass: the scored hidden states and one tile of logits.

    Worst case: every position is scored, as if prompts were empty.
    """
    scored = work.tokens * arch.hidden * work.width
    statistics = 8 * work.tokens * FP32
    return scored + statistics + _logits_tile(work)


def head_backward(arch: Architecture, work: Workload, *, head_trained: bool) -> int:
    """Bytes of the fused LM head's backward pass: what the forward pass saved, one tile, and fp32 gradients."""
    gradient = work.tokens * arch.hidden * (FP32 + work.width)
    weight = arch.vocabulary * arch.hidden * (FP32 + FP32) if head_trained else 0
    return head_forward(arch, work) + gradient + weight


def _logits_tile(work: Workload) -> int:
    return min(work.tokens, HEAD_TILE_TOKENS) * HEAD_TILE_VOCABULARY * work.width


def _per_token(arch: Architecture, work: Workload) -> int:
    """Bytes a token that autograd keeps of a layer, attention scores left out."""
    hidden, query, key, wide = arch.hidden, arch.query_width, arch.key_width, arch.intermediate
    width = work.width
    # Norms compute in fp32 and keep their input so; trained norm weights keep the normalised input as well.
    qk = {"none": 0, "head": query + key, "full": query + key}[arch.layout.qk_norm]
    normed = arch.layout.norms * hidden + qk
    total = FP32 * normed + (work.stream * normed if work.trains_all else 0)
    # Attention keeps q, k, v, its output and, per head, the log of the normaliser. With a mask SDPA cannot group heads,
    # so k and v are copied for every query head, but for a single key head, which is only expanded. Eager attention
    # keeps the scores instead, see _per_score.
    grouped = key if work.attention == "flash" or arch.kv_heads == 1 else query
    total += width * (2 * query + 2 * grouped) + FP32 * arch.heads
    if arch.layout.fused_qkv and arch.heads == arch.kv_heads:
        total += width * (query + key)  # v is a view, and keeps the whole of qkv alive
    # The MLP keeps the activation function's input, the product's two factors; an ungated one its inner values.
    total += width * wide * (arch.layout.activation_saves + (1 if arch.layout.gated else 0))
    # What experts answer is kept, for the gradient of the weights by which it is added up.
    answers = [one for one in arch.linears() if one.form == "experts" and one.reads == "product"]
    total += width * sum(one.rows * one.active for one in answers)
    return total + _linear_inputs(arch, work)


def _linear_inputs(arch: Architecture, work: Workload) -> int:
    """Bytes a token of the inputs that linear layers keep for weight gradients, and of the adapters' inner values."""
    width, total = work.width, 0
    trained = [linear for linear in arch.linears() if work.trains_all or linear.name in work.adapted]
    has_own_copy = not work.trains_all and (work.dropout or work.adapter_width > work.width)
    seen: set[str] = set()
    for linear in trained:
        if linear.form == "experts":
            total += width * linear.columns * linear.active  # tokens are gathered for each expert
            continue
        size = width * linear.columns
        if work.dropout:
            size += linear.columns  # the mask of torch's fused dropout: one byte each
        source = _source(linear)
        # Layers that read the same tensor keep it once, and o_proj's input is attention's output, kept already —
        # unless each layer makes its own copy, through dropout or a cast (autocast keeps casts of weights only).
        cast = work.trains_all and work.stream > work.width and source in ("attention input", "mlp input")
        if has_own_copy or cast or (source not in seen and linear.reads != "attention"):
            total += size
        seen.add(source)
        total += width * work.rank
    return total


def _source(linear: Linear) -> str:
    """Name of the tensor that a linear layer reads."""
    return linear.name if linear.reads == "other" else linear.reads


def _per_score(arch: Architecture, work: Workload) -> int:
    """Bytes kept per row and pair of positions."""
    if work.attention == "flash":
        return 0
    if work.attention == "sdpa":
        return work.width  # the boolean mask as numbers, which every layer makes for itself
    softcap = work.width if arch.softcap else 0
    return arch.heads * (FP32 + work.width + softcap)  # softmax in fp32, its cast, the cap's tanh
