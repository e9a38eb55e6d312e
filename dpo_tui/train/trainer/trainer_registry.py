"""Which trainer of TRL a strategy uses, and how the trainer of a run is built.

:data:`TRAINERS` has a row for each strategy: TRL's trainer class, and the function of
`dpo_tui.train.trainer.trl_arguments` that makes its arguments. :func:`build_trainer` constructs the trainer of a run;
what it passes to `dpo_tui.train.trainer.trainers` calls that function and gives TRL's trainer the result as ``args``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import trl
from transformers import TrainingArguments, set_seed
from trl import DPOTrainer, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.cpo import CPO, SIMPO
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.kto import KTO
from dpo_tui.strategies.orpo import ORPO
from dpo_tui.strategies.sft import SFT
from dpo_tui.train.model.checked_loading import check_checkpoint_loading
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import lora_config, train_in_fp32
from dpo_tui.train.model.reference_loading import load_reference
from dpo_tui.train.model.sharding import divides, fits_whole, sharding_accelerator
from dpo_tui.train.model.unsloth import SHORTCUTS_OFF
from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.trainers import TrainerInputs, build_demonstration_trainer, build_pair_trainer
from dpo_tui.train.trainer.trl_arguments import (
    cpo_arguments,
    dpo_arguments,
    kto_arguments,
    orpo_arguments,
    sft_arguments,
)
from dpo_tui.train.worker.distributed import values_of_ranks
from dpo_tui.train.worker.journal import Journal


class MakeArguments(Protocol):
    """Makes TRL's arguments for a strategy, such as :func:`dpo_arguments`."""

    def __call__(
        self, config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
    ) -> TrainingArguments:
        """Return the arguments."""


@dataclass(frozen=True)
class TrainerEntry:
    """How a strategy trains.

    Attributes:
        trainer: TRL's class.
        arguments: makes its arguments.
        build: constructs a subclass of it; None where TRL's class is used as it is.
    """

    trainer: type[Any]
    arguments: MakeArguments
    build: Callable[[TrainerInputs], Any] | None = None


def _reference_free_rows() -> dict[str, TrainerEntry]:
    """The rows of TRL's experimental trainers; none where the installed TRL has moved or dropped them."""
    try:
        from trl.experimental.cpo import CPOTrainer
        from trl.experimental.orpo import ORPOTrainer

        from dpo_tui.train.trainer.reference_free_trainers import ContrastiveTrainer, OddsRatioTrainer
    except ImportError:
        return {}

    def row(trl_class: type[Any], arguments: MakeArguments, own_class: Callable[..., Any]) -> TrainerEntry:
        def build(inputs: TrainerInputs) -> Any:
            journal, stop_requests = inputs.callback.journal, inputs.callback.stop_requests
            # NEFTune's noise depends on the length of a row, and shared prompts are in longer rows.
            noise = bool(inputs.config.trl.get("neftune_noise_alpha"))
            shortcuts = Shortcuts(journal, "off" if noise else inputs.config.share_prefix)
            shortcuts.reference.why = "this strategy has no reference"
            arguments = inputs.make_arguments()
            return own_class(inputs.config, journal, stop_requests, shortcuts, args=arguments, **inputs.options)

        return TrainerEntry(trl_class, arguments, build)

    return {
        ORPO.name: row(ORPOTrainer, orpo_arguments, OddsRatioTrainer),
        SIMPO.name: row(CPOTrainer, partial(cpo_arguments, loss="simpo"), ContrastiveTrainer),
        CPO.name: row(CPOTrainer, cpo_arguments, ContrastiveTrainer),
    }


def _labelled_rows() -> dict[str, TrainerEntry]:
    """The row of TRL's KTOTrainer; none where the installed TRL does not have it."""
    try:
        from dpo_tui.train.trainer.labelled_trainer import KTOTrainer, build_labelled_trainer
    except ImportError:
        return {}
    return {KTO.name: TrainerEntry(KTOTrainer, kto_arguments, build_labelled_trainer)}


TRAINERS: dict[str, TrainerEntry] = {
    DPO.name: TrainerEntry(DPOTrainer, dpo_arguments, build_pair_trainer),
    SFT.name: TrainerEntry(SFTTrainer, sft_arguments, build_demonstration_trainer),
    **_labelled_rows(),
    **_reference_free_rows(),
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
    """Return a trainer that is ready to train: adapter added, rows tokenised, reference scored if that pays.

    Args:
        config: the run's settings.
        folder: where checkpoints go.
        device: device and precision.
        model: the policy, without its adapter (Unsloth excepted, whose loader adds it).
        tokenizer: with a chat template and a padding token.
        rows: to train and to evaluate on.
        callback: writes metrics and follows requests.
        resumes: whether the run resumes from a checkpoint.

    Raises:
        TrainingError: the installed TRL lacks the strategy's trainer, or a setting that was changed from its default.
        StopRequested: a stop was requested while the reference was scored.
    """
    # TRL before 1.16 initialises an adapter's weights before it sets the seed.
    set_seed(config.seed)
    journal = callback.journal
    unsloth = config.provider == "unsloth"
    if unsloth:
        journal.event("note", f"Our shortcuts are off: {SHORTCUTS_OFF}")
        # Unsloth offloads the activations itself when it checkpoints them.
        config = config.model_copy(update={"activation_offloading": False})
    if config.gradient_checkpointing and not unsloth and not getattr(model, "supports_gradient_checkpointing", True):
        # It changes the memory that a step needs and nothing that it computes, so the run need not fail for it.
        journal.event(
            "warning", f"gradient_checkpointing is off: {type(model).__name__} has none, so a step needs more memory"
        )
        config = config.model_copy(update={"gradient_checkpointing": False})
    if divides(config):
        config = _settings_of_divided(config, model, journal)
    if config.use_lora and config.adapter_dropout != config.lora_dropout:
        journal.event(
            "note",
            f"The adapter trains without dropout: TRL switches it off (disable_dropout = true), and "
            f"lora_dropout = {config.lora_dropout:g} has no effect",
        )
    journal.phase("add-adapters" if config.use_lora and not unsloth else "load-pairs")
    options = {
        "model": model,
        "train_dataset": rows.train,
        "eval_dataset": rows.held_out,
        "processing_class": tokenizer,
        "peft_config": None if unsloth else lora_config(config),
        "callbacks": [callback],
    }
    reference = load_reference(config, device, warn=lambda message: journal.event("warning", message))
    if reference is not None:
        journal.event("note", f"The reference is {config.ref_model}, not the model that training starts from")
        options["ref_model"] = reference
    entry = TRAINERS.get(config.strategy)
    if entry is None:
        raise TrainingError(
            f"the installed TRL {trl.__version__} has no trainer for strategy = {config.strategy}",
            hint="install a version that has it: pip install 'trl>=1.16,<1.17'",
        )
    make_arguments = partial(
        entry.arguments, config, folder, device, evaluates=rows.held_out is not None, resumes=resumes
    )
    with sharding_accelerator(config, on_gpu=device.kind == "cuda"):
        if entry.build is None:
            trainer = entry.trainer(args=make_arguments(), **options)
        else:
            trainer = entry.build(TrainerInputs(config, rows, callback, resumes, make_arguments, options))
    if device.precision == "fp16" and not unsloth:
        train_in_fp32(trainer.model)
    if config.loraplus_lr_ratio is not None:
        trainer.loraplus_lr_ratio = config.loraplus_lr_ratio
    check_checkpoint_loading(trainer)
    return trainer


def _settings_of_divided(config: Config, model: Any, journal: Journal) -> Config:
    """Put a model that FSDP2 will divide onto the GPU whole where it fits, and return the settings that it can have.

    Before it is divided the reference is scored, and the shortcuts are checked.

    Raises:
        TrainingError: ``precompute_ref_log_probs = "on"`` with a model that does not fit.
    """
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    if config.gpus == "none" or all(values_of_ranks(fits_whole(model, device))):
        model.to("cpu" if config.gpus == "none" else device)
        return config
    why = "the model does not fit a GPU whole, and is divided from the first forward pass on"
    if config.precompute_ref_log_probs == "on":
        raise TrainingError(
            f'precompute_ref_log_probs = "on": {why}', hint='set it "off": the reference is scored in the steps then'
        )
    journal.event("note", f"The reference is scored in every step, and prompts are not shared: {why}")
    return config.model_copy(update={"precompute_ref_log_probs": "off", "share_prefix": "off"})
