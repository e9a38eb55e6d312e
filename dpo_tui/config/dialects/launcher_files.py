"""Files of DeepSpeed and accelerate: no configs of a training, but of how processes are started and weights split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from dpo_tui.errors import ConfigError

_DEEPSPEED_KEYS = {
    "zero_optimization",
    "train_micro_batch_size_per_gpu",
    "train_batch_size",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "wall_clock_breakdown",
    "steps_per_print",
    "fp16",
    "bf16",
    "activation_checkpointing",
}
_ACCELERATE_KEYS = {
    "compute_environment",
    "distributed_type",
    "deepspeed_config",
    "fsdp_config",
    "num_processes",
    "num_machines",
    "machine_rank",
    "mixed_precision",
    "dynamo_backend",
    "downcast_bf16",
}
_MODEL_KEYS = {"model_name", "model_name_or_path", "base_model", "model", "model_id_or_path"}
_INSTEAD = (
    "several GPUs train together as [compute] says: gpus and gpu_count which, distributed how. ddp holds the whole "
    "model on each; fsdp2 divides it, as FSDP and ZeRO-3 do, and has cpu_offload. What else saves memory are use_4bit, "
    "gradient_checkpointing, activation_offloading and"
    ' a smaller per_device_train_batch_size; profile = "auto" chooses them. Convert the '
    "file of the training itself"
)


def recognises_deepspeed(raw: Mapping[str, Any]) -> bool:
    """Whether a file is DeepSpeed's: of ZeRO stages and offloading, without a model."""
    typical = "zero_optimization" in raw or (
        "train_micro_batch_size_per_gpu" in raw and len(_DEEPSPEED_KEYS & raw.keys()) > 1
    )
    return typical and not _MODEL_KEYS & raw.keys()


def recognises_accelerate(raw: Mapping[str, Any]) -> bool:
    """Whether a file is one that `accelerate config` writes: of machines and processes, without a model."""
    typical = "compute_environment" in raw or {"distributed_type", "num_processes"} <= raw.keys()
    return typical and len(_ACCELERATE_KEYS & raw.keys()) > 1 and not _MODEL_KEYS & raw.keys()


def refuse_deepspeed(raw: Mapping[str, Any], folder: Path) -> NoReturn:
    """Say where a file of DeepSpeed belongs.

    Raises:
        ConfigError: always.
    """
    stage = raw.get("zero_optimization", {})
    stage = f" (ZeRO stage {stage['stage']})" if isinstance(stage, Mapping) and "stage" in stage else ""
    raise ConfigError(
        f"this is a config of DeepSpeed{stage}, how a launcher splits a model over GPUs, and not of a training",
        hint=f"dpo-tui does not use DeepSpeed: {_INSTEAD}",
    )


def refuse_accelerate(raw: Mapping[str, Any], folder: Path) -> NoReturn:
    """Say where a file of accelerate belongs.

    Raises:
        ConfigError: always.
    """
    processes = raw.get("num_processes")
    count = f" (num_processes: {processes})" if processes else ""
    raise ConfigError(
        f"this is a config of accelerate{count}, which machines and processes `accelerate launch` uses, and not of a "
        "training",
        hint=f"dpo-tui starts its own processes: {_INSTEAD}; mixed_precision is bf16, in [model]",
    )
