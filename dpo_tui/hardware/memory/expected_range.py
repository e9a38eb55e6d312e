"""Comparison of an estimate with the memory that is expected for a 7B model in 4-bit."""

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.memory_estimate import GB, MemoryEstimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.strategies.registry import strategy_of

_SEVEN_B = (6.5e9, 8.5e9)
"""Weights of what is called a 7B model."""


def expected_range_note(config: Config, arch: Architecture, memory: MemoryEstimate) -> str | None:
    """Compare an estimate with the range that the strategy is expected to take; explain a difference part by part.

    Args:
        config: the run's settings; its strategy holds the range (`Strategy.memory_7b_gb`).
        arch: the model's dimensions.
        memory: the estimate for both.

    Returns:
        None where nothing is expected of this run (another size, not 4-bit, a strategy without a figure).
    """
    if not (config.use_4bit and config.use_lora and _SEVEN_B[0] <= arch.parameters <= _SEVEN_B[1]):
        return None
    strategy = strategy_of(config)
    if strategy.memory_7b_gb is None:
        return None
    low, high = strategy.memory_7b_gb
    total = memory.total / GB
    name = f"{strategy.memory_words} expected for {strategy.title} on a 7B model in 4-bit"
    if low <= total <= high:
        return f"Within the {name}."
    parts = sorted((part for part in memory.parts if part.size), key=lambda part: -part.size)[:4]
    shares = ", ".join(f"{part.key.replace('_', ' ')} {part.size / GB:.1f}" for part in parts)
    if total < low:
        return f"Below the {name}: {shares} GB; {_settings_text(config)}."
    return f"Above the {name}: {shares} GB; {_settings_text(config)}."


def _settings_text(config: Config) -> str:
    checkpointed = "" if config.gradient_checkpointing else ", activations not checkpointed"
    return (
        f"the band is for micro-batch 2, 1024 tokens and rank 16, this is {config.per_device_train_batch_size}, "
        f"{config.max_seq_length} and {config.lora_r}{checkpointed}"
    )
