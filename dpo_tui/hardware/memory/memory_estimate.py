"""Estimate of a run's peak memory, part by part, from the config and the model's dimensions alone. No torch.

Weights, adapter, gradients and optimizer follow exactly from the model's dimensions and the config. Activations follow
from what autograd keeps (:mod:`dpo_tui.hardware.memory.activations`). The CUDA context and the allocator's slack come
from :mod:`dpo_tui.hardware.memory.overheads`, and their labels say whether they were measured. All sizes are bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory import activations
from dpo_tui.hardware.memory.activations import FP32, Attention, Workload
from dpo_tui.hardware.memory.adapter import (
    adapted_matrices,
    is_vocabulary,
    loads_bitsandbytes,
    trained_weights,
    updated_weights,
)
from dpo_tui.hardware.memory.overheads import ASSUMED, overheads
from dpo_tui.hardware.memory.reference_memory import reference_label, reference_size
from dpo_tui.hardware.memory.sharded_parts import held_by_one, loaded_whole, unsharded_size, weights_held_by_one
from dpo_tui.hardware.memory.weights import held_packed, packed_while_loading, weights_label, weights_size
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm

GB = 1_000_000_000
# A CPU process with the training stack imported.
CPU_RUNTIME = 700_000_000
# Bytes of optimizer state per trained weight, by optimizer; None: two states of the weight's own width (torch's AdamW).
# bitsandbytes 8-bit: two bytes and two fp32 scales per 256. Adafactor keeps rows and columns only, see below.
_STATE: dict[str, float | None] = {
    "adamw_torch": None,
    "adamw_torch_fused": None,
    "adamw_8bit": 2 + 2 * FP32 / 256,
    "paged_adamw_8bit": 2 + 2 * FP32 / 256,
    "paged_adamw_32bit": 2 * FP32,
    "sgd": 0.0,
}

DeviceKind = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory.

    Attributes:
        key: its name in ``--json``.
        label: what it is, with the figures it follows from.
        size: bytes.
    """

    key: str
    label: str
    size: int


@dataclass(frozen=True)
class StepPhase:
    """A phase of a training step, and the bytes taken in it."""

    name: str
    size: int


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory of a run at its peak.

    Attributes:
        total: bytes.
        parts: of the peak phase; they add up to ``total``.
        phases: of a step, with the memory of each; the largest is the peak.
        notes: sentences about what the estimate does not know or assumes.
    """

    total: int
    parts: tuple[MemoryPart, ...]
    phases: tuple[StepPhase, ...]
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> StepPhase:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.size)

    def part(self, key: str) -> int:
        """Bytes of one part; 0 where the run has none."""
        return sum(part.size for part in self.parts if part.key == key)


def estimate(
    config: Config, arch: Architecture, *, device: DeviceKind = "cuda", longest: int | None = None
) -> MemoryEstimate:
    """Estimate the peak memory of a training run.

    Args:
        config: the run's settings.
        arch: the model's dimensions.
        device: "cpu" counts main memory, in fp32.
        longest: tokens of the longest real sequence, when known; else ``max_seq_length`` is assumed.
    """
    work = workload(config, arch, device=device, longest=longest)
    fixed = _fixed_parts(config, arch, work, on_gpu=device == "cuda")
    phases, peak_parts = _phase_parts(config, arch, work)
    fixed_size = sum(part.size for part in fixed)
    beside = overheads() if device == "cuda" else ASSUMED
    context = beside.cuda_context if device == "cuda" else CPU_RUNTIME
    peak_size = sum(part.size for part in peak_parts)
    # Fixed tensors are allocated once, in large blocks; activations come and go in many sizes and fragment more.
    slack = int(beside.slack_of_fixed * fixed_size + beside.slack_of_activations * peak_size)
    ends = (
        MemoryPart(
            "cuda_context" if device == "cuda" else "runtime",
            f"CUDA context ({beside.source})" if device == "cuda" else "Python and torch (assumed)",
            context,
        ),
        MemoryPart("allocator_slack", f"allocator slack ({beside.source})", slack),
    )
    parts = (*fixed, *peak_parts, *ends)
    always = fixed_size + context + slack
    return MemoryEstimate(
        total=sum(part.size for part in parts),
        parts=parts,
        phases=tuple(StepPhase(phase.name, phase.size + always) for phase in phases),
        notes=tuple(_notes(config, arch, work, longest)),
    )


def workload(config: Config, arch: Architecture, *, device: DeviceKind, longest: int | None = None) -> Workload:
    """The forward and backward pass of a config; preference training stacks chosen and rejected, so two rows a pair."""
    width = 2 if (config.bf16 or config.fp16) and device == "cuda" else FP32
    length = min(config.max_seq_length, longest) if longest else config.max_seq_length
    work = Workload(
        rows=config.per_device_train_batch_size * strategy_of(config).sequences_per_example,
        length=length,
        width=width,
        rank=config.lora_r if config.use_lora else 0,
        adapted=frozenset(linear.name for linear, _, _ in adapted_matrices(config, arch, tower=False)),
        adapter_width=adapter_width(config, arch),
        dropout=config.use_lora and config.adapter_dropout > 0,
        attention=_attention(config, arch),
        packed=packed_while_loading(config, arch) is not None,
    )
    return work if arch.quantisation is None else replace(work, packed=held_packed(arch, work))


def adapter_width(config: Config, arch: Architecture) -> int:
    """Bytes of an adapter weight: fp32 in PEFT; TRL 1.16 casts it to bf16 over weights that bitsandbytes holds."""
    return 2 if loads_bitsandbytes(config, arch) and not config.fp16 else FP32


def optimizer_size(config: Config, arch: Architecture) -> int:
    """Bytes of the optimizer's state."""
    count = updated_weights(config, arch)
    width = FP32 if not config.use_lora else adapter_width(config, arch)
    if config.optim == "adafactor":
        # transformers' Adafactor: one fp32 per row and per column of each matrix.
        if not config.use_lora:
            return FP32 * sum(many * one.stack * (one.rows + one.columns) for one, many in arch.matrices(tower=False))
        adapted = adapted_matrices(config, arch, tower=False)
        return FP32 * sum(many * (one.rows + one.columns + 2 * rank * one.stack) for one, many, rank in adapted)
    per_weight = _STATE.get(config.optim)
    return int(count * (2 * width if per_weight is None else per_weight))


def _fixed_parts(config: Config, arch: Architecture, work: Workload, *, on_gpu: bool) -> list[MemoryPart]:
    """The parts that are there in every phase: weights, adapter, gradients, optimizer, a frozen reference."""
    parts = _whole_parts(config, arch, work)
    if not config.is_sharded:
        return parts
    where = "in main memory" if config.cpu_offload and on_gpu else f"1 of {config.world_size} parts"
    divided = [
        replace(
            part,
            label=f"{part.label}, {where}",
            size=weights_held_by_one(config, arch, work, on_gpu=on_gpu)
            if part.key == "weights"
            else held_by_one(config, part.size, on_gpu=on_gpu),
        )
        for part in parts
    ]
    return [
        *divided,
        MemoryPart("unsharded", "two layers and the vocabulary, whole", unsharded_size(config, arch, work)),
    ]


def _whole_parts(config: Config, arch: Architecture, work: Workload) -> list[MemoryPart]:
    width = FP32 if work.trains_all else adapter_width(config, arch)
    trained, updated = trained_weights(config, arch), updated_weights(config, arch)
    parts = [MemoryPart("weights", weights_label(config, arch, work), weights_size(config, arch, work))]
    if not work.trains_all:
        parts.append(MemoryPart("adapter", f"adapter, {trained / 1e6:.1f} M at rank {config.lora_r}", trained * width))
    parts.append(MemoryPart("gradients", f"gradients, {width} bytes a weight", updated * width))
    if config.world_size > 1 and not config.is_sharded:
        # torch's DistributedDataParallel copies them into its buckets unless gradient_as_bucket_view is set.
        parts.append(MemoryPart("gradient_buckets", "gradients again, in DDP's buckets", updated * width))
    parts.append(MemoryPart("optimizer", f"optimizer, {config.optim}", optimizer_size(config, arch)))
    in_steps = strategy_of(config).scores_reference_in_steps(config.precompute_ref_log_probs)
    if in_steps and (size := reference_size(config, arch, work)):
        parts.append(MemoryPart("reference_model", reference_label(config), size))
    return parts


def _phase_parts(config: Config, arch: Architecture, work: Workload) -> tuple[list[StepPhase], list[MemoryPart]]:
    """The phases of a step without the fixed parts, and the parts of the phase that takes most."""
    checkpointed = config.gradient_checkpointing
    layer = activations.saved_by_layer(arch, work)
    per_layer = activations.layer_boundary(arch, work) if checkpointed else layer
    # With activation offloading the tensors of about two layers are on the GPU at a time.
    stored_layers = min(2, arch.layers) if config.activation_offloading else arch.layers
    saved = stored_layers * per_layer + activations.outside_layers(arch, work)
    casts = _weight_casts(config, arch, work)
    scored = work.tokens * arch.hidden * work.width
    head_trained = work.trains_all or any("head" in name for name in config.modules_to_save)
    recompute = layer if checkpointed else 0
    extra = activations.backward_extra(arch, work) + (casts // arch.layers if checkpointed else casts)
    head_back = activations.head_backward(arch, work, head_trained=head_trained)
    head_forward = activations.head_forward(arch, work) + casts
    phases = [
        StepPhase("backward through a layer", saved + recompute + extra),
        StepPhase("LM head, backward", saved + head_back + (0 if checkpointed else casts)),
        StepPhase("LM head, forward", saved + head_forward),
    ]
    if strategy_of(config).scores_reference_in_steps(config.precompute_ref_log_probs):
        temporary = max(activations.forward_extra(arch, work), activations.head_forward(arch, work))
        # TRL divides a reference model as one group: in its pass all of it is gathered.
        whole = arch.parameters * work.width if work.trains_all and config.is_sharded else 0
        phases.append(StepPhase("reference pass", saved + scored + temporary + whole))
    else:
        phases += _scoring_by_another_model(config, arch, work)
    once = strategy_of(config).reference_scored_once and config.precompute_ref_log_probs == "on"
    if config.is_sharded and once:
        # The reference is scored once only while the model is whole: where it does not fit, "on" is refused in the run.
        name, size = _without_gradients(config, arch, work)
        phases.append(StepPhase(f"{name}, before the weights are divided", size + loaded_whole(config, arch, work)))
    elif config.is_sharded and work.packed:
        phases.append(StepPhase("loading, before the weights are divided", loaded_whole(config, arch, work)))
    phases.append(StepPhase(*_without_gradients(config, arch, work)))
    phases.append(StepPhase("optimizer step", _optimizer_extra(config, arch)))
    peak = max(phases, key=lambda phase: phase.size)
    batch = f"{work.rows} × {work.length} tokens"
    share = "layer inputs" if checkpointed else "all layers"
    if peak.name == "backward through a layer":
        tail = [
            MemoryPart("recompute", "one layer computed again", recompute),
            MemoryPart("backward", "its gradients" + (", one weight unpacked" if work.packed else ""), extra),
        ]
        tail.append(MemoryPart("lm_head", f"LM head tile ({head_back / GB:.2f} GB, at another moment)", 0))
    elif peak.name.startswith("LM head"):
        tail = [MemoryPart("lm_head", "LM head: tile of logits and its gradients", peak.size - saved)]
    elif peak.name == "reference pass":
        tail = [MemoryPart("reference_pass", "reference: one layer without gradients", peak.size - saved)]
    else:
        return phases, [
            MemoryPart("activations", "activations, freed before the peak", 0),
            MemoryPart("working", peak.name, peak.size),
        ]
    where = ", the rest in main memory" if config.activation_offloading else ""
    return phases, [MemoryPart("activations", f"activations of {batch}, {share}{where}", saved), *tail]


def _scoring_by_another_model(config: Config, arch: Architecture, work: Workload) -> list[StepPhase]:
    """The pass over all examples before the training by a second model, which is let go after it; none without one.

    Gradients and optimizer state, which are counted in every phase, do not exist yet.
    """
    weights = reference_size(config, arch, work) if config.ref_model or config.ref_adapter else 0
    if not weights:
        return []
    name, size = _without_gradients(config, arch, work)
    width = FP32 if work.trains_all else adapter_width(config, arch)
    buckets = 2 if config.world_size > 1 else 1
    later = buckets * updated_weights(config, arch) * width + optimizer_size(config, arch)
    return [StepPhase(f"{name} by the reference model", max(0, weights + size - later))]


def _without_gradients(config: Config, arch: Architecture, work: Workload) -> tuple[str, int]:
    """Name and bytes of the forward-only phase, which has its own batch size: evaluation or precomputation."""
    strategy = strategy_of(config)
    examples = config.per_device_eval_batch_size or config.per_device_train_batch_size
    name = "evaluation"
    if strategy.reference_scored_once and config.precompute_ref_log_probs != "off":
        examples, name = max(examples, config.precompute_ref_batch_size or 0), "precompute pass"
    rows = examples * strategy.sequences_per_example
    other = replace(work, rows=rows)
    temporary = max(activations.forward_extra(arch, other), activations.head_forward(arch, other))
    return name, temporary + activations.layer_boundary(arch, other) + activations.outside_layers(arch, other)


def _weight_casts(config: Config, arch: Architecture, work: Workload) -> int:
    """Bytes of the copies of fp32 weights in computing precision, which autocast keeps until the forward pass ends."""
    if work.width == FP32 or (work.trains_all and config.is_sharded):  # there the gathered weights are in it
        return 0
    if work.trains_all:
        return arch.linear_weights * work.width
    return trained_weights(config, arch) * work.width if adapter_width(config, arch) == FP32 else 0


def _optimizer_extra(config: Config, arch: Architecture) -> int:
    """Bytes of temporary tensors of torch's ``foreach`` AdamW, which updates all weights at once: one more state."""
    if config.optim != "adamw_torch":
        return 0
    extra = updated_weights(config, arch) * (FP32 if not config.use_lora else adapter_width(config, arch))
    return held_by_one(config, extra, on_gpu=True)


def _attention(config: Config, arch: Architecture) -> Attention:
    if config.attn_implementation.startswith("flash"):
        return "flash"
    if config.attn_implementation == "eager" or arch.softcap:  # transformers: SDPA has no soft cap
        return "eager"
    return "sdpa"


def _mixes_otherwise(arch: Architecture) -> bool:
    """Whether a layer has in place of attention something that keeps other tensors."""
    return any(one.name in ("in_proj", "in_proj_qkvz", "in_proj_qkv") for one, _ in arch.matrices(tower=False))


def _notes(config: Config, arch: Architecture, work: Workload, longest: int | None) -> list[str]:
    strategy, asked = strategy_of(config), config.model_init.get("quantization_config")
    rules: list[tuple[Callable[[], bool], str]] = [
        (lambda: arch.guessed, arch.guess),
        (
            lambda: _mixes_otherwise(arch),
            "layers without attention (state space, linear attention, convolution) are in this model; what they keep "
            "for the backward pass is a guess",
        ),
        (
            lambda: packed_while_loading(config, arch) is not None and arch.has_experts,
            "the experts are one parameter, which bitsandbytes does not pack: they stay in 16 bit",
        ),
        (
            lambda: arch.quantisation is None and bool(asked) and packed_while_loading(config, arch) is None,
            "[model_init] quantization_config names a method whose size in memory is not known here: the weights were "
            "counted in 16 bit",
        ),
        (
            lambda: arch.quantisation is not None and not arch.quantisation.known,
            "the files hold quantised weights of a kind that is not known here; they were counted in 16 bit, a guess",
        ),
        (
            lambda: arch.quantisation is not None and arch.quantisation.known and not held_packed(arch, work),
            "the files hold quantised weights, which are counted as unpacked, as for training without kernels for them",
        ),
        (
            lambda: config.use_lora and not any(adapted_matrices(config, arch)),
            "lora_target_modules name no layer of this model",
        ),
        (
            lambda: config.attn_implementation == "flex_attention",
            "FlexAttention was counted like SDPA; that it needs no more is not measured",
        ),
        (
            lambda: config.attn_implementation == "varlen",
            "attention for variable lengths was counted like SDPA; that it needs no more is not measured",
        ),
        (
            lambda: strategy.data is DataForm.PAIRS and not strategy.has_reference,
            "no reference: neither a copy of the model nor a pass of one in any step",
        ),
        (
            lambda: config.is_sharded,
            "what FSDP2 divides, and what it gathers, was computed from its description; nothing was measured on GPUs",
        ),
        (lambda: config.use_dora, "DoRA's extra activations are not counted"),
        (
            lambda: config.provider == "unsloth",
            "unsloth's own kernels usually take less; this counts the huggingface path",
        ),
        (
            lambda: work.attention == "eager",
            "attention keeps its scores (eager), which grow with the square of the length",
        ),
        (
            lambda: any(not is_vocabulary(name) for name in config.modules_to_save),
            "modules_to_save is counted for embed_tokens and lm_head only",
        ),
        (
            lambda: bool(longest) and (longest or 0) < config.max_seq_length,
            f"counted with the longest {'pair' if strategy.data is DataForm.PAIRS else 'row'} in the data, {longest} "
            f"tokens, not {config.max_seq_length}",
        ),
    ]
    return [note for applies, note in rules if applies()]
