"""Rules on a config before the run: settings that are valid but unwise.

Each rule is a function that takes a config and returns an :class:`Advice` or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dpo_tui.advice.advice import Advice
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.numbers import plain_number

if TYPE_CHECKING:  # importing pydantic would slow `dpo-tui status` down
    from dpo_tui.config.schema import Config

__all__ = ["Advice", "advise"]

HIGH_DROPOUT = 0.1
"""Dropout of an adapter above which it is high; 0.05 is usual."""
MOST_EPOCHS = 4
"""Epochs above which preference training tends to over-fit; two to four are safe."""

ConfigRule = Callable[["Config"], Advice | None]


def advise(config: Config) -> list[Advice]:
    """Return the advice of every rule that applies to a config, in the order of RULES."""
    return [advice for rule in RULES if (advice := rule(config))]


def learning_rate(config: Config) -> Advice | None:
    """The learning rate is outside the strategy's usual range, or low for an adapter (TRL advises 5e-6 for DPO)."""
    strategy = strategy_of(config)
    rates = strategy.learning_rates
    if rates is None:
        return None
    low, high = rates.low, rates.high
    highest = max(high, rates.lora) if config.use_lora else high
    rate, usual = plain_number(config.learning_rate), f"{plain_number(low)} to {plain_number(highest)}"
    if config.learning_rate > highest:
        return Advice(
            "learning-rate",
            "warning",
            f"learning_rate {rate} is above the usual range for {strategy.title}, {usual}: the loss may swing or the "
            "model may lose its language.",
            {"learning_rate": highest},
        )
    if config.learning_rate < low:
        start = strategy.start_loss(config.model_dump())
        stuck = "the model may hardly learn" if start is None else f"the loss may stay at {start:.3f}"
        return Advice(
            "learning-rate",
            "warning",
            f"learning_rate {rate} is below the usual range for {strategy.title}, {usual}: {stuck}.",
            {"learning_rate": low},
        )
    if config.use_lora and config.learning_rate < high:
        return Advice(
            "learning-rate",
            "info",
            f"learning_rate {rate} suits full fine-tuning; for LoRA, about {plain_number(rates.lora)} is advised.",
            {"learning_rate": rates.lora},
        )
    return None


def beta(config: Config) -> Advice | None:
    """β is outside the usual range of the loss: for ``sigmoid`` 0.1 holds the policy loosely, 2.0 tightly."""
    betas = strategy_of(config).betas(config.model_dump())
    if betas is None or betas.low <= config.beta <= betas.high:
        return None
    effect = betas.too_low if config.beta < betas.low else betas.too_high
    return Advice("beta", "warning", f"beta {config.beta:g} {effect}; {betas.advice}.", {"beta": betas.usual})


def alpha(config: Config) -> Advice | None:
    """``lora_alpha`` is not twice the rank, as is usual without rank-stabilised scaling."""
    if not config.use_lora or config.use_rslora or config.alpha == 2 * config.lora_r:
        return None
    return Advice(
        "alpha",
        "info",
        f"lora_alpha {config.alpha} is not twice the rank {config.lora_r}, as is usual.",
        {"lora_alpha": 2 * config.lora_r},
    )


def dropout(config: Config) -> Advice | None:
    """The adapter's dropout is high."""
    if not config.use_lora or config.lora_dropout <= HIGH_DROPOUT:
        return None
    return Advice(
        "dropout", "warning", f"lora_dropout {config.lora_dropout:g} is high; 0.05 is usual.", {"lora_dropout": 0.05}
    )


def epochs(config: Config) -> Advice | None:
    """There are more epochs than preference training usually bears without over-fitting."""
    if config.num_train_epochs <= MOST_EPOCHS or config.max_steps is not None:
        return None
    return Advice(
        "epochs",
        "warning",
        f"{config.num_train_epochs:g} epochs tend to over-fit; 2 to 4 are safe.",
        {"num_train_epochs": 3},
    )


RULES: tuple[ConfigRule, ...] = (learning_rate, beta, alpha, dropout, epochs)
