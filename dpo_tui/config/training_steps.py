"""How many optimizer steps a config takes over so many rows."""

import math

from dpo_tui.config.schema import Config


def steps_per_epoch(config: Config, rows: int) -> int:
    """Count an epoch's steps as transformers' Trainer does: whole batches rounded up, then whole accumulations.

    Args:
        config: the run's settings.
        rows: trained on, held-out ones not among them.
    """
    batches = math.ceil(rows / config.per_device_train_batch_size)
    return max(1, math.ceil(batches / config.gradient_accumulation_steps))


def training_steps(config: Config, rows: int) -> int:
    """Count the steps of the whole training: ``max_steps`` where it is set, else those of all epochs, rounded up."""
    return config.max_steps or math.ceil(config.num_train_epochs * steps_per_epoch(config, rows))
