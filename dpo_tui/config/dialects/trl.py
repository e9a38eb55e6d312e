"""The YAML of `trl dpo --config FILE`, `trl kto` and `trl sft`: ScriptArguments, trainer arguments, ModelConfig; flat.

Keys are those of trl 1.14–1.16. A file does not name its command: what only KTOConfig, or SFTConfig, has says which it
is for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.best_checkpoint_keys import BEST_CHECKPOINT
from dpo_tui.config.dialects.conversion import (
    EXPORT,
    ONE_GPU,
    OWN_FOLDER,
    Conversion,
    Convert,
    DataSource,
    KeyOutcome,
    convert_keys,
    half_precision,
    number,
    switch,
    take_sources,
    text_list,
    trackers,
    warmup,
)
from dpo_tui.config.dialects.interval_keys import INTERVALS, by_epoch
from dpo_tui.config.dialects.reference_free import setting_of_strategy, without_reference
from dpo_tui.config.dialects.stage_one_keys import eight_bit_table
from dpo_tui.config.dialects.strategy_and_loss import loss, supervised_loss, unpaired_loss
from dpo_tui.config.library_fields import UNKNOWN_DEFAULT, trl_fields
from dpo_tui.config.passthrough_names import REFUSED, SETTING_FOR

RENAMED = {
    "model_name_or_path": "model_name",
    "dataset_name": "dataset",
    "dataset_train_split": "dataset_split",
    "load_in_4bit": "use_4bit",
    "use_peft": "use_lora",
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
    "run_name": "name",
    "lr": "learning_rate",
    "lora_rank": "lora_r",
}
_PRECISION = "the precision follows bf16, fp16 and the device"
DROPPED = {
    "output_dir": OWN_FOLDER,
    "trust_remote_code": "code from the hub is never run",
    "push_to_hub": EXPORT,
    "hub_model_id": EXPORT,
    "padding_free": "does nothing in TRL since 0.29",
    "dtype": _PRECISION,
    "torch_dtype": _PRECISION,
    "bnb_4bit_quant_type": "always NF4",
    "bnb_4bit_quant_storage": "always bytes",
    "use_bnb_nested_quant": "always on",
    "lora_task_type": "always causal language modelling",
    "logging_strategy": "metrics follow logging_steps",
    "logging_first_step": "the first step is logged",
    "do_eval": "evaluation follows eval_split",
    "do_train": "training is what a run does",
    "overwrite_output_dir": "a run never overwrites another",
    "disable_tqdm": "progress is shown by dpo-tui",
    "dataset_streaming": "rows are read from disk as they are needed",
    "ignore_bias_buffers": ONE_GPU,
    "max_prompt_length": "is no part of TRL since 0.29: max_length limits prompt and answer together",
    "max_completion_length": "is no part of TRL since 0.29: max_length limits prompt and answer together",
    "generate_during_eval": "answers are sampled while a run trains: sample_prompts, in [eval]",
    "save_safetensors": "weights are always safetensors",
    "use_legacy_prediction_loop": "is no part of transformers any more",
    "tokenizer_name_or_path": "the model's own tokenizer is used",
    "config": "the command line of `trl dpo` reads it",
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
_ONLY_KTO = {"desirable_weight", "undesirable_weight"}
_ONLY_SFT = {"packing", "packing_strategy", "eval_packing", "completion_only_loss", "assistant_only_loss"}
_KTO_LOSSES = ("kto", "apo_zero_unpaired")


# Of CPOConfig, where they differ from those of our strategies.
METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "cpo": {"beta": 0.1, "cpo_alpha": 1.0},
    "simpo": {"beta": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 1.0},
}
_OF_CPO = ("cpo_alpha", "simpo_gamma")


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "model_name_or_path" in raw or "dataset_name" in raw


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read a file of `trl dpo` or `trl kto`."""
    conversion = Conversion()
    if _is_kto(raw):
        conversion.values["strategy"] = "kto"
    elif _is_stage_one(raw):
        conversion.values["strategy"] = "sft"
    convert_arguments(conversion, raw)
    return conversion


def _is_stage_one(raw: Mapping[str, Any]) -> bool:
    return bool(_ONLY_SFT & raw.keys())


def _is_kto(raw: Mapping[str, Any]) -> bool:
    return bool(_ONLY_KTO & raw.keys()) or raw.get("loss_type") in _KTO_LOSSES


def convert_arguments(
    conversion: Conversion, raw: Mapping[str, Any], more: Mapping[str, Convert] | None = None, tool: str = "TRL"
) -> None:
    """Convert the arguments of TRL in a file.

    Args:
        conversion: receives the outcomes.
        raw: the file.
        more: functions for keys that TRL does not have, or that mean something else.
        tool: name of the tool whose defaults are filled in; they are TRL's.
    """
    convert_keys(
        conversion,
        raw,
        converted={**_CONVERTED, **(more or {})},
        renamed=RENAMED,
        dropped=DROPPED,
        nulls=_nulls(raw),
        arguments=_arguments(raw),
    )
    if conversion.values.get("strategy") == "sft":
        conversion.fill_in({"learning_rate": 2e-5}, tool)  # SFTConfig's
    if _evaluates_by_default_split(conversion, raw):
        conversion.fill_in({"eval_dataset_split": "test"}, tool)
    conversion.fill_in(DEFAULTS, tool)
    without_reference(conversion, METHOD_DEFAULTS, tool)
    if conversion.values.get("use_lora") and "lora_target_modules" not in conversion.values:
        conversion.values["lora_target_modules"] = ["all-linear"]
        why = "every linear layer; without names PEFT chooses by the kind of model, often q_proj and v_proj alone"
        conversion.outcomes.append(KeyOutcome("lora_target_modules", "filled in", "lora_target_modules", why))


def _arguments(raw: Mapping[str, Any]) -> str:
    if _is_kto(raw):
        return "KTOConfig"
    if _is_stage_one(raw):
        return "SFTConfig"
    return "CPOConfig" if _method(raw) else "DPOConfig"


def _method(raw: Mapping[str, Any]) -> str:
    """The strategy of a file for CPOTrainer, which is told by arguments that only CPOConfig has; empty for others.

    ORPOConfig has no argument of its own: such a file is one of DPO here, and ``strategy`` says what it is.
    """
    losses = text_list(raw.get("loss_type") or [])
    if losses in (["simpo"], ["alphapo"]):
        return "simpo"
    return "cpo" if any(raw.get(name) is not None for name in _OF_CPO) else ""


def _of_cpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    method = _method(raw)
    conversion.values.setdefault("strategy", method)
    if text_list(raw.get("loss_type") or []) == ["alphapo"] and key == "cpo_alpha":
        conversion.drop(key, "alphapo sets it to 0")
    else:
        setting_of_strategy(
            conversion, key, value, method, frozenset({"simpo", "cpo"} if key == "cpo_alpha" else {"simpo"})
        )


def _nulls(raw: Mapping[str, Any]) -> dict[str, Convert]:
    """Functions for keys that are null where TRL's own default is something else: null is a value there."""
    known = trl_fields("DPOConfig") or {}
    return {
        key: _null
        for key, value in raw.items()
        if value is None and key in known and known[key].default not in (None, UNKNOWN_DEFAULT)
    }


def _null(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    what = "means no limit" if key == "max_length" else "is not TRL's default"
    conversion.leave_undecided(key, "null", f"null {what}, and cannot be passed on: give a value")


def evaluates(raw: Mapping[str, Any]) -> bool:
    """Whether a file asks for evaluation; YAML reads a bare ``no`` as false."""
    strategies = [raw[name] for name in ("eval_strategy", "evaluation_strategy") if name in raw]
    return any(strategy not in (None, False, "no") for strategy in strategies) or switch(raw.get("do_eval"))


def take_test_split(conversion: Conversion, key: str, split: str, raw: Mapping[str, Any]) -> None:
    """Take the split that is evaluated on, where the file asks for evaluation."""
    if evaluates(raw):
        conversion.take(key, "eval_dataset_split", split)
    else:
        conversion.drop(key, f"{split} is not evaluated on: eval_strategy is no")


def _evaluates_by_default_split(conversion: Conversion, raw: Mapping[str, Any]) -> bool:
    """Whether the split that is evaluated on is the default one, ``test``, of a dataset that has splits."""
    given = {"eval_dataset", "eval_dataset_split", "eval_split"} & conversion.values.keys()
    dataset = conversion.values.get("dataset")
    if given or not isinstance(dataset, str) or not {"dataset_name", "dataset_mixer"} & raw.keys():
        return False
    return evaluates(raw) and not Path(dataset).is_file()


def _test_split(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    take_test_split(conversion, key, str(value), raw)


def _length(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "max_seq_length", number(value))


def _dataset(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "dataset", value)


def _loss(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    names = text_list(value)
    if _is_kto(raw):
        unpaired_loss(conversion, key, names)
    elif names == ["alphapo"]:
        conversion.values["cpo_alpha"] = 0.0
        conversion.take(key, "strategy", "simpo", "AlphaPO is SimPO with cpo_alpha = 0 and alpha, in [trl]")
    else:
        loss(conversion, key, names)


def _rpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    supervised_loss(conversion, key, value, text_list(raw.get("loss_type") or ["sigmoid"]))


def _eight_bit(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        eight_bit_table(conversion, key)
    else:
        conversion.drop(key, "is off")


def _modules(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, {"lora_modules_to_save": "modules_to_save"}.get(key, key), text_list(value))


def _parameters(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.pass_on(key, "peft", "target_parameters", text_list(value))


def _model_init(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping) or not value:
        conversion.drop(key, "is empty") if not value else conversion.leave_undecided(key, value, "is no table")
        return
    for name, item in value.items():
        model_init_argument(conversion, f"{key}.{name}", str(name), item)


def model_init_argument(conversion: Conversion, key: str, name: str, value: Any) -> None:
    """Convert one argument of from_pretrained: a setting of ours, or passed on in [model_init]."""
    ours = {"attn_implementation": "attn_implementation", **SETTING_FOR["model_init"]}.get(name)
    if value is None:
        conversion.drop(key, "is empty")
    elif ours == "bf16":
        conversion.drop(key, _PRECISION)
    elif ours is not None:
        conversion.take(key, ours, value)
    elif name in REFUSED["model_init"]:
        conversion.drop(key, REFUSED["model_init"][name])
    else:
        conversion.pass_on(key, "model_init", name, value)


def _grouped(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if value == "sequential" and _is_kto(raw):
        conversion.drop(key, "is what KTO needs")
    elif value in {"random", "group_by_length"}:
        conversion.take(key, "group_by_length", value == "group_by_length")
    else:
        conversion.leave_undecided(key, value, "rows are shuffled, or grouped by length with group_by_length")


def _steps(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    steps = number(value)
    if name := by_epoch(key, raw):
        conversion.drop(key, f"is not read with {name}: epoch")
    elif key == "max_steps" and steps in (-1, 0):
        conversion.drop(key, "is off")
    elif isinstance(steps, float) and 0 < steps < 1:
        conversion.drop(key, "a share of the steps; give a number, or leave the default")
    elif steps == 0:
        conversion.drop(key, "is off")
    else:
        conversion.take(key, key, int(steps) if isinstance(steps, float) and steps.is_integer() else steps)


def _template(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if "{{" in str(value) or "{%" in str(value):
        conversion.leave_undecided(
            key, value, "is a template itself: write it to a file, and name that as chat_template"
        )
    else:
        conversion.take(key, "chat_template", value)


def _mixture(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """TRL's `datasets:`, a list of sources that are joined."""
    entries = [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    sources = [source_of(entry) for entry in entries]
    if not sources or not all(source.place for source in sources):
        conversion.leave_undecided(key, value, "expected a list of data sets, each with a path")
        return
    take_sources(conversion, key, sources)
    tell_entries(conversion, key, entries)


def source_of(entry: Mapping[str, Any]) -> DataSource:
    """A source from one entry of a mixture, in TRL's words or in the alignment handbook's."""
    files = text_list(entry.get("data_files") or [])
    place = str(entry.get("path") or entry.get("id") or "")
    generic = place in {"json", "csv", "parquet"} and files
    weight = number(entry.get("weight"))
    return DataSource(
        str(files[0]) if generic else place,
        "" if generic else str(entry.get("name") or entry.get("config") or ""),
        str(entry.get("split") or "") if not generic else "",
        float(weight) if isinstance(weight, int | float) else None,
    )


def tell_entries(conversion: Conversion, key: str, entries: list[Mapping[str, Any]]) -> None:
    """Add an outcome for every key of a mixture's entries that is no part of a source."""
    told = {"path", "id", "name", "config", "split", "weight", "data_files"}
    for index, entry in enumerate(entries):
        for name, value in entry.items():
            shown = f"{key}[{index}].{name}"
            if name == "columns":
                conversion.drop(shown, "the columns are recognised by their names; others are left alone")
            elif name not in told and value:
                conversion.leave_undecided(shown, value, "of one source; a config has one for all")


_CONVERTED: dict[str, Convert] = {
    "dataset_test_split": _test_split,
    "max_length": _length,
    "dataset_name": _dataset,
    "datasets": _mixture,
    "fp16": half_precision,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
    "report_to": trackers,
    "loss_type": _loss,
    "rpo_alpha": _rpo,
    "cpo_alpha": _of_cpo,
    "simpo_gamma": _of_cpo,
    "load_in_8bit": _eight_bit,
    **BEST_CHECKPOINT,
    **INTERVALS,
    "lora_target_modules": _modules,
    "lora_modules_to_save": _modules,
    "lora_target_parameters": _parameters,
    "model_init_kwargs": _model_init,
    "ref_model_init_kwargs": _model_init,
    "train_sampling_strategy": _grouped,
    "max_steps": _steps,
    "eval_steps": _steps,
    "save_steps": _steps,
    "logging_steps": _steps,
    "chat_template": _template,
    "chat_template_path": _template,
}
