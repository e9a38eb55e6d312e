"""Steps and tokens of a run, and an estimate of its duration with the basis of the figure."""

import math
import os
from dataclasses import dataclass

from dpo_tui.config.schema import Config
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.run_history import Measurement, nearest
from dpo_tui.strategies.registry import strategy_of

# Dense 16-bit tensor throughput in TFLOP/s, from the makers' data sheets. The first name that the GPU's name contains
# counts, so longer names come before their parts.
_PEAK_TFLOPS = (
    ("B200", 2250),
    ("H200", 989),
    ("H100", 989),
    ("GB10", 125),
    ("A100", 312),
    ("L40S", 362),
    ("L40", 181),
    ("A10", 125),
    ("L4", 121),
    ("A6000", 155),
    ("V100", 112),
    ("T4", 65),
    ("5090", 209),
    ("4090", 165),
    ("4080", 97),
    ("4070", 58),
    ("3090", 71),
    ("3080", 59),
    ("3060", 25),
)
# The share of that which training reaches (model FLOPs utilisation) depends on row lengths, the adapter and the
# unpacking of 4-bit weights, and is unknown before a measurement: hence the wide range.
_LOW_SHARE, _LIKELY_SHARE, _HIGH_SHARE = 0.10, 0.20, 0.40
_CPU_TFLOPS_PER_CORE = 0.03  # fp32 with AVX2; not measured
_UNKNOWN_GPU_TFLOPS = 60  # of a mid-range card such as the RTX 4070


@dataclass(frozen=True)
class Steps:
    """The size of a run.

    Attributes:
        steps: optimizer steps.
        tokens: of the whole run; a prompt counts once for each answer, as in TRL's ``num_tokens``. None when unknown.
        pairs: trained on in one epoch.
    """

    steps: int
    tokens: int | None
    pairs: int | None


@dataclass(frozen=True)
class Duration:
    """A duration in seconds, the range in which it lies, and a sentence on how it was estimated."""

    seconds: float
    low: float
    high: float
    basis: str


def steps_of(config: Config, pairs: int | None, tokens_per_pair: float | None) -> Steps | None:
    """Count steps as transformers' Trainer does: in every epoch batches are rounded up, then accumulations.

    Args:
        config: the run's settings.
        pairs: to train on; None when unknown.
        tokens_per_pair: mean tokens of both sequences of a pair together.

    Returns:
        None when neither the pairs nor ``max_steps`` are known.
    """
    if pairs is None:
        if config.max_steps is None:
            return None
        seen = config.max_steps * config.effective_batch
        return Steps(config.max_steps, int(seen * tokens_per_pair) if tokens_per_pair else None, None)
    steps = config.training_steps(pairs)
    passes = steps / config.steps_per_epoch(pairs)
    return Steps(steps, int(pairs * passes * tokens_per_pair) if tokens_per_pair else None, pairs)


def duration_of(
    config: Config, arch: Architecture, tokens: int | None, device: str, earlier: list[Measurement]
) -> Duration | None:
    """Estimate the time for a number of tokens: from the most similar earlier run on the device, else from data sheets.

    Args:
        config: the run's settings.
        arch: its model.
        tokens: to process.
        device: the GPU's name, or "cpu".
        earlier: measurements of earlier runs.

    Returns:
        None when the tokens are not known.
    """
    if tokens is None:
        return None
    if config.world_size > 1 and device != "cpu":  # on the CPU the processes share its cores
        return _with_several_gpus(config, arch, tokens, device, earlier)
    timed = [one for one in earlier if one.tokens_per_second and one.parameters]
    for one in nearest(timed, config, arch, device, most=1):
        ratio = arch.active_parameters / one.active_parameters
        # The tokens of a run of several GPUs are counted over all of them.
        seconds = tokens / ((one.tokens_per_second or 1.0) / one.gpus) * ratio
        spread = 1.15 if one.config.model_name == config.model_name else 1.15 + abs(math.log2(ratio)) / 2
        scaled = "" if math.isclose(ratio, 1.0, rel_tol=0.01) else f", scaled by {ratio:.2f} for the model's size"
        basis = f"run {one.run} on {one.device}: {one.tokens_per_second:,.0f} tokens/s{scaled}"
        return Duration(seconds, seconds / spread, seconds * spread, basis)
    peak = _peak(device)
    operations = tokens * flops_per_token(config, arch)
    return Duration(
        operations / (peak * _LIKELY_SHARE),
        operations / (peak * _HIGH_SHARE),
        operations / (peak * _LOW_SHARE),
        f"a rough guess from {peak / 1e12:,.1f} TFLOP/s at {_LOW_SHARE:.0%} to {_HIGH_SHARE:.0%}; nothing measured yet",
    )


def _with_several_gpus(
    config: Config, arch: Architecture, tokens: int, device: str, earlier: list[Measurement]
) -> Duration | None:
    """The range between no gain and as many times as fast as one GPU; its better end is shown as the likely one."""
    count = config.world_size
    alone = duration_of(config.model_copy(update={"gpus": "auto", "gpu_count": 1}), arch, tokens, device, earlier)
    if alone is None:
        return None
    basis = f"{alone.basis}; for {count} GPUs if they are {count} times as fast, which was not measured"
    return Duration(alone.seconds / count, alone.low / count, alone.high, basis)


def flops_per_token(config: Config, arch: Architecture) -> float:
    """Floating-point operations for one token in one step.

    A forward pass takes two per weight (multiply and add) that a token passes through: of experts, the active ones.
    There is one of the policy, one of the reference, and one more with activation checkpointing. A backward pass takes
    two per weight for the gradients of the inputs, and two for those of the weights where they are trained. The
    products of attention scores are left out: a few percent at these lengths.
    """
    reference = strategy_of(config).scores_reference_in_steps(config.precompute_ref_log_probs)
    passes = 1 + reference + config.gradient_checkpointing
    backward = 1 if config.use_lora else 2
    head = arch.vocabulary * arch.hidden
    return 2.0 * (arch.active_weights + head) * (passes + backward)


def _peak(device: str) -> float:
    """Floating-point operations a second of a device, at most."""
    if device == "cpu":
        return _CPU_TFLOPS_PER_CORE * (os.cpu_count() or 1) * 1e12
    for name, teraflops in _PEAK_TFLOPS:
        if name in device:
            return teraflops * 1e12
    return _UNKNOWN_GPU_TFLOPS * 1e12
