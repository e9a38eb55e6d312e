"""How many steps and tokens a run has, and about how long it takes, with the basis of that figure."""

import math
import os
from dataclasses import dataclass

from dpo_tui.config.schema import Config
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.run_history import Measurement, nearest
from dpo_tui.strategies.registry import strategy_of

# Dense 16-bit tensor throughput in TFLOP/s, as the makers' data sheets give it; the first name found in the GPU's wins.
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
# Training with an adapter, with short rows and unpacked 4-bit weights, reaches some share of that; nobody knows which
# before measuring, so the range is wide: a tenth to four tenths.
_LOW_SHARE, _LIKELY_SHARE, _HIGH_SHARE = 0.10, 0.20, 0.40
_CPU_TFLOPS_PER_CORE = 0.03  # fp32 with AVX2, also a guess


@dataclass(frozen=True)
class Steps:
    """The size of a run.

    Attributes:
        steps: optimizer steps.
        tokens: processed in all, prompts counted with both answers, as TRL's ``num_tokens`` does; None when unknown.
        pairs: trained on in one epoch.
    """

    steps: int
    tokens: int | None
    pairs: int | None


@dataclass(frozen=True)
class Duration:
    """A time in seconds with its range and where it comes from."""

    seconds: float
    low: float
    high: float
    basis: str


def steps_of(config: Config, pairs: int | None, tokens_per_pair: float | None) -> Steps | None:
    """Count steps as Trainer does: whole batches rounded up, then whole accumulations rounded up, in every epoch.

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
    config: Config, arch: Architecture, tokens: int | None, device: str, found: list[Measurement]
) -> Duration | None:
    """Guess the time for so many tokens: from the most similar earlier run on the device, else from a rough table.

    Args:
        config: the run's settings.
        arch: its model.
        tokens: to process.
        device: the GPU's name, or "cpu".
        found: what earlier runs measured.

    Returns:
        None when the tokens are not known.
    """
    if tokens is None:
        return None
    timed = [one for one in found if one.tokens_per_second and one.parameters]
    for one in nearest(timed, config, arch, device, most=1):
        ratio = arch.parameters / one.parameters
        seconds = tokens / (one.tokens_per_second or 1.0) * ratio
        spread = 1.15 if one.config.model_name == config.model_name else 1.15 + abs(math.log2(ratio)) / 2
        scaled = "" if math.isclose(ratio, 1.0, rel_tol=0.01) else f", scaled by {ratio:.2f} for the model's size"
        basis = f"run {one.run} on {one.device}: {one.tokens_per_second:,.0f} tokens/s{scaled}"
        return Duration(seconds, seconds / spread, seconds * spread, basis)
    peak = _peak(device)
    work = tokens * flops_per_token(config, arch)
    return Duration(
        work / (peak * _LIKELY_SHARE),
        work / (peak * _HIGH_SHARE),
        work / (peak * _LOW_SHARE),
        f"a rough guess from {peak / 1e12:,.1f} TFLOP/s at {_LOW_SHARE:.0%} to {_HIGH_SHARE:.0%}; nothing measured yet",
    )


def flops_per_token(config: Config, arch: Architecture) -> float:
    """Floating-point operations for one token in one step.

    Two per weight in a forward pass (multiply, add): the policy's, the reference's and the checkpoints' recomputation;
    backward two more for the inputs' gradients, and two for the weights' where they are trained. Attention's
    own products
    are left out; they are a few percent at these lengths.
    """
    reference = strategy_of(config).scores_reference_in_steps(config.precompute_ref_log_probs)
    passes = 1 + reference + config.gradient_checkpointing
    backward = 1 if config.use_lora else 2
    head = arch.vocabulary * arch.hidden
    return 2.0 * (arch.linear_weights + head) * (passes + backward)


def _peak(device: str) -> float:
    if device == "cpu":
        return _CPU_TFLOPS_PER_CORE * (os.cpu_count() or 1) * 1e12
    for name, tera in _PEAK_TFLOPS:
        if name in device:
            return tera * 1e12
    return 60e12  # a card of the middle, such as the RTX 4070
