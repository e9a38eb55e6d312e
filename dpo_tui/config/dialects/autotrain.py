"""AutoTrain Advanced's YAML (`autotrain --config FILE`), tasks llm-dpo and llm-sft: tables data, params and hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import (
    EXPORT,
    ONE_GPU,
    Conversion,
    Convert,
    DataSource,
    beside,
    convert_keys,
    number,
    switch,
    take_sources,
    text_list,
    warmup,
)
from dpo_tui.config.dialects.interval_keys import INTERVALS
from dpo_tui.config.dialects.stage_one_keys import eight_bit_table
from dpo_tui.config.dialects.strategy_and_loss import strategy

_PARAMETERS = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "lr": "learning_rate",
    "gradient_accumulation": "gradient_accumulation_steps",
    "scheduler": "lr_scheduler_type",
    "dpo_beta": "beta",
    "warmup_proportion": "warmup_ratio",
    "model_ref_revision": "model_revision",
    "lora_r": "lora_r",
    "merge_adapter": "merge_at_end",
}
_DROPPED = {
    "backend": "a run trains on this machine",
    "padding": "batches are padded to their longest pair",
    "max_prompt_length": "model_max_length limits prompt and answer together",
    "max_completion_length": "model_max_length limits prompt and answer together",
    "add_eos_token": "the tokenizer's chat template ends the turns",
    "auto_find_batch_size": "a run that is out of memory is tried again with half the batch",
    "distributed_backend": ONE_GPU,
    "trainer": "told with task",
    "username": EXPORT,
    "token": "`hf auth login`, or HF_TOKEN in the environment",
    "push_to_hub": EXPORT,
    "chat_template": "the tokenizer's own chat template is used; a Jinja file can be named in [model]",
}
_BLOCK = 1024
"""Longest row in tokens where ``block_size`` is not given (``configure_block_size``)."""
# Where AutoTrain's parameters differ from our defaults (autotrain/trainers/clm/params.py, 0.8.36).
_DEFAULTS: dict[str, Any] = {
    "use_lora": False,
    "learning_rate": 3e-5,
    "num_train_epochs": 1,
    "lora_alpha": 32,
    "max_seq_length": 1024,
    "eval_split": 0.0,
    "bf16": False,
}
_COLUMNS = {
    "prompt_text_column": "prompt_field",
    "text_column": "chosen_field",
    "rejected_text_column": "rejected_field",
}
_USUAL_COLUMN = {"prompt_field": "prompt", "chosen_field": "chosen", "rejected_field": "rejected"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a file is in this format."""
    task = str(raw.get("task") or "")
    return "base_model" in raw and (task.startswith("llm") or {"params", "project_name"} <= raw.keys())


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read an AutoTrain file."""
    conversion = Conversion()
    tables: dict[str, Any] = {
        name: raw[name] for name in ("data", "params", "hub") if isinstance(raw.get(name), Mapping)
    }
    top = {name: value for name, value in raw.items() if name not in tables}
    convert_keys(conversion, top, converted=_TOP, renamed={}, dropped=_DROPPED)
    if "data" in tables:
        _data(conversion, tables["data"], folder)
    for name in ("params", "hub"):
        convert_keys(
            conversion,
            tables.get(name, {}),
            converted=_CONVERTED if name == "params" else {},
            renamed=_PARAMETERS,
            dropped=_DROPPED,
            prefix=f"{name}.",
        )
    conversion.fill_in(_DEFAULTS, "AutoTrain")
    if conversion.values["use_lora"] and "quantization" not in tables.get("params", {}):
        conversion.fill_in({"use_4bit": True}, "AutoTrain")
    return conversion


def _task(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    name = str(value).removeprefix("llm").lstrip("-:")
    strategy(conversion, key, {"": "sft", "generic": "sft", "default": "sft"}.get(name, name))


def _model(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "model_name", value)


def _name(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "name", str(value)[:64])


def _log(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "none":
        conversion.drop(key, "is off")
    else:
        conversion.take(key, "report_to", [str(value)])


def _data(conversion: Conversion, data: Mapping[str, Any], folder: Path) -> None:
    split, path = str(data.get("train_split") or ""), data.get("path")
    if path:
        take_sources(conversion, "data.path", [_source(beside(folder, str(path)), str(path), split)])
    for key, value in data.items():
        shown = f"data.{key}"
        if key == "path":
            if not value:
                conversion.drop(shown, "is empty")
        elif not value:
            conversion.drop(shown, "is empty")
        elif key == "train_split":
            conversion.drop(shown, "told with data.path" if path else "there is no path")
        elif key == "valid_split":
            conversion.take(shown, "eval_dataset_split", str(value))
        elif key == "column_mapping" and isinstance(value, Mapping):
            _columns(conversion, value)
        elif key in _DROPPED:
            conversion.drop(shown, _DROPPED[key])
        else:
            conversion.other(key, value, shown=shown)


def _source(place: Path, path: str, split: str) -> DataSource:
    """A folder with one file a split, such as data/train.jsonl, or a file, or a dataset of the hub with its split."""
    files = [place / f"{split}{suffix}" for suffix in (".jsonl", ".csv", ".parquet", ".json")]
    found = next((file for file in files if file.is_file()), None)
    if found is not None:
        return DataSource(str(found))
    return DataSource(str(place)) if place.is_file() else DataSource(str(place) if place.exists() else path, "", split)


def _columns(conversion: Conversion, mapping: Mapping[str, Any]) -> None:
    for name, column in mapping.items():
        shown, ours = f"data.column_mapping.{name}", _COLUMNS.get(name)
        if not column:
            conversion.drop(shown, "is empty")
        elif ours is None or (name == "text_column" and "rejected_text_column" not in mapping):
            conversion.drop(shown, "the shape of the rows is recognised by itself")
        elif column == _USUAL_COLUMN[ours]:
            conversion.drop(shown, f"`{column}` is recognised by itself")
        else:
            conversion.take(shown, ours, column)


def _length(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    """block_size limits a row, within the tokenizer's length, which model_max_length lowers."""
    block, model = _whole(raw.get("block_size")), _whole(raw.get("model_max_length"))
    if key.endswith("block_size"):
        if block > 0:
            conversion.take(key, "max_seq_length", min(block, model) if model > 0 else block)
        else:
            conversion.drop(key, "is off")
    elif block > 0:
        conversion.drop(key, "block_size limits prompt and answer together")
    else:
        length = min(model, _BLOCK) if model > 0 else _BLOCK
        conversion.take(key, "max_seq_length", length, f"without block_size a row has at most {_BLOCK:,} tokens")


def _whole(value: Any) -> int:
    found = number(value)
    return int(found) if isinstance(found, int | float) and not isinstance(found, bool) else 0


def _peft(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "use_lora", switch(value))


def _bits(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if str(value) in {"int4", "4", "nf4"} and switch(raw.get("peft")):
        conversion.take(key, "use_4bit", True)
    elif str(value) in {"int8", "8"}:
        eight_bit_table(conversion, key)
    else:
        conversion.drop(key, "is for an adapter (peft: true)" if str(value) == "int4" else "is off")


def _precision(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "bf16":
        conversion.take(key, "bf16", True)
    elif value == "fp16":
        conversion.values["bf16"] = False
        conversion.take(key, "fp16", True)
    else:
        conversion.take(key, "bf16", False, f"{value}: the precision follows bf16, fp16 and the device")


def _targets(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "lora_target_modules", text_list(value))


def _optimizer(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.other("optim", value, shown=key)


def _reference(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if switch(raw.get("peft")):
        conversion.drop(key, "is not read with peft: the reference is the model that training starts from")
    else:
        conversion.take(key, "ref_model", str(value))


def _flash(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.take(key, "attn_implementation", "flash_attention_2")
    else:
        conversion.drop(key, "is off")


def _no_checkpointing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "gradient_checkpointing", not switch(value))


def _logging(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if _whole(value) > 0:
        conversion.take(key, "logging_steps", _whole(value))
    else:
        conversion.drop(key, "is left to AutoTrain; metrics are logged at every step")


_TOP: dict[str, Convert] = {"task": _task, "base_model": _model, "project_name": _name, "log": _log}
_CONVERTED: dict[str, Convert] = {
    **INTERVALS,
    "block_size": _length,
    "model_max_length": _length,
    "peft": _peft,
    "quantization": _bits,
    "mixed_precision": _precision,
    "target_modules": _targets,
    "optimizer": _optimizer,
    "model_ref": _reference,
    "use_flash_attention_2": _flash,
    "disable_gradient_checkpointing": _no_checkpointing,
    "logging_steps": _logging,
    "warmup_ratio": warmup,
    "log": _log,
}
