"""Advice on a config, before anything runs: what is allowed but unwise.

Each rule is a function that takes a config and returns an :class:`Advice` or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dpo_tui.advice.advice import Advice
from dpo_tui.figures import figure

if TYPE_CHECKING:  # advice on runs must load fast, without pydantic
    from dpo_tui.config.schema import Config

__all__ = ["Advice", "advise"]

# TRL's documentation gives about 5e-6 for LoRA.
DPO_RATE = (1e-7, 1e-6)
LORA_RATE = 5e-6
# Above this, dropout is no longer low.
HIGH_DROPOUT = 0.1
# Two to four epochs are safe.
MOST_EPOCHS = 4
# TRL's default and "strong"; beyond either the policy barely moves or is barely held.
BETA_RANGE = (0.01, 2.0)


SettingsRule = Callable[["Config"], Advice | None]


def advise(config: Config) -> list[Advice]:
    """Return every piece of advice on a config, in the order of the rules."""
    return [advice for rule in RULES if (advice := rule(config))]


def learning_rate(config: Config) -> Advice | None:
    """DPO's rate is 1e-7 to 1e-6; with an adapter TRL advises 5e-6."""
    if config.strategy != "dpo":
        return None
    low, high = DPO_RATE
    highest = max(high, LORA_RATE) if config.use_lora else high
    rate, usual = figure(config.learning_rate), f"{figure(low)} to {figure(highest)}"
    if config.learning_rate > highest:
        return Advice(
            "learning-rate",
            "warning",
            f"learning_rate {rate} is above the usual range for DPO, {usual}: the loss may swing or the "
            "model may lose its language.",
            {"learning_rate": highest},
        )
    if config.learning_rate < low:
        return Advice(
            "learning-rate",
            "warning",
            f"learning_rate {rate} is below the usual range for DPO, {usual}: the loss may stay at 0.693.",
            {"learning_rate": low},
        )
    if config.use_lora and config.learning_rate < high:
        return Advice(
            "learning-rate",
            "info",
            f"learning_rate {rate} suits full fine-tuning; for LoRA, TRL advises {figure(LORA_RATE)}.",
            {"learning_rate": LORA_RATE},
        )
    return None


def beta(config: Config) -> Advice | None:
    """0.1 is weak, 0.5 balanced, 2.0 strong."""
    low, high = BETA_RANGE
    if config.strategy != "dpo" or low <= config.beta <= high:
        return None
    effect = "hardly holds the policy to the reference" if config.beta < low else "hardly lets the policy move"
    return Advice("beta", "warning", f"beta {config.beta:g} {effect}; 0.1 to 0.5 is usual.", {"beta": 0.1})


def alpha(config: Config) -> Advice | None:
    """Alpha is usually twice the rank."""
    if not config.use_lora or config.use_rslora or config.alpha == 2 * config.lora_r:
        return None
    return Advice(
        "alpha",
        "info",
        f"lora_alpha {config.alpha} is not twice the rank {config.lora_r}, as is usual.",
        {"lora_alpha": 2 * config.lora_r},
    )


def dropout(config: Config) -> Advice | None:
    """Keep dropout low."""
    if not config.use_lora or config.lora_dropout <= HIGH_DROPOUT:
        return None
    return Advice(
        "dropout", "warning", f"lora_dropout {config.lora_dropout:g} is high; 0.05 is usual.", {"lora_dropout": 0.05}
    )


def epochs(config: Config) -> Advice | None:
    """More than four epochs tend to over-fit."""
    if config.num_train_epochs <= MOST_EPOCHS or config.max_steps is not None:
        return None
    return Advice(
        "epochs",
        "warning",
        f"{config.num_train_epochs:g} epochs tend to over-fit; 2 to 4 are safe.",
        {"num_train_epochs": 3},
    )


RULES: tuple[SettingsRule, ...] = (learning_rate, beta, alpha, dropout, epochs)
