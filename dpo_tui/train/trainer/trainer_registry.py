"""Which trainer of TRL a strategy uses, and how the trainer of a run is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import TrainingArguments, set_seed
from trl import DPOTrainer, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.sft import SFT
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import lora_config
from dpo_tui.train.model.unsloth import SHORTCUTS_OFF
from dpo_tui.train.shortcuts import reference_logps
from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.arguments import dpo_arguments, sft_arguments
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.trainers import DemonstrationTrainer, PairTrainer


class MakeArguments(Protocol):
    """Makes TRL's arguments for a strategy; see :func:`dpo_tui.train.trainer.arguments.dpo_arguments`."""

    def __call__(
        self, config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
    ) -> TrainingArguments:
        """Return the arguments."""


@dataclass(frozen=True)
class TrainerInputs:
    """What the trainer of a run is built from.

    Attributes:
        config: the run's settings.
        folder: where checkpoints go.
        device: device and precision.
        rows: to train and to evaluate on.
        callback: writes metrics and honours requests.
        resumes: whether the run continues from a checkpoint.
        options: keyword arguments of TRL's trainer, its ``args`` excepted.
    """

    config: Config
    folder: RunFolder
    device: TrainingDevice
    rows: RunDatasets
    callback: RunCallback
    resumes: bool
    options: dict[str, Any]

    def arguments(self, make: Callable[..., TrainingArguments], **more: Any) -> TrainingArguments:
        """Call a function such as ``dpo_arguments`` with these inputs."""
        evaluates = self.rows.held_out is not None
        return make(self.config, self.folder, self.device, evaluates=evaluates, resumes=self.resumes, **more)


@dataclass(frozen=True)
class TrainerEntry:
    """How a strategy trains.

    Attributes:
        trainer: TRL's class.
        arguments: makes its arguments.
        build: builds a subclass of it; None where TRL's class is used as it is.
    """

    trainer: type[Any]
    arguments: MakeArguments
    build: Callable[[TrainerInputs], Any] | None = None


def _pair_trainer(inputs: TrainerInputs) -> Any:
    config, rows, journal = inputs.config, inputs.rows, inputs.callback.journal
    if config.provider == "unsloth":
        # Unsloth has rewritten the methods that PairTrainer overrides.
        return DPOTrainer(args=inputs.arguments(dpo_arguments), **inputs.options)
    held_out = len(rows.held_out) if rows.held_out is not None else 0
    shortcuts = Shortcuts(journal, config.share_prefix)
    shortcuts.reference = reference_logps.decide_precompute(config, len(rows.train), held_out, resumes=inputs.resumes)
    # Without an adapter TRL must know before it loads a second model.
    arguments = inputs.arguments(dpo_arguments, reference_once=shortcuts.reference.on and not config.use_lora)
    return PairTrainer(config, journal, inputs.callback.interruption, shortcuts, args=arguments, **inputs.options)


def _demonstration_trainer(inputs: TrainerInputs) -> Any:
    return DemonstrationTrainer(inputs.callback.journal, args=inputs.arguments(sft_arguments), **inputs.options)


TRAINERS: dict[str, TrainerEntry] = {
    DPO.name: TrainerEntry(DPOTrainer, dpo_arguments, _pair_trainer),
    SFT.name: TrainerEntry(SFTTrainer, sft_arguments, _demonstration_trainer),
}
"""By name of the strategy; each in ``dpo_tui.strategies.registry.STRATEGIES`` has a row."""


def build_trainer(
    config: Config,
    folder: RunFolder,
    device: TrainingDevice,
    *,
    model: Any,
    tokenizer: Any,
    rows: RunDatasets,
    callback: RunCallback,
    resumes: bool,
) -> Any:
    """Return a trainer that is ready to train: adapter added, rows tokenised, reference scored if that pays."""
    # trl before 1.16 draws an adapter's first weights before it sets the seed.
    set_seed(config.seed)
    journal = callback.journal
    unsloth = config.provider == "unsloth"
    if unsloth:
        journal.event("note", f"Our shortcuts are off: {SHORTCUTS_OFF}")
        # Its own checkpointing has moved the activations already.
        config = config.model_copy(update={"activation_offloading": False})
    journal.phase("add-adapters" if config.use_lora and not unsloth else "load-pairs")
    options = {
        "model": model,
        "train_dataset": rows.train,
        "eval_dataset": rows.held_out,
        "processing_class": tokenizer,
        "peft_config": None if unsloth else lora_config(config),
        "callbacks": [callback],
    }
    inputs = TrainerInputs(config, folder, device, rows, callback, resumes, options)
    entry = TRAINERS[config.strategy]
    if entry.build is not None:
        return entry.build(inputs)
    return entry.trainer(args=inputs.arguments(entry.arguments), **options)
