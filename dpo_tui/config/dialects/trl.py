"""The YAML of `trl dpo --config FILE`: ScriptArguments, DPOConfig and ModelConfig of trl 1.14–1.16, flat."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import OWN_FOLDER, Conversion, trackers, warmup_share
from dpo_tui.config.schema import fields

RENAMED = {
    "model_name_or_path": "model_name",
    "dataset_name": "dataset",
    "dataset_train_split": "dataset_split",
    "max_length": "max_seq_length",
    "load_in_4bit": "use_4bit",
    "use_peft": "use_lora",
    "lora_modules_to_save": "modules_to_save",
    "activation_checkpointing": "gradient_checkpointing",
    "run_name": "name",
    "lr": "learning_rate",
}
DROPPED = {
    "output_dir": OWN_FOLDER,
    "trust_remote_code": "code from the hub is never run",
    "push_to_hub": "use `dpo-tui export --push` when the run is done",
    "hub_model_id": "use `dpo-tui export --push` when the run is done",
    "padding_free": "does nothing in TRL since 0.29",
    "dtype": "the precision follows bf16 and the device",
    "torch_dtype": "the precision follows bf16 and the device",
    "bnb_4bit_quant_type": "always NF4",
    "use_bnb_nested_quant": "always on",
    "lora_task_type": "always causal language modelling",
    "eval_strategy": "evaluation follows eval_split and eval_steps",
    "save_strategy": "checkpoints follow save_steps",
    "logging_strategy": "metrics follow logging_steps",
    "logging_first_step": "the first step is logged",
    "do_eval": "evaluation follows eval_split",
    "do_train": "training is what a run does",
    "dataset_test_split": "evaluation uses eval_split or eval_dataset",
    "overwrite_output_dir": "a run never overwrites another",
    "disable_tqdm": "progress is shown by dpo-tui",
}
# Where TRL's command line differs from our defaults (DPOConfig, ModelConfig and TrainingArguments, trl 1.16).
DEFAULTS: dict[str, Any] = {
    "use_lora": False,
    "lora_alpha": 32,
    "learning_rate": 1e-6,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "warmup_ratio": 0.0,
    "logging_steps": 10,
    "save_steps": 500,
    "eval_split": 0.0,
}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "model_name_or_path" in raw or "dataset_name" in raw


def convert(raw: Mapping[str, Any]) -> Conversion:
    """Read a `trl dpo` file; unknown keys stay as they are, so that they are reported as unknown."""
    conversion = Conversion()
    for key, value in raw.items():
        if key in RENAMED:
            conversion.take(key, RENAMED[key], value)
        elif key in {"warmup_steps", "warmup_ratio"}:
            _warmup(conversion, key, value)
        elif key == "report_to":
            trackers(conversion, key, value, raw)
        elif key == "load_in_8bit":
            conversion.drop(key, "8-bit weights are not offered; use_4bit is")
        elif key in DROPPED and key not in fields():
            conversion.drop(key, DROPPED[key])
        else:
            conversion.take(key, key, value)
    conversion.fill_in(DEFAULTS, "TRL")
    return conversion


def _warmup(conversion: Conversion, key: str, value: Any) -> None:
    share = warmup_share(value)
    if share is not None:
        conversion.take(key, "warmup_ratio", share)
    else:
        conversion.drop(key, "a number of steps; dpo-tui has warmup_ratio, a part of all steps")
