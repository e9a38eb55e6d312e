"""LLaMA-Factory's YAML (`llamafactory-cli train FILE`), stages dpo, kto and sft; keys as of its 0.9.x."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.best_checkpoint_keys import BEST_CHECKPOINT
from dpo_tui.config.dialects.conversion import (
    EXPORT,
    ONE_GPU,
    OWN_FOLDER,
    Conversion,
    Convert,
    KeyOutcome,
    adapter,
    base_of_adapter,
    convert_keys,
    half_precision,
    held_out,
    number,
    switch,
    text_list,
    trackers,
    warmup,
)
from dpo_tui.config.dialects.interval_keys import INTERVALS
from dpo_tui.config.dialects.llama_factory_datasets import convert_datasets, take_sample_limit
from dpo_tui.config.dialects.reference_free import setting_of_strategy, without_reference
from dpo_tui.config.dialects.stage_one_keys import (
    eight_bit_table,
    every_token,
    is_stage_one,
    last_answer,
    packing,
    train_answers,
)
from dpo_tui.config.dialects.strategy_and_loss import (
    REFERENCE_FREE,
    loss,
    no_supervised_loss,
    strategy,
    supervised_loss,
    unpaired_loss,
)
from dpo_tui.config.schema import fields

RENAMED = {
    "cutoff_len": "max_seq_length",
    "lora_rank": "lora_r",
    "pref_beta": "beta",
    "kto_chosen_weight": "desirable_weight",
    "kto_rejected_weight": "undesirable_weight",
    "dpo_label_smoothing": "label_smoothing",
    "preprocessing_num_workers": "dataset_num_proc",
    "run_name": "name",
    "ref_model_adapters": "ref_adapter",
}
DROPPED = {
    "output_dir": OWN_FOLDER,
    "overwrite_output_dir": "a run never overwrites another",
    "trust_remote_code": "code from the hub is never run",
    "template": "the tokenizer's own chat template is used; chat_template takes a Jinja file",
    "do_train": "training is what a run does",
    "do_eval": "evaluation follows eval_split",
    "dataset_dir": "the dataset was looked up there",
    "media_dir": "models are trained on text",
    "plot_loss_smoothing": "the curves are shown while the run goes",
    "print_param_status": "the run says how many weights are trained",
    "streaming": "rows are read from disk as they are needed",
    "buffer_size": "rows are read from disk as they are needed",
    "data_shared_file_system": ONE_GPU,
    "preprocessing_batch_size": "changes nothing in the rows",
    "upcast_layernorm": "the precision follows bf16, fp16 and the device",
    "upcast_lmhead_output": "the precision follows bf16, fp16 and the device",
    "use_reentrant_gc": "chosen by TRL",
    "cache_dir": "HF_HOME, in the environment, says where downloads are kept",
    "hf_hub_token": "`hf auth login`, or HF_TOKEN in the environment",
    "ms_hub_token": "models come from the Hugging Face hub",
    "om_hub_token": "models come from the Hugging Face hub",
    "export_dir": "`dpo-tui export --to DIR`",
    "swanlab_project": "trackers are named in report_to",
    "infer_backend": "is for chatting with a model",
    "eval_on_each_dataset": "is for several evaluation sets",
    "overwrite_cache": "rows are tokenised for each run",
    "plot_loss": "the curves are shown while the run goes, and exported with it",
    "ddp_timeout": ONE_GPU,
    "deepspeed": ONE_GPU,
    "fsdp": ONE_GPU,
    "fsdp_config": ONE_GPU,
    "resume_from_checkpoint": "`dpo-tui resume` finds the checkpoint",
    "logging_strategy": "metrics follow logging_steps",
    "pure_bf16": "frozen weights are held in bfloat16 anyway",
    "quantization_method": "4-bit weights are bitsandbytes NF4",
    "double_quantization": "always on",
    "enable_liger_kernel": "deprecated in TRL",
    "tokenized_path": "rows are tokenised for each run",
    "create_new_adapter": "each run trains a new adapter",
    "include_num_input_tokens_seen": "tokens are counted",
    "use_fast_tokenizer": "fast tokenizers are used where there is one",
    "low_cpu_mem_usage": "always on",
    "push_to_hub": EXPORT,
    "hub_model_id": EXPORT,
}
ATTENTION = {
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
    "sdpa": "sdpa",
    "disabled": "eager",
    "auto": "auto",
}
_DEFAULT_STAGE = "sft"
# Where LLaMA-Factory's command line differs from our defaults (its argument classes and transformers', 0.9.5).
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
# Of its losses without a reference, in its own code: cpo_alpha is pref_ftx, whose default is 0.
METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "orpo": {"beta": 0.1},
    "simpo": {"beta": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 0.0},
}
_BITSANDBYTES = {"bnb", "bitsandbytes"}
_TYPICAL_KEYS = {"stage", "finetuning_type", "pref_beta", "pref_loss", "cutoff_len", "lora_rank"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "model_name_or_path" in raw and bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read a LLaMA-Factory file, with the dataset_info.json that it names its data by."""
    conversion = Conversion()
    stage = str(raw.get("stage") or _DEFAULT_STAGE)
    if stage == "sft":
        conversion.values["strategy"] = "sft"
    if not raw.get("stage"):
        conversion.outcomes.append(
            KeyOutcome("strategy", "filled in", "strategy", f"LLaMA-Factory's default, stage: {_DEFAULT_STAGE}", "sft")
        )
    datasets: dict[str, Convert] = {
        "dataset": partial(_dataset, folder=folder),
        "eval_dataset": partial(_dataset, folder=folder),
    }
    if _reference_free(raw):
        datasets["dpo_label_smoothing"] = _smoothing
    arguments = {"kto": "KTOConfig", "sft": "SFTConfig"}.get(stage, "DPOConfig")
    converted = {**_CONVERTED, **datasets}
    convert_keys(conversion, raw, converted=converted, renamed=RENAMED, dropped=DROPPED, arguments=arguments)
    conversion.fill_in(DEFAULTS, "LLaMA-Factory")
    train_answers(conversion, "LLaMA-Factory")
    without_reference(conversion, METHOD_DEFAULTS, "LLaMA-Factory")
    return conversion


def _dataset(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any], *, folder: Path) -> None:
    convert_datasets(conversion, key, value, raw, folder)


def _reference_free(raw: Mapping[str, Any]) -> str:
    """The loss of stage dpo that is a strategy here; empty for any other."""
    name = str(raw.get("pref_loss") or "")
    return name if raw.get("stage") == "dpo" and name in REFERENCE_FREE else ""


def _stage(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if name := _reference_free(raw):
        conversion.drop(key, f"pref_loss: {name} is a strategy here")
    else:
        strategy(conversion, key, value)


def _finetuning(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value in {"lora", "full"}:
        conversion.take(key, "use_lora", value == "lora")
    else:
        conversion.leave_undecided(key, value, "only lora and full are offered")


def _target(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    names = text_list(value)
    conversion.take(key, "lora_target_modules", ["all-linear"] if names == ["all"] else names)


def _modules(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "modules_to_save", text_list(value))


def _loss(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("stage") == "kto":
        unpaired_loss(conversion, key, [str(value)])
        return
    extra = number(raw.get("pref_ftx") or 0.0)
    if value in REFERENCE_FREE and not _reference_free(raw):
        conversion.drop(key, "is read in stage dpo only")
        return
    why = "TRL fine-tunes on prompt and chosen answer, LLaMA-Factory on the answer alone" if value == "orpo" else ""
    loss(conversion, key, [str(value), "sft"] if extra and value not in REFERENCE_FREE else [str(value)], why)


def _supervised(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    method = _reference_free(raw)
    if raw.get("stage") == "kto":
        no_supervised_loss(conversion, key, value)
    elif not method:
        supervised_loss(conversion, key, value, [str(raw.get("pref_loss") or "sigmoid")])
    elif method == "simpo":
        conversion.take(key, "cpo_alpha", number(value), "TRL takes its mean over all tokens of a micro-batch")
    elif number(value):
        conversion.leave_undecided(key, value, "ORPO fine-tunes on the chosen answers already; beta weighs the rest")
    else:
        conversion.drop(key, "is 0")


def _simpo_gamma(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    setting_of_strategy(conversion, key, value, _reference_free(raw), frozenset({"simpo"}))


def _smoothing(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.drop(key, f"is read with other losses than {_reference_free(raw)}")


def _bits(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if number(value) == 4:  # noqa: PLR2004 - bits
        conversion.take(key, "use_4bit", True)
    elif number(value) == 8 and str(raw.get("quantization_method") or "bnb") in _BITSANDBYTES:  # noqa: PLR2004
        eight_bit_table(conversion, key)
    else:
        conversion.leave_undecided(key, value, "such weights are not offered; use_4bit is, and 8 bits of bitsandbytes")


def _trained_tokens(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if not is_stage_one(conversion):
        conversion.drop(key, "only the answer is scored")
    elif not switch(value):
        conversion.drop(key, "is off")
    elif key == "mask_history":
        last_answer(conversion, key)
    else:
        every_token(conversion, key)


def _attention(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "attn_implementation", ATTENTION.get(str(value), value))


def _unsloth(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "provider", "unsloth" if switch(value) else "huggingface")


def _no_checkpointing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "gradient_checkpointing", not switch(value))


def _held_out(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    held_out(conversion, key, value, fields()["eval_split"].default)


def _initialisation(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.leave_undecided(key, value, "PiSSA changes the base model's weights, which are the reference too")
    else:
        conversion.drop(key, "is off")


def _samples(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if _count_of_datasets(raw) > 1:
        conversion.leave_undecided(key, value, "is the rows of each data set; ours, in [data], is for all together")
    else:
        take_sample_limit(conversion, key, value)


def _mix(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    """``concat`` takes all rows, ``interleave_under`` ends with the first data set that does, as dataset_weights."""
    count = _count_of_datasets(raw)
    if count <= 1:
        conversion.drop(key, "is for several data sets")
    elif value == "concat":
        conversion.drop(key, "all rows of each data set are used without dataset_weights")
    elif value != "interleave_under":
        conversion.leave_undecided(key, value, "repeats rows of small data sets; dataset_weights uses no row twice")
    elif raw.get("interleave_probs"):
        conversion.drop(key, "interleave_probs are the weights")
    else:
        conversion.take(key, "dataset_weights", [1.0] * count)


def _mix_weights(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    strategy_of_mix = raw.get("mix_strategy") or "concat"
    if _count_of_datasets(raw) <= 1:
        conversion.drop(key, "is for several data sets")
    elif strategy_of_mix == "concat":
        conversion.drop(key, "does nothing with mix_strategy concat")
    elif strategy_of_mix == "interleave_under":
        conversion.take(key, "dataset_weights", [number(weight) for weight in text_list(value)])
    else:
        conversion.leave_undecided(key, value, f"belongs to mix_strategy {strategy_of_mix}")


def _count_of_datasets(raw: Mapping[str, Any]) -> int:
    return len(text_list(raw.get("dataset") or []))


_CONVERTED: dict[str, Convert] = {
    **BEST_CHECKPOINT,
    **INTERVALS,
    "packing": packing,
    "neat_packing": packing,
    "mask_history": _trained_tokens,
    "train_on_prompt": _trained_tokens,
    "stage": _stage,
    "finetuning_type": _finetuning,
    "lora_target": _target,
    "additional_target": _modules,
    "pref_loss": _loss,
    "pref_ftx": _supervised,
    "simpo_gamma": _simpo_gamma,
    "quantization_bit": _bits,
    "flash_attn": _attention,
    "use_unsloth": _unsloth,
    "disable_gradient_checkpointing": _no_checkpointing,
    "val_size": _held_out,
    "max_samples": _samples,
    "mix_strategy": _mix,
    "interleave_probs": _mix_weights,
    "model_name_or_path": partial(base_of_adapter, adapter_key="adapter_name_or_path"),
    "adapter_name_or_path": adapter,
    "pissa_init": _initialisation,
    "report_to": trackers,
    "fp16": half_precision,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
}
