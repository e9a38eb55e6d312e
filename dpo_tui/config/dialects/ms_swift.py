"""ms-swift's arguments (`swift rlhf --config FILE`, or a run's args.json), rlhf_type dpo and kto, and `swift sft`."""

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.best_checkpoint_keys import BEST_CHECKPOINT
from dpo_tui.config.dialects.conversion import (
    EXPORT,
    LONG_ROWS,
    ONE_GPU,
    OWN_FOLDER,
    Conversion,
    Convert,
    DataSource,
    adapter,
    base_of_adapter,
    beside,
    convert_keys,
    half_precision,
    held_out,
    number,
    take_sources,
    text_list,
    trackers,
    warmup,
)
from dpo_tui.config.dialects.interval_keys import INTERVALS
from dpo_tui.config.dialects.reference_free import arguments_of, setting_of_strategy, without_reference
from dpo_tui.config.dialects.stage_one_keys import (
    eight_bit_table,
    evaluation_packing,
    every_token,
    is_stage_one,
    last_answer,
    packing,
    train_answers,
)
from dpo_tui.config.dialects.strategy_and_loss import loss, no_supervised_loss, strategy, supervised_loss, unpaired_loss
from dpo_tui.config.schema import fields

_RENAMED = {
    "max_length": "max_seq_length",
    "lora_rank": "lora_r",
    "lorap_lr_ratio": "loraplus_lr_ratio",
    "run_name": "name",
    "ref_adapters": "ref_adapter",
}
_PRECISION = "the precision follows bf16, fp16 and the device"
_SHAPE = "the shape of the rows is recognised by itself"
_DROPPED = {
    "model_type": "the model's own config says what it is",
    "task_type": "always causal language modelling",
    "template": "the tokenizer's own chat template is used; a Jinja file can be named in [model]",
    "template_type": "the tokenizer's own chat template is used; a Jinja file can be named in [model]",
    "template_backend": "the tokenizer's own chat template is used",
    "torch_dtype": _PRECISION,
    "dtype": _PRECISION,
    "bnb_4bit_compute_dtype": _PRECISION,
    "bnb_4bit_quant_type": "always NF4",
    "bnb_4bit_use_double_quant": "always on",
    "output_dir": OWN_FOLDER,
    "add_version": OWN_FOLDER,
    "logging_dir": OWN_FOLDER,
    "use_hf": "models and data come from the Hugging Face hub",
    "hub_token": "`hf auth login`, or HF_TOKEN in the environment",
    "push_to_hub": EXPORT,
    "hub_model_id": EXPORT,
    "dataset_shuffle": "rows are shuffled, by seed",
    "train_dataloader_shuffle": "rows are shuffled, by seed",
    "load_from_cache_file": "rows are tokenised for each run",
    "lazy_tokenize": "rows are tokenised for each run",
    "streaming": "rows are read from disk as they are needed",
    "strict": "rows that cannot be used are named",
    "model_author": "is asked of no model here",
    "save_safetensors": "weights are always safetensors",
    "logging_strategy": "metrics follow logging_steps",
    "ddp_backend": ONE_GPU,
    "ddp_timeout": ONE_GPU,
    "deepspeed": ONE_GPU,
    "device_map": ONE_GPU,
    "max_memory": ONE_GPU,
    "local_rank": ONE_GPU,
    "global_world_size": ONE_GPU,
    "local_world_size": ONE_GPU,
    "rank": ONE_GPU,
    "freeze_vit": "models are trained on text",
    "freeze_aligner": "models are trained on text",
    "freeze_llm": "the adapter, or every weight, is trained",
    "quant_method": "4-bit weights are bitsandbytes NF4",
    "truncation_strategy": LONG_ROWS,
    "create_checkpoint_symlink": OWN_FOLDER,
    "rescale_image": "models are trained on text",
    "acc_strategy": "accuracy is of the answers' tokens",
    "predict_with_generate": "answers are sampled while a run trains: sample_prompts, in [eval]",
    "ignore_args_error": "an argument that is not known is named",
    "swift_version": "of the tool itself",
    "ref_model_type": "the reference is the model that training starts from",
}
# Where ms-swift's command line differs from our defaults (its argument classes, 3.12 to 4.6).
_DEFAULTS: dict[str, Any] = {
    "use_lora": True,
    "per_device_train_batch_size": 1,
    "lora_r": 8,
    "lora_alpha": 32,
    "num_train_epochs": 3,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.0,
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "eval_split": 0.0,
    "logging_steps": 5,
    "save_steps": 500,
}
_EFFECTIVE_BATCH = 16
"""Up to which gradients are accumulated where the file does not say how often."""
# Its documentation of --beta, --simpo_gamma and --cpo_alpha.
_METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "orpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 1.0},
    "cpo": {"beta": 0.1, "cpo_alpha": 1.0},
}
_ATTENTION = {
    "flash_attn": "flash_attention_2",
    "flash_attention_2": "flash_attention_2",
    "flash_attention_3": "flash_attention_3",
    "sdpa": "sdpa",
    "eager": "eager",
    "flex_attention": "flex_attention",
}
_TYPICAL_KEYS = {"rlhf_type", "train_type", "tuner_type", "sft_type", "split_dataset_ratio", "quant_bits"}
_MODEL_KEYS = {"model", "model_id_or_path"}
# PATH:SUBSET1/SUBSET2#COUNT; a path on Windows has a colon too, and is no dataset of a hub.
_DATASET = re.compile(r"^(?:(?P<hub>HF|MS)::)?(?P<path>[^:#]+)(?::(?P<subset>[^#:]+))?(?:#(?P<count>\d+))?$")


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return bool(_MODEL_KEYS & raw.keys()) and bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read a file of arguments."""
    conversion = Conversion()
    if not raw.get("rlhf_type"):
        conversion.values["strategy"] = "sft"

    def dataset(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
        _datasets(conversion, key, text_list(value), folder)

    converted = {**_CONVERTED, "dataset": dataset, "val_dataset": dataset}
    arguments = arguments_of(raw["rlhf_type"]) if raw.get("rlhf_type") else "SFTConfig"
    convert_keys(conversion, raw, converted=converted, renamed=_RENAMED, dropped=_DROPPED, arguments=arguments)
    conversion.fill_in(_DEFAULTS, "ms-swift")
    batch = conversion.values["per_device_train_batch_size"]
    derived: dict[str, Any] = {"learning_rate": 1e-4 if conversion.values["use_lora"] else 1e-5}
    if isinstance(batch, int) and batch > 0:
        derived["gradient_accumulation_steps"] = max(1, math.ceil(_EFFECTIVE_BATCH / batch))
    conversion.fill_in(derived, "ms-swift")
    if "max_seq_length" not in conversion.values:
        longest = f"ms-swift's default is the model's own limit; max_seq_length is {fields()['max_seq_length'].default}"
        conversion.drop("max_length", longest)
    train_answers(conversion, "ms-swift")
    without_reference(conversion, _METHOD_DEFAULTS, "ms-swift")
    return conversion


def _datasets(conversion: Conversion, key: str, names: list[str], folder: Path) -> None:
    sources, counts = [], []
    for name in names:
        found = _DATASET.match(name)
        path = found["path"] if found else name
        subset = (found["subset"] or "") if found else ""
        local = beside(folder, path)
        sources.append(DataSource(str(local) if local.exists() else path, "" if subset == "default" else subset))
        counts.append(int(found["count"]) if found and found["count"] else None)
    if not sources:
        conversion.drop(key, "is empty")
        return
    if key == "val_dataset":
        places = [source.place for source in sources]
        conversion.take(key, "eval_dataset", places if len(places) > 1 else places[0])
        return
    take_sources(conversion, key, sources)
    if len(sources) == 1 and counts[0]:
        conversion.take(f"{key}#{counts[0]}", "max_samples", counts[0], "the first so many rows")
    elif any(counts):
        limits = [count or 0 for count in counts]
        conversion.leave_undecided(f"{key}_counts", limits, "rows of each; max_samples is for all data sets")


def _rlhf(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    strategy(conversion, key, value)


def _of_cpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    wanted = frozenset({"simpo"} if key == "simpo_gamma" else {"cpo", "simpo"})
    setting_of_strategy(conversion, key, value, str(raw.get("rlhf_type")), wanted)


def _tuner(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value in {"lora", "full", "qlora"}:
        conversion.take(key, "use_lora", value != "full")
    else:
        conversion.leave_undecided(key, value, "only lora and full are offered")


def _targets(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    names = text_list(value)
    conversion.take(key, "lora_target_modules", ["all-linear"] if names in (["ALL"], ["all"]) else names)


def _bits(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if number(value) == 4:  # noqa: PLR2004 - bits
        conversion.take(key, "use_4bit", True)
    elif number(value) == 8 and str(raw.get("quant_method") or "bnb") == "bnb":  # noqa: PLR2004
        eight_bit_table(conversion, key)
    elif number(value):
        conversion.leave_undecided(key, value, "such weights are not offered; use_4bit is, and 8 bits of bitsandbytes")
    else:
        conversion.drop(key, "is off")


def _attention(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "attn_implementation", _ATTENTION.get(str(value), value))


def _held_out(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    held_out(conversion, key, value, fields()["eval_split"].default)


def _loss(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("rlhf_type") == "kto":
        unpaired_loss(conversion, key, text_list(value))
    else:
        loss(conversion, key, text_list(value))


def _rpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("rlhf_type") == "kto":
        no_supervised_loss(conversion, key, value)
    else:
        supervised_loss(conversion, key, value, text_list(raw.get("loss_type") or ["sigmoid"]))


def _adapter(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if value:
        adapter(conversion, key, value, raw)
    else:
        conversion.drop(key, "is empty")


def _system(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.leave_undecided(key, value, "one for all rows: write it into the data, as a column system")


def _columns(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    ours = {
        "query": "prompt_field",
        "response": "chosen_field",
        "rejected_response": "rejected_field",
        "system": "system_field",
    }
    ours |= {"prompt": "prompt_field", "messages": "prompt_field"}
    for column, role in value.items() if isinstance(value, Mapping) else ():
        if role in ours and column not in {"prompt", "chosen", "rejected", "system", "messages"}:
            conversion.take(f"{key}.{column}", ours[role], column)
        else:
            conversion.drop(f"{key}.{column}", _SHAPE)


def _scale(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if is_stage_one(conversion) and value == "all":
        every_token(conversion, key)
    elif is_stage_one(conversion) and value == "last_round":
        last_answer(conversion, key)
    elif is_stage_one(conversion) and value == "default":
        conversion.drop(key, "every answer is trained")
    elif value in {"default", "last_round"}:
        conversion.drop(key, "only the answer is scored")
    else:
        conversion.leave_undecided(key, value, "tokens of the answer count alike")


def _initialisation(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if str(value).lower() == "true":
        conversion.drop(key, "is the default")
    else:
        conversion.pass_on(key, "peft", "init_lora_weights", value)


_CONVERTED: dict[str, Convert] = {
    **BEST_CHECKPOINT,
    **INTERVALS,
    "packing": packing,
    "eval_packing": evaluation_packing,
    "rlhf_type": _rlhf,
    "simpo_gamma": _of_cpo,
    "cpo_alpha": _of_cpo,
    "train_type": _tuner,
    "tuner_type": _tuner,
    "sft_type": _tuner,
    "target_modules": _targets,
    "lora_target_modules": _targets,
    "quant_bits": _bits,
    "quantization_bit": _bits,
    "attn_impl": _attention,
    "split_dataset_ratio": _held_out,
    "loss_type": _loss,
    "rpo_alpha": _rpo,
    **dict.fromkeys(_MODEL_KEYS, partial(base_of_adapter, adapter_key="adapters")),
    "adapters": _adapter,
    "system": _system,
    "columns": _columns,
    "loss_scale": _scale,
    "init_weights": _initialisation,
    "fp16": half_precision,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
    "report_to": trackers,
}
