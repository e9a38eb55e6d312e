"""Our settings as the arguments of TRL's trainers: DPOConfig, SFTConfig, and those of any other of its trainers."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import trl
from trl import DPOConfig, SFTConfig

from dpo_tui.config.schema import Config
from dpo_tui.config.schema import fields as setting_fields
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.trackers import PROJECT
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.sharding import fsdp_arguments, with_dtypes_of_one_process

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
_KTO_FIELDS = (
    "beta",
    "desirable_weight",
    "undesirable_weight",
    "disable_dropout",
    "precompute_ref_batch_size",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "router_aux_loss_coef",
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
    "save_strategy",
    "save_only_model",
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
    if config.model_init and not config.use_lora:
        own["model_init_kwargs"] = copy.deepcopy(config.model_init)  # TRL loads the reference itself, with these
    return trl_arguments(DPOConfig, config, folder, device, evaluates=evaluates, resumes=resumes, own=own)


def sft_arguments(
    config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
) -> SFTConfig:
    """Return TRL's arguments for supervised fine-tuning; see :func:`dpo_arguments`."""
    own = {name: getattr(config, name) for name in ("completion_only_loss", "assistant_only_loss", "packing")}
    return trl_arguments(SFTConfig, config, folder, device, evaluates=evaluates, resumes=resumes, own=own)


def kto_arguments(
    config: Config,
    folder: RunFolder,
    device: TrainingDevice,
    *,
    evaluates: bool,
    resumes: bool,
    reference_once: bool | None = None,
) -> Any:
    """Return TRL's arguments for KTO; see :func:`dpo_arguments`.

    Rows keep their order: TRL pairs the answers of the KL term with prompts before the training, batch by batch.
    """
    from trl import KTOConfig  # where its trainer is: TRL 1.16

    own = {name: getattr(config, name) for name in _KTO_FIELDS}
    own |= {
        "precompute_ref_log_probs": (
            config.precompute_ref_log_probs == "on" if reference_once is None else reference_once
        ),
        "train_sampling_strategy": "sequential",
    }
    if config.model_init and not config.use_lora:
        own["model_init_kwargs"] = copy.deepcopy(config.model_init)
    return trl_arguments(KTOConfig, config, folder, device, evaluates=evaluates, resumes=resumes, own=own)


def orpo_arguments(config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool) -> Any:
    """Return TRL's arguments for ORPO; see :func:`dpo_arguments`."""
    from trl.experimental.orpo import ORPOConfig

    own = {"beta": config.beta, "disable_dropout": config.disable_dropout}
    return trl_arguments(
        ORPOConfig, _without_offloading(config), folder, device, evaluates=evaluates, resumes=resumes, own=own
    )


def cpo_arguments(
    config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool, loss: str = ""
) -> Any:
    """Return TRL's arguments for CPO; see :func:`dpo_arguments`.

    Args:
        config: see :func:`dpo_arguments` for this and the next.
        folder: where checkpoints go.
        device: device and precision.
        evaluates: whether there are held-out pairs.
        resumes: whether the run resumes from a checkpoint.
        loss: the loss; empty for the one that is set.
    """
    from trl.experimental.cpo import CPOConfig

    names = ("beta", "disable_dropout", "label_smoothing", "cpo_alpha", "simpo_gamma")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    own = given | {"loss_type": loss or config.loss_type[0]}
    return trl_arguments(
        CPOConfig, _without_offloading(config), folder, device, evaluates=evaluates, resumes=resumes, own=own
    )


def _without_offloading(config: Config) -> Config:
    """The experimental trainers have no such argument; ours offloads in ``training_step``."""
    return config.model_copy(update={"activation_offloading": False})


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

    What the table [trl] of the config sets comes last.

    Raises:
        TrainingError: a setting that was changed from its default is unknown to the installed TRL, or an argument in
            [trl] is, or its value is refused by it.
    """
    values = _shared_arguments(config, folder, device, evaluates=evaluates, resumes=resumes) | dict(own or {})
    arguments = _known_to_trl(arguments_class, values)
    if not config.trl:
        return with_dtypes_of_one_process(arguments_class(**arguments), config, device)
    # transformers refuses it where there is no TF32, although it changes nothing there.
    passed_on = {name: value for name, value in config.trl.items() if not (name == "tf32" and device.kind == "cpu")}
    unknown = sorted(passed_on.keys() - {field.name for field in dataclasses.fields(arguments_class)})
    if unknown:
        raise TrainingError(
            f"[trl] {', '.join(unknown)}: {arguments_class.__name__} of TRL {trl.__version__} has no such argument",
            hint="remove it, or install the TRL that it was written for",
        )
    try:
        made = arguments_class(**(arguments | copy.deepcopy(passed_on)))
    except (TypeError, ValueError, ImportError) as error:
        raise TrainingError(
            f"[trl] {', '.join(config.trl)}: TRL refuses them: {error}", hint="mend or remove them in the config"
        ) from error
    return with_dtypes_of_one_process(made, config, device)


def _shared_arguments(
    config: Config, folder: RunFolder, device: TrainingDevice, *, evaluates: bool, resumes: bool
) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in _SHARED_FIELDS}
    return values | {
        "output_dir": str(folder.checkpoints),
        "max_steps": config.max_steps or -1,
        "max_length": config.max_seq_length,
        # transformers 5 reads a number below 1 as a fraction of all steps.
        "warmup_steps": config.warmup_ratio if config.warmup_steps is None else config.warmup_steps,
        "per_device_eval_batch_size": config.per_device_eval_batch_size or config.per_device_train_batch_size,
        "bf16": device.precision == "bf16",
        "fp16": device.precision == "fp16",
        "use_cpu": device.kind == "cpu",
        "dataloader_pin_memory": device.kind == "cuda",
        "train_sampling_strategy": "group_by_length" if config.group_by_length else "random",
        "eval_strategy": config.eval_strategy if evaluates else "no",
        "eval_steps": config.eval_steps or _EVAL_STEPS_RATIO,
        "eval_on_start": evaluates and not resumes,
        "logging_strategy": "steps",
        "logging_first_step": True,
        # Trainer would write the last finite loss instead, and hide that a run has diverged.
        "logging_nan_inf_filter": False,
        # RunCallback deletes old checkpoints, and only after the new one is marked complete.
        "save_total_limit": None,
        "report_to": list(config.report_to) or "none",
        "run_name": config.name,
        "project": PROJECT,
        "disable_tqdm": True,
        **fsdp_arguments(config),
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
