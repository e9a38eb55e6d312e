"""What a run made, loaded again: the policy, and the reference that it came from."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.model.device import TrainingDevice, choose_device
from dpo_tui.train.model.load import load_model


@dataclass(frozen=True)
class Trained:
    """A run's models on their device.

    Attributes:
        policy: what was trained.
        tokenizer: as it was saved with it.
        device: where it is.
        base: the reference, where it is a model of its own; None where it is the policy without its adapter.
    """

    policy: Any
    tokenizer: Any
    device: TrainingDevice
    base: Any = None

    @contextlib.contextmanager
    def active_model(self, who: str) -> Iterator[Any]:
        """Give the model that answers: ``tuned`` or ``base``."""
        if who == "tuned":
            yield self.policy
        elif self.base is not None:
            yield self.base
        else:
            with self.policy.disable_adapter():
                yield self.policy


def config_of(folder: RunFolder) -> Config:
    """Return a run's config for use after it: on whatever device there is now."""
    config = load(folder.config).config
    if config.gpus.isdigit() and not torch.cuda.is_available():
        return config.model_copy(update={"gpus": "auto"})
    return config


def result_folder(config: Config, folder: RunFolder) -> Path:
    """Return where a run's result lies.

    Raises:
        TrainingError: it has none yet.
    """
    result = folder.adapter if config.use_lora else folder.merged
    if not result.is_dir():
        raise TrainingError(f"run {folder.id} has no result yet", hint=f"See how it goes: dpo-tui status {folder.id}")
    return result


def load_trained(folder: RunFolder) -> Trained:
    """Load the policy and the reference of a run.

    Raises:
        TrainingError: the run has no result, or its base model is not there.
    """
    config = config_of(folder)
    result = result_folder(config, folder)
    device = choose_device(config)
    tokenizer = AutoTokenizer.from_pretrained(result)
    if config.use_lora:
        model = PeftModel.from_pretrained(load_model(config, device), str(result))
        return Trained(model.eval(), tokenizer, device)
    options = {"dtype": device.dtype, **({"device_map": {"": 0}} if device.kind == "cuda" else {})}
    policy = AutoModelForCausalLM.from_pretrained(result, **options)
    base = AutoModelForCausalLM.from_pretrained(config.model_name, revision=config.model_revision, **options)
    return Trained(policy.eval(), tokenizer, device, base.eval())
