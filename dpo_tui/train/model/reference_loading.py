"""Load a reference other than the model that training starts from."""

import gc
from typing import Any

import torch

from dpo_tui.config.reference_config import reference_config
from dpo_tui.config.schema import Config
from dpo_tui.train.model.checked_loading import Report
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import load_model


def load_reference(config: Config, device: TrainingDevice, warn: Report = lambda _: None) -> Any:
    """Load the model that ``ref_model`` names, frozen, held as the policy's own weights are; None without one.

    Args:
        config: the run's settings.
        device: device and precision.
        warn: receives a sentence where the model's files hold weights that are not used.

    Raises:
        TrainingError: a weight of the model is in none of its files.
    """
    if config.ref_model is None:
        return None
    model = load_model(reference_config(config), device, warn=warn)
    return model.requires_grad_(False).eval()


def release_reference(trainer: Any) -> None:
    """Give the memory of a trainer's reference model back: it has been scored, and nobody asks it again.

    Args:
        trainer: TRL's, with its reference's log-probabilities in its datasets.
    """
    # accelerate keeps every model that it has prepared, the frozen one too.
    models = trainer.accelerator._models
    models[:] = [model for model in models if model is not trainer.ref_model]
    trainer.ref_model = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
