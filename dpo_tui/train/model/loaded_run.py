"""Load a finished run: its policy, and the reference that it was trained from."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.model.checked_loading import load_checked, load_with_adapter
from dpo_tui.train.model.device import TrainingDevice, choose_device
from dpo_tui.train.model.limited_rendering import limit_rendering
from dpo_tui.train.model.load import load_model
from dpo_tui.train.model.model_class import model_class
from dpo_tui.train.model.verified_code import may_run_code_of, trust_code_of


@dataclass(frozen=True)
class LoadedRun:
    """Policy and reference of a run on their device; or any other model as the policy, without a reference.

    Attributes:
        policy: the trained model.
        tokenizer: as it was saved with the policy.
        device: on which the models are.
        base: the reference, where it is a separate model; None where it is the policy without its adapter.
    """

    policy: Any
    tokenizer: Any
    device: TrainingDevice
    base: Any = None

    @contextlib.contextmanager
    def active_model(self, who: str) -> Iterator[Any]:
        """Enter with the model that is asked for.

        Args:
            who: ``tuned`` for the policy, ``base`` for the reference.
        """
        if who == "tuned":
            yield self.policy
        elif self.base is not None:
            yield self.base
        else:
            with self.policy.disable_adapter():
                yield self.policy


def config_of(folder: RunFolder) -> Config:
    """Return a run's config for use after the training: on a GPU of this machine, or the CPU where it has none."""
    config = load(folder.config).config
    trust_code_of(config)
    if (config.named_gpus or config.gpus == "all") and not torch.cuda.is_available():
        return config.model_copy(update={"gpus": "auto"})
    return config


def result_folder(config: Config, folder: RunFolder) -> Path:
    """Return the folder of a run's adapter, or of its model after full fine-tuning.

    Raises:
        TrainingError: the run has no result yet.
    """
    result = folder.adapter if config.use_lora else folder.merged
    if not result.is_dir():
        raise TrainingError(f"run {folder.id} has no result yet", hint=f"See how it goes: dpo-tui status {folder.id}")
    return result


def load_run(folder: RunFolder) -> LoadedRun:
    """Load the policy and the reference of a run.

    Raises:
        TrainingError: the run has no result yet, its result is not whole, or this machine lacks the device that it asks
            for.
    """
    config = config_of(folder)
    result = result_folder(config, folder)
    device = choose_device(config)
    limit_rendering()
    tokenizer = AutoTokenizer.from_pretrained(result, trust_remote_code=may_run_code_of(result))
    if config.use_lora:
        model = load_with_adapter(load_model(config, device, result), result)
        return LoadedRun(model.eval(), tokenizer, device)
    options = {"dtype": device.dtype, **({"device_map": {"": 0}} if device.kind == "cuda" else {})}
    policy = load_checked(model_class(result), result, **options)
    revision = config.model_revision or "main"
    loading = {"revision": revision, **options, **config.model_init}
    chosen = model_class(config.model_name, revision)
    base = load_checked(chosen, config.model_name, warn=lambda _: None, **loading)
    return LoadedRun(policy.eval(), tokenizer, device, base.eval())
