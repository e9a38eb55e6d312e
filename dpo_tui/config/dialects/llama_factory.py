"""LLaMA-Factory's YAML (`llamafactory-cli train FILE`), stages dpo and sft; keys as of its 0.9.x argument classes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import ONE_GPU, OWN_FOLDER, Conversion, held_out, number, trackers, warmup
from dpo_tui.config.schema import fields

RENAMED = {
    "model_name_or_path": "model_name",
    "cutoff_len": "max_seq_length",
    "lora_rank": "lora_r",
    "pref_beta": "beta",
    "dpo_label_smoothing": "label_smoothing",
    "preprocessing_num_workers": "dataset_num_proc",
    "run_name": "name",
}
DROPPED = {
    "output_dir": OWN_FOLDER,
    "overwrite_output_dir": "a run never overwrites another",
    "trust_remote_code": "code from the hub is never run",
    "template": "the tokenizer's own chat template is used; chat_template takes a Jinja file",
    "do_train": "training is what a run does",
    "do_eval": "evaluation follows eval_split",
    "dataset_dir": "the dataset was looked up there",
    "overwrite_cache": "rows are tokenised for each run",
    "plot_loss": "the curves are shown while the run goes, and exported with it",
    "ddp_timeout": ONE_GPU,
    "deepspeed": ONE_GPU,
    "fsdp": ONE_GPU,
    "fsdp_config": ONE_GPU,
    "save_only_model": "checkpoints hold what a resume needs",
    "resume_from_checkpoint": "`dpo-tui resume` finds the checkpoint",
    "eval_strategy": "evaluation follows eval_split and eval_steps",
    "evaluation_strategy": "evaluation follows eval_split and eval_steps",
    "save_strategy": "checkpoints follow save_steps",
    "logging_strategy": "metrics follow logging_steps",
    "fp16": "the precision follows bf16 and the device",
    "pure_bf16": "frozen weights are held in bfloat16 anyway",
    "quantization_method": "4-bit weights are bitsandbytes NF4",
    "double_quantization": "always on",
    "packing": "pairs are not packed",
    "neat_packing": "pairs are not packed",
    "enable_liger_kernel": "deprecated in TRL",
    "tokenized_path": "rows are tokenised for each run",
    "mask_history": "only the answer is scored",
    "create_new_adapter": "each run trains a new adapter",
    "include_num_input_tokens_seen": "tokens are counted",
    "use_fast_tokenizer": "fast tokenizers are used where there is one",
    "low_cpu_mem_usage": "always on",
    "push_to_hub": "use `dpo-tui export --push` when the run is done",
    "hub_model_id": "use `dpo-tui export --push` when the run is done",
}
ATTENTION = {
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
    "sdpa": "sdpa",
    "disabled": "eager",
    "auto": "auto",
}
# Where LLaMA-Factory's command line differs from our defaults (its argument classes and transformers').
DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "warmup_ratio": 0.0,
    "max_seq_length": 2048,
    "lora_r": 8,
    "lora_dropout": 0.0,
    "eval_split": 0.0,
    "save_steps": 500,
}
_TYPICAL_KEYS = {"stage", "finetuning_type", "pref_beta", "pref_loss", "cutoff_len", "lora_rank"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "model_name_or_path" in raw and bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any]) -> Conversion:
    """Read a LLaMA-Factory file; keys without a counterpart that would change the training are unknown."""
    conversion = Conversion()
    for key, value in raw.items():
        if value is None:
            conversion.drop(key, "is empty")
        elif key in _CONVERTED:
            _CONVERTED[key](conversion, key, value, raw)
        elif key in RENAMED:
            conversion.take(key, RENAMED[key], number(value))
        elif key in DROPPED and key not in fields():
            conversion.drop(key, DROPPED[key])
        else:
            conversion.take(key, key, number(value))
    conversion.fill_in(DEFAULTS, "LLaMA-Factory")
    return conversion


def _stage(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "strategy", value)


def _finetuning(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value in {"lora", "full"}:
        conversion.take(key, "use_lora", value == "lora")
    else:
        conversion.take(key, key, value, "only lora and full are offered")


def _target(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    names = [name.strip() for name in str(value).split(",")]
    conversion.take(key, "lora_target_modules", ["all-linear"] if names == ["all"] else names)


def _modules(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "modules_to_save", [name.strip() for name in str(value).split(",")])


def _loss(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    extra = number(raw.get("pref_ftx") or 0.0)
    conversion.take(key, "loss_type", [value, "sft"] if extra else [value])


def _supervised(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    weight = number(value)
    if not weight:
        conversion.drop(key, "is 0")
        return
    if "pref_loss" not in raw:
        conversion.values["loss_type"] = ["sigmoid", "sft"]
    conversion.take(key, "loss_weights", [1.0, weight], "the weight of the added sft loss")


def _bits(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if number(value) == 4:  # noqa: PLR2004 - bits
        conversion.take(key, "use_4bit", True)
    else:
        conversion.drop(key, f"{value}-bit weights are not offered; use_4bit is")


def _attention(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "attn_implementation", ATTENTION.get(str(value), value))


def _unsloth(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "provider", "unsloth" if value else "huggingface")


def _no_checkpointing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "gradient_checkpointing", not value)


def _held_out(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    held_out(conversion, key, value, fields()["eval_split"].default)


def _dataset(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else [str(name) for name in value]
    place, why = _located(names[0], Path(str(raw.get("dataset_dir") or "data")))
    if len(names) > 1:
        why = f"{why}; the first of {len(names)}: join them into one file to train on all".removeprefix("; ")
    conversion.take(key, key, place, why)


def _located(name: str, folder: Path) -> tuple[str, str]:
    """Look a dataset's name up in LLaMA-Factory's dataset_info.json, where that is at hand."""
    try:
        entry = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError):
        return (
            name,
            f"if it is a name from dataset_info.json (none found in {folder}/), give the file or hub id instead",
        )
    if isinstance(entry, dict) and entry.get("file_name"):
        return str(folder / entry["file_name"]), f"{name} of {folder}/dataset_info.json"
    if isinstance(entry, dict) and entry.get("hf_hub_url"):
        return str(entry["hf_hub_url"]), f"{name} of {folder}/dataset_info.json"
    return name, ""


_CONVERTED = {
    "stage": _stage,
    "finetuning_type": _finetuning,
    "lora_target": _target,
    "additional_target": _modules,
    "pref_loss": _loss,
    "pref_ftx": _supervised,
    "quantization_bit": _bits,
    "flash_attn": _attention,
    "use_unsloth": _unsloth,
    "disable_gradient_checkpointing": _no_checkpointing,
    "val_size": _held_out,
    "dataset": _dataset,
    "eval_dataset": _dataset,
    "report_to": trackers,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
}
