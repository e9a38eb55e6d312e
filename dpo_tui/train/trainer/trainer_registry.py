"""From a config to TRL: the trainer class and the arguments (DPOConfig, SFTConfig) of each strategy.

:data:`TRAINERS` has a row for each strategy, :func:`build_trainer` constructs the trainer of a run, and
:func:`trl_arguments` is the one place where our settings become TRL's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import trl
from transformers import TrainingArguments, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.config.schema import fields as setting_fields
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.trackers import PROJECT
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.sft import SFT
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import lora_config
from dpo_tui.train.model.unsloth import SHORTCUTS_OFF
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.trainers import TrainerInputs, build_demonstration_trainer, build_pair_trainer

# Five evaluations in a run without eval_steps: Trainer reads a number below 1 as a fraction of all steps.
_EVAL_STEPS_RATIO = 0.2
# Settings that have TRL's name and meaning, and are passed on as they are.
_DPO_FIELDS = (
    "beta",
    "label_smoothing",
    "f_divergence_type",
    "f_alpha_divergence_coef",
    "ld_alpha",
    "use_weighting",
    "discopop_tau",
    "disable_dropout",
    "precompute_ref_batch_size",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "router_aux_loss_coef",
    "truncation_mode",
)
_SHARED_FIELDS = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "gradient_checkpointing",
    "dataloader_num_workers",
    "logging_steps",
    "save_steps",
    "seed",
    "activation_offloading",
    "dataset_num_proc",
)


def dpo_arguments(
    config: Config,
    folder: RunFolder,
    device: TrainingDevice,
    *,
    evaluates: bool,
    resumes: bool,
    reference_once: bool | None = None,
) -> DPOConfig:
    """Return TRL's arguments for DPO.

    Args:
        config: the run's settings.
        folder: where checkpoints go.
        device: device and precision.
        evaluates: whether there are held-out pairs.
        resumes: whether the run resumes from a checkpoint; its first attempt has then made the evaluation of step 0.
        reference_once: whether TRL precomputes the reference's log-probabilities when the trainer is constructed. None
            follows the setting, with "auto" as off.

    Raises:
        TrainingError: a setting that was changed from its default is unknown to the installed TRL.
    """
    own = {name: getattr(config, name) for name in _DPO_FIELDS}
    own["precompute_ref_log_probs"] = (
        config.precompute_ref_log_probs == "on" if reference_once is None else reference_once
    )
    own["loss_type"] = list(config.loss_type)
    own["loss_weights"] = list(config.loss_weights) if config.loss_weights else None
    return trl_arguments(DPOConfig, config, folder, device, evaluates=evaluates, resumes=resumes, own=own)


def sft_arguments(
    config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
) -> SFTConfig:
    """Return TRL's arguments for supervised fine-tuning; see :func:`dpo_arguments`."""
    return trl_arguments(SFTConfig, config, folder, device, evaluates=evaluates, resumes=resumes)


def trl_arguments(
    arguments_class: type[Any],
    config: Config,
    folder: RunFolder,
    device: TrainingDevice,
    *,
    evaluates: bool,
    resumes: bool,
    own: Mapping[str, Any] | None = None,
) -> Any:
    """Return the arguments of any of TRL's trainers: those that all strategies share, and those of one alone.

    Args:
        arguments_class: TRL's class of arguments, such as ``DPOConfig``.
        config: the run's settings; see :func:`dpo_arguments` for these and the next.
        folder: where checkpoints go.
        device: device and precision.
        evaluates: whether there are held-out rows.
        resumes: whether the run resumes from a checkpoint.
        own: arguments that only this strategy has.

    Raises:
        TrainingError: a setting that was changed from its default is unknown to the installed TRL.
    """
    values = _shared_arguments(config, folder, device, evaluates=evaluates, resumes=resumes) | dict(own or {})
    return arguments_class(**_known_to_trl(arguments_class, values))


def _shared_arguments(
    config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in _SHARED_FIELDS}
    return values | {
        "output_dir": str(folder.checkpoints),
        "max_steps": config.max_steps or -1,
        "max_length": config.max_seq_length,
        # transformers 5 reads a number below 1 as a fraction of all steps.
        "warmup_steps": config.warmup_ratio,
        "per_device_eval_batch_size": config.per_device_eval_batch_size or config.per_device_train_batch_size,
        "bf16": device.precision == "bf16",
        "fp16": device.precision == "fp16",
        "use_cpu": device.kind == "cpu",
        "dataloader_pin_memory": device.kind == "cuda",
        "train_sampling_strategy": "group_by_length" if config.group_by_length else "random",
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": config.eval_steps or _EVAL_STEPS_RATIO,
        "eval_on_start": evaluates and not resumes,
        "logging_strategy": "steps",
        "logging_first_step": True,
        # Trainer would write the last finite loss instead, and hide that a run has diverged.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        # RunCallback deletes old checkpoints, and only after the new one is marked complete.
        "save_total_limit": None,
        "report_to": list(config.report_to) or "none",
        "run_name": config.name,
        "project": PROJECT,
        "disable_tqdm": True,
    }


def _known_to_trl(arguments_class: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Leave out the arguments that the installed TRL does not have, as long as their settings are at the default.

    Raises:
        TrainingError: a setting that was changed from its default is unknown to the installed TRL.
    """
    known = {field.name for field in dataclasses.fields(arguments_class)}
    settings = setting_fields()
    unknown = sorted(name for name in values.keys() - known if name in settings)
    changed = [name for name in unknown if values[name] != settings[name].default]
    if changed:
        raise TrainingError(
            f"{', '.join(changed)}: the installed TRL {trl.__version__} has no such option",
            hint="update TRL (pip install -U trl), or leave the setting out",
        )
    return {name: value for name, value in values.items() if name in known}


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


TRAINERS: dict[str, TrainerEntry] = {
    DPO.name: TrainerEntry(DPOTrainer, dpo_arguments, build_pair_trainer),
    SFT.name: TrainerEntry(SFTTrainer, sft_arguments, build_demonstration_trainer),
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
        TrainingError: a setting that was changed from its default is unknown to the installed TRL.
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
    entry = TRAINERS[config.strategy]
    make_arguments = partial(
        entry.arguments, config, folder, device, evaluates=rows.held_out is not None, resumes=resumes
    )
    if entry.build is None:
        return entry.trainer(args=make_arguments(), **options)
    return entry.build(TrainerInputs(config, rows, callback, resumes, make_arguments, options))
