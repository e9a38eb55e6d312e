"""H2O LLM Studio's cfg.yaml, problem types text_dpo_modeling and text_causal_language_modeling: a table a section."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import (
    EXPORT,
    ONE_GPU,
    OWN_FOLDER,
    Conversion,
    Convert,
    DataSource,
    beside,
    convert_keys,
    number,
    switch,
    take_sources,
    text_list,
)
from dpo_tui.config.dialects.stage_one_keys import eight_bit_table
from dpo_tui.config.dialects.strategy_and_loss import REFERENCE_FREE, loss

_SECTIONS = (
    "architecture",
    "augmentation",
    "dataset",
    "environment",
    "prediction",
    "tokenizer",
    "training",
    "logging",
    "hf",
)
_RENAMED = {
    "llm_backbone": "model_name",
    "tokenizer.max_length": "max_seq_length",
    "training.batch_size": "per_device_train_batch_size",
    "training.beta": "beta",
    "training.epochs": "num_train_epochs",
    "training.grad_accumulation": "gradient_accumulation_steps",
    "training.learning_rate": "learning_rate",
    "training.lora": "use_lora",
    "training.lora_alpha": "lora_alpha",
    "training.lora_dropout": "lora_dropout",
    "training.lora_r": "lora_r",
    "training.use_dora": "use_dora",
    "training.use_rslora": "use_rslora",
    "training.weight_decay": "weight_decay",
    "architecture.gradient_checkpointing": "gradient_checkpointing",
    "environment.seed": "seed",
    "prediction.max_length_inference": "sample_max_new_tokens",
}
_TEMPLATE = "the tokenizer's chat template writes the turns and their ends"
_EVALUATION = "held-out pairs are evaluated by their loss and accuracy; `dpo-tui judge` compares answers"
_DROPPED = {
    "output_directory": OWN_FOLDER,
    "dataset.add_bos_token_to_prompt": _TEMPLATE,
    "dataset.add_bos_token_to_answer": _TEMPLATE,
    "dataset.add_eos_token_to_prompt": _TEMPLATE,
    "dataset.add_eos_token_to_answer": _TEMPLATE,
    "dataset.add_eos_token_to_system": _TEMPLATE,
    "dataset.add_prompt_answer_tokens": _TEMPLATE,
    "dataset.text_prompt_start": _TEMPLATE,
    "dataset.text_answer_separator": _TEMPLATE,
    "dataset.text_system_start": _TEMPLATE,
    "dataset.text_rejected_answer_separator": _TEMPLATE,
    "dataset.chatbot_author": "is asked of no model here",
    "dataset.chatbot_name": "is asked of no model here",
    "dataset.mask_prompt_labels": "only the answers are scored",
    "dataset.only_last_answer": "only the answers are scored",
    "dataset.personalize": "is asked of no model here",
    "dataset.id_column": "rows need no ids",
    "dataset.data_sample_choice": "is for data_sample",
    "dataset.validation_strategy": "told with validation_size",
    "environment.deepspeed_method": ONE_GPU,
    "environment.deepspeed_reduce_bucket_size": ONE_GPU,
    "environment.deepspeed_stage3_param_persistence_threshold": ONE_GPU,
    "environment.deepspeed_stage3_prefetch_bucket_size": ONE_GPU,
    "environment.deepspeed_allgather_bucket_size": ONE_GPU,
    "environment.deepspeed_stage3_max_live_parameters": ONE_GPU,
    "environment.deepspeed_stage3_max_reuse_distance": ONE_GPU,
    "environment.use_deepspeed": ONE_GPU,
    "environment.find_unused_parameters": ONE_GPU,
    "environment.gpus": "[compute] gpus chooses",
    "environment.huggingface_branch": "model_revision names a branch",
    "environment.mixed_precision": "told with mixed_precision_dtype",
    "environment.trust_remote_code": "code from the hub is never run",
    "logging.logger": "trackers are named in report_to",
    "logging.neptune_project": "trackers are named in report_to",
    "logging.log_step_size": "metrics are logged at every step",
    "logging.log_all_ranks": ONE_GPU,
    "tokenizer.max_length_prompt": "max_length limits prompt and answer together",
    "tokenizer.max_length_answer": "max_length limits prompt and answer together",
    "tokenizer.padding_quantile": "batches are padded to their longest pair",
    "tokenizer.use_fast": "fast tokenizers are used where there is one",
    "tokenizer.tokenizer_kwargs": "the model's own tokenizer is used",
    "tokenizer.add_prompt_answer_tokens": _TEMPLATE,
    "architecture.pretrained": "training starts from the model's weights",
    "training.evaluate_before_training": "held-out pairs are evaluated before the first step",
    "training.evaluation_epochs": "evaluation follows eval_steps",
    "training.save_checkpoint": "checkpoints are made so that a run can resume",
    "training.save_best_checkpoint": "load_best, in [eval], keeps the best by held-out loss, accuracy or margin",
    "training.differential_learning_rate": "is for differential_learning_rate_layers",
    "hf.account_name": EXPORT,
}
_NOT_CLIPPED = 1e9
"""Of max_grad_norm; no gradient is as long."""
# Where LLM Studio's defaults differ from ours (llm_studio/python_configs/text_causal_language_modeling_config.py).
_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "gradient_accumulation_steps": 1,
    "lora_r": 4,
    "lora_alpha": 16,
    "lr_scheduler_type": "cosine",
    "max_seq_length": 512,
    "eval_split": 0.01,
    "warmup_ratio": 0.0,
}
# Those of one kind of problem (text_dpo_modeling_config.py); without a limit, gradients are not clipped.
_DEFAULTS_OF: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.2, "max_grad_norm": 10.0},
    "sft": {"max_grad_norm": _NOT_CLIPPED},
}
_LOSSES = {
    "DPOLoss": "sigmoid",
    "HingeLoss": "hinge",
    "IPOLoss": "ipo",
    "KTOPairLoss": "kto_pair",
    "SimPOLoss": "simpo",
    "CPOLoss": "cpo",
    "RobustDPOLoss": "robust",
}
_OPTIMIZERS = {"AdamW": "adamw_torch", "AdamW8bit": "adamw_8bit", "SGD": "sgd"}
_SCHEDULES = {"Cosine": "cosine", "Linear": "linear", "Constant": "constant"}
_COLUMN_FOR = {
    "prompt_column": ("prompt_field", {"prompt", "instruction"}),
    "answer_column": ("chosen_field", {"chosen"}),
    "rejected_answer_column": ("rejected_field", {"rejected"}),
    "system_column": ("system_field", {"system"}),
}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a file is in this format."""
    return "llm_backbone" in raw and isinstance(raw.get("training") or raw.get("dataset"), Mapping)


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read a cfg.yaml, its tables made flat: ``training.beta``."""
    conversion = Conversion()
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _SECTIONS and isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    _problem_type(conversion, raw.get("problem_type"))
    frame = flat.get("dataset.train_dataframe")
    if frame:
        take_sources(conversion, "dataset.train_dataframe", [DataSource(str(beside(folder, str(frame))))])
    known = {"dataset.train_dataframe", "problem_type"}
    rest = {key: value for key, value in flat.items() if key not in known}
    convert_keys(conversion, rest, converted=_CONVERTED, renamed=_RENAMED, dropped={**_off(rest), **_DROPPED})
    conversion.fill_in(_DEFAULTS, "H2O LLM Studio")
    conversion.fill_in(_DEFAULTS_OF[str(conversion.values.get("strategy", "dpo"))], "H2O LLM Studio")
    if "architecture.backbone_dtype" not in flat:
        conversion.fill_in({"use_4bit": True}, "H2O LLM Studio")
    return conversion


def _off(flat: Mapping[str, Any]) -> dict[str, str]:
    """A reason for every key that has no effect with its value: an augmentation of 0, sampling of the answers."""
    reasons = {key: "is off" for key, value in flat.items() if value in (0, False) or value in ([], {}, [""])}
    reasons |= {key: _EVALUATION for key in flat if key.startswith("prediction.")}
    return reasons


def _problem_type(conversion: Conversion, value: Any) -> None:
    kinds = {"text_dpo_modeling": "dpo", "text_causal_language_modeling": "sft"}
    if value in kinds:
        conversion.take("problem_type", "strategy", kinds[value])
    elif value:
        conversion.leave_undecided("problem_type", value, "only pairs (text_dpo_modeling) and text are trained on")


def _column(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    ours, usual = _COLUMN_FOR[key.partition(".")[2]]
    names = [name for name in text_list(value) if name != "None"]
    sft = conversion.values.get("strategy") == "sft"
    if not names:
        conversion.drop(key, "is empty")
    elif len(names) > 1:
        conversion.leave_undecided(key, names, f"{ours} is one column: join them in the data")
    elif names[0] in usual or (sft and key == "dataset.answer_column"):
        conversion.drop(key, f"`{names[0]}` is recognised by itself")
    else:
        conversion.take(key, ours, names[0])


def _parent(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if str(value) == "None":
        conversion.drop(key, "is empty")
    else:
        why = "rows that belong to one conversation are not joined: write each conversation as messages in one row"
        conversion.leave_undecided(key, value, why)


def _validation(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if str(value) == "None":
        conversion.drop(key, "is empty")
    else:
        conversion.take(key, "eval_dataset", value)


def _held_out(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("dataset.validation_strategy") == "custom":
        conversion.drop(key, "validation_dataframe has the held-out rows")
    else:
        conversion.take(key, "eval_split", number(value))


def _sample(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if number(value) in (1, 1.0):
        conversion.drop(key, "is all of them")
    else:
        conversion.leave_undecided(key, value, "a share of the rows; max_samples, in [data], is a number of them")


def _loss(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if conversion.values.get("strategy") == "sft":
        conversion.drop(key, "the loss of stage one is cross-entropy")
    else:
        name = _LOSSES.get(str(value), str(value))
        if name in REFERENCE_FREE:
            why = f'is strategy = "{name}" here; LLM Studio computes it by code of its own, so check beta and [cpo]'
            conversion.leave_undecided(key, value, why)
        else:
            loss(conversion, key, [name])


def _optimizer(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.other("optim", _OPTIMIZERS.get(str(value), str(value).lower()), shown=key)


def _schedule(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "lr_scheduler_type", _SCHEDULES.get(str(value), str(value).lower()))


def _warmup(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    epochs, warm = number(raw.get("training.epochs", 1)), number(value)
    share = warm / epochs if isinstance(warm, int | float) and isinstance(epochs, int | float) and epochs else math.nan
    if 0 <= share < 1:
        conversion.take(key, "warmup_ratio", round(share, 6), f"{warm:g} of {epochs:g} epochs")
    else:
        conversion.leave_undecided(key, value, "warmup_ratio is a share of all steps, below 1")


def _clip(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if number(value):
        conversion.take(key, "max_grad_norm", number(value))
    else:
        conversion.take(key, "max_grad_norm", _NOT_CLIPPED, "off: no gradient is as long")


def _dtype(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "int4":
        conversion.take(key, "use_4bit", True)
    elif value == "int8":
        eight_bit_table(conversion, key)
    else:
        conversion.drop(key, "the precision follows bf16, fp16 and the device")


def _mixed(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "float16":
        conversion.values["bf16"] = False
        conversion.take(key, "fp16", True)
    else:
        conversion.take(key, "bf16", value == "bfloat16")


def _targets(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    names = text_list(value)
    conversion.take(key, "lora_target_modules", names or ["all-linear"], "" if names else "empty: every linear layer")


def _flash(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.take(key, "attn_implementation", "flash_attention_2")
    else:
        conversion.drop(key, "is off")


def _attention(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "attn_implementation", str(value))


def _name(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "name", str(value)[:64])


def _switched(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    argument = {"training.drop_last_batch": "dataloader_drop_last", "environment.compile_model": "torch_compile"}[key]
    if switch(value):
        conversion.pass_on(key, "trl", argument, True)
    else:
        conversion.drop(key, "is off")


def _workers(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, "dataloader_num_workers", number(value))


def _validation_training(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.leave_undecided(key, value, "held-out rows are not trained on: set eval_split = 0 for all rows")
    else:
        conversion.drop(key, "is off")


def _simpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("training.loss_function") == "SimPOLoss":
        conversion.leave_undecided(key, value, "is SimPO's margin: simpo_gamma, in [cpo]")
    else:
        conversion.drop(key, "is read with SimPOLoss only")


_CONVERTED: dict[str, Convert] = {
    "experiment_name": _name,
    "dataset.prompt_column": _column,
    "dataset.answer_column": _column,
    "dataset.rejected_answer_column": _column,
    "dataset.system_column": _column,
    "dataset.parent_id_column": _parent,
    "dataset.validation_dataframe": _validation,
    "dataset.validation_size": _held_out,
    "dataset.data_sample": _sample,
    "training.loss_function": _loss,
    "training.optimizer": _optimizer,
    "training.schedule": _schedule,
    "training.warmup_epochs": _warmup,
    "training.gradient_clip": _clip,
    "training.lora_target_modules": _targets,
    "training.use_flash_attention_2": _flash,
    "training.attention_implementation": _attention,
    "training.drop_last_batch": _switched,
    "training.train_validation_data": _validation_training,
    "training.simpo_gamma": _simpo,
    "environment.compile_model": _switched,
    "environment.number_of_workers": _workers,
    "environment.mixed_precision_dtype": _mixed,
    "architecture.backbone_dtype": _dtype,
}
