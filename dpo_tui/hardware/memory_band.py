"""Small wordings that the hardware commands and screens share."""

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.memory_estimate import GB, MemoryEstimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.strategies.registry import strategy_of

_SEVEN_B = (6.5e9, 8.5e9)


def band_note(config: Config, arch: Architecture, found: MemoryEstimate) -> str | None:
    """Compare with what the strategy is expected to take for a 7B model in 4-bit; explain a difference part by part.

    Returns:
        None where nothing is expected of this run (another size, not 4-bit, a strategy without a figure).
    """
    if not (config.use_4bit and config.use_lora and _SEVEN_B[0] <= arch.parameters <= _SEVEN_B[1]):
        return None
    strategy = strategy_of(config)
    if strategy.memory_7b_gb is None:
        return None
    low, high = strategy.memory_7b_gb
    total = found.total / GB
    name = f"{strategy.memory_7b_range} expected for {strategy.title} on a 7B model in 4-bit"
    if low <= total <= high:
        return f"Within the {name}."
    parts = sorted((part for part in found.parts if part.size), key=lambda part: -part.size)[:4]
    shares = ", ".join(f"{part.key.replace('_', ' ')} {part.size / GB:.1f}" for part in parts)
    if total < low:
        return f"Below the {name}: {shares} GB; {_batch(config)}."
    return f"Above the {name}: {shares} GB; {_batch(config)}."


def parameters(count: int) -> str:
    """A number of weights for people: "8.03 B", "134.5 M"."""
    return f"{count / 1e9:.2f} B" if count >= GB // 2 else f"{count / 1e6:.1f} M"


def clock(seconds: float) -> str:
    """A duration for people: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def _batch(config: Config) -> str:
    checkpointed = "" if config.gradient_checkpointing else ", activations not checkpointed"
    return (
        f"the band is for micro-batch 2, 1024 tokens and rank 16, this is {config.per_device_train_batch_size}, "
        f"{config.max_seq_length} and {config.lora_r}{checkpointed}"
    )
