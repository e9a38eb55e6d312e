"""Axolotl's YAML (`axolotl train FILE`) with `rl: dpo`, or without `rl` for stage one."""

from collections.abc import Callable, Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import ONE_GPU, OWN_FOLDER, Conversion, held_out, number, warmup
from dpo_tui.config.schema import fields

RENAMED = {
    "base_model": "model_name",
    "revision_of_model": "model_revision",
    "sequence_len": "max_seq_length",
    "micro_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "num_epochs": "num_train_epochs",
    "lr_scheduler": "lr_scheduler_type",
    "rl_beta": "beta",
    "dpo_beta": "beta",
    "dpo_label_smoothing": "label_smoothing",
    "peft_use_rslora": "use_rslora",
    "peft_use_dora": "use_dora",
    "lora_modules_to_save": "modules_to_save",
    "val_set_size": "eval_split",
    "attn_implementation": "attn_implementation",
    "dataset_processes": "dataset_num_proc",
    "dpo_use_weighting": "use_weighting",
}
DROPPED = {
    "output_dir": OWN_FOLDER,
    "model_type": "the model's own config says what it is",
    "tokenizer_type": "the model's own tokenizer is used",
    "tokenizer_config": "the model's own tokenizer is used",
    "strict": "all weights must be there",
    "trust_remote_code": "code from the hub is never run",
    "save_safetensors": "weights are always safetensors",
    "dataset_prepared_path": "rows are tokenised for each run",
    "lora_fan_in_fan_out": "PEFT knows which layers need it",
    "pad_to_sequence_len": "batches are padded to their longest pair",
    "sample_packing": "pairs are not packed",
    "eval_sample_packing": "pairs are not packed",
    "train_on_inputs": "only the answers are scored",
    "fp16": "the precision follows bf16 and the device",
    "float16": "the precision follows bf16 and the device",
    "bfloat16": "the precision follows bf16 and the device",
    "tf32": "the precision follows bf16 and the device",
    "xformers_attention": "attention is chosen by attn_implementation",
    "sdp_attention": "SDPA is the default",
    "gradient_checkpointing_kwargs": "chosen by TRL",
    "resume_from_checkpoint": "`dpo-tui resume` finds the checkpoint",
    "local_rank": ONE_GPU,
    "ddp": ONE_GPU,
    "deepspeed": ONE_GPU,
    "fsdp": ONE_GPU,
    "fsdp_config": ONE_GPU,
    "special_tokens": "the tokenizer's own are used",
    "evals_per_epoch": "five evaluations a run, or eval_steps",
    "saves_per_epoch": "checkpoints follow save_steps",
    "evaluation_strategy": "evaluation follows eval_split and eval_steps",
    "eval_strategy": "evaluation follows eval_split and eval_steps",
    "save_strategy": "checkpoints follow save_steps",
    "eval_table_size": "the sampled answers are kept in samples.jsonl",
    "eval_max_new_tokens": "the sampled answers follow sample_max_new_tokens",
    "early_stopping_patience": "kl_stop is the only early stop",
    "debug": "train.log has everything",
    "is_llama_derived_model": "the model's own config says what it is",
    "is_mistral_derived_model": "the model's own config says what it is",
    "hub_model_id": "use `dpo-tui export --push` when the run is done",
    "hub_strategy": "use `dpo-tui export --push` when the run is done",
    "plugins": "no code of others is loaded",
    "chat_template": "the tokenizer's own chat template is used; a Jinja file can be named",
    "chat_template_jinja": "the tokenizer's own chat template is used; a Jinja file can be named",
    "cosine_min_lr_ratio": "the schedule falls to zero",
}
OPTIMIZERS = {"adamw_bnb_8bit": "adamw_8bit", "adamw_hf": "adamw_torch"}
# Where Axolotl differs from our defaults, or asks for a value that a file may leave out.
DEFAULTS: dict[str, Any] = {
    "use_lora": False,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 1,
    "num_train_epochs": 1,
    "warmup_ratio": 0.03,
    "eval_split": 0.0,
    "max_seq_length": 512,
    "gradient_checkpointing": False,
    "lora_dropout": 0.0,
    "lr_scheduler_type": "cosine",
}
_TYPICAL_KEYS = {"micro_batch_size", "sequence_len", "num_epochs", "datasets", "adapter", "rl"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "base_model" in raw and bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any]) -> Conversion:
    """Read an Axolotl file; keys that would change the training and have no counterpart are reported as unknown."""
    conversion = Conversion()
    if "rl" not in raw:
        conversion.values["strategy"] = "sft"
    for key, value in raw.items():
        if value is None:
            conversion.drop(key, "is empty")
        elif key in _CONVERTED:
            _CONVERTED[key](conversion, key, value, raw)
        elif key in RENAMED:
            conversion.take(key, RENAMED[key], number(value))
        elif key.startswith(("wandb_", "mlflow_", "comet_")):
            conversion.drop(key, "trackers are named in report_to, and set up by their own variables")
        elif key in DROPPED:
            conversion.drop(key, DROPPED[key])
        else:
            conversion.take(key, key, number(value))
    conversion.fill_in(DEFAULTS, "Axolotl")
    return conversion


def _rl(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value in {"dpo", "ipo"}:
        conversion.take(key, "strategy", "dpo")
        if value == "ipo":
            conversion.values["loss_type"] = ["ipo"]
    else:
        conversion.take(key, key, value, "only dpo and ipo are offered")


def _adapter(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "qlora":
        conversion.values["use_4bit"] = True
    if value in {"lora", "qlora"}:
        conversion.take(key, "use_lora", True)
    else:
        conversion.take(key, key, value, "only lora and qlora are offered")


def _four_bit(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "use_4bit", bool(value))


def _eight_bit(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.drop(key, "8-bit weights are not offered; use_4bit is" if value else "is off")


def _linear(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value:
        conversion.take(key, "lora_target_modules", ["all-linear"])
    else:
        conversion.drop(key, "is off")


def _modules(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("lora_target_linear"):
        conversion.drop(key, "lora_target_linear covers every linear layer")
    else:
        conversion.take(key, "lora_target_modules", value)


def _bf16(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, key, value if isinstance(value, bool) else value in {"auto", "full", "true"})


def _flash(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value:
        conversion.take(key, "attn_implementation", "flash_attention_2")
    else:
        conversion.drop(key, "is off")


def _optimizer(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "optim", OPTIMIZERS.get(str(value), value))


def _checkpointing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, key, bool(value))


def _held_out(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    held_out(conversion, key, value, fields()["eval_split"].default)


def _datasets(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    entries = [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    if not entries or not entries[0].get("path"):
        conversion.take(key, key, value, "expected a list of entries with a path")
        return
    first = entries[0]
    files = first.get("data_files")
    files = [files] if isinstance(files, str) else list(files or [])
    # A generic loader's name (`path: json`) stands for its data_files.
    place = (
        str(files[0])
        if files and (first.get("ds_type") or first["path"] in {"json", "csv", "parquet"})
        else first["path"]
    )
    why = f"the first of {len(entries)}: join them into one file to train on all" if len(entries) > 1 else ""
    conversion.take(key, "dataset" if key == "datasets" else "eval_dataset", str(place), why)
    if key == "datasets":
        for name, ours in (("split", "dataset_split"), ("name", "dataset_config")):
            if first.get(name) and not files:
                conversion.take(f"{key}[0].{name}", ours, first[name])
        for name, ours in (("field_chosen", "chosen_field"), ("field_rejected", "rejected_field")):
            if first.get(name) and first[name] != ours.removesuffix("_field"):
                conversion.take(f"{key}[0].{name}", ours, first[name])
        others = sorted(
            set(first) - {"path", "split", "name", "data_files", "ds_type", "field_chosen", "field_rejected"}
        )
        for name in others:
            conversion.drop(f"{key}[0].{name}", "the shape of the rows is recognised by itself")


_CONVERTED: dict[str, Callable[[Conversion, str, Any, Mapping[str, Any]], None]] = {
    "rl": _rl,
    "adapter": _adapter,
    "load_in_4bit": _four_bit,
    "load_in_8bit": _eight_bit,
    "lora_target_linear": _linear,
    "lora_target_modules": _modules,
    "bf16": _bf16,
    "flash_attention": _flash,
    "optimizer": _optimizer,
    "gradient_checkpointing": _checkpointing,
    "val_set_size": _held_out,
    "datasets": _datasets,
    "test_datasets": _datasets,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
}
