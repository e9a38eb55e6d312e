"""Axolotl's YAML (`axolotl train FILE`) with `rl: dpo` or `rl: kto`, or without `rl` for stage one."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.axolotl_datasets import convert_datasets
from dpo_tui.config.dialects.axolotl_warmup import fill_in_warmup
from dpo_tui.config.dialects.best_checkpoint_keys import BEST_CHECKPOINT
from dpo_tui.config.dialects.conversion import (
    EXPORT,
    LONG_ROWS,
    ONE_GPU,
    OWN_FOLDER,
    Conversion,
    Convert,
    adapter,
    base_of_adapter,
    convert_keys,
    half_precision,
    held_out,
    number,
    switch,
    text_list,
    warmup,
)
from dpo_tui.config.dialects.interval_keys import INTERVALS
from dpo_tui.config.dialects.reference_free import arguments_of, setting_of_strategy, without_reference
from dpo_tui.config.dialects.stage_one_keys import (
    eight_bit_table,
    evaluation_packing,
    every_token,
    is_stage_one,
    packing,
    train_answers,
)
from dpo_tui.config.dialects.strategy_and_loss import loss, no_supervised_loss, strategy, supervised_loss
from dpo_tui.config.schema import fields

RENAMED = {
    "revision_of_model": "model_revision",
    "sequence_len": "max_seq_length",
    "micro_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "num_epochs": "num_train_epochs",
    "dpo_label_smoothing": "label_smoothing",
    "kto_desirable_weight": "desirable_weight",
    "kto_undesirable_weight": "undesirable_weight",
    "peft_use_rslora": "use_rslora",
    "peft_use_dora": "use_dora",
    "lora_modules_to_save": "modules_to_save",
    "dataset_processes": "dataset_num_proc",
    "dpo_use_weighting": "use_weighting",
    "noisy_embedding_alpha": "neftune_noise_alpha",
}
DROPPED = {
    "output_dir": OWN_FOLDER,
    "model_type": "the model's own config says what it is",
    "tokenizer_type": "the model's own tokenizer is used",
    "strict": "all weights must be there",
    "trust_remote_code": "code from the hub is never run",
    "save_safetensors": "weights are always safetensors",
    "dataset_prepared_path": "rows are tokenised for each run",
    "lora_fan_in_fan_out": "PEFT knows which layers need it",
    "pad_to_sequence_len": "batches are padded to their longest pair",
    "float16": "the precision follows bf16, fp16 and the device",
    "bfloat16": "the precision follows bf16, fp16 and the device",
    "xformers_attention": "attention is chosen by attn_implementation",
    "sdp_attention": "SDPA is the default",
    "resume_from_checkpoint": "`dpo-tui resume` finds the checkpoint",
    "local_rank": ONE_GPU,
    "ddp": ONE_GPU,
    "deepspeed": ONE_GPU,
    "fsdp": ONE_GPU,
    "fsdp_config": ONE_GPU,
    "eval_table_size": "the sampled answers are kept in samples.jsonl",
    "eval_max_new_tokens": "the sampled answers follow sample_max_new_tokens",
    "debug": "train.log has everything",
    "is_llama_derived_model": "the model's own config says what it is",
    "is_mistral_derived_model": "the model's own config says what it is",
    "hub_model_id": EXPORT,
    "hub_strategy": EXPORT,
    "lora_mlp_kernel": "a faster kernel for the same numbers",
    "lora_qkv_kernel": "a faster kernel for the same numbers",
    "lora_o_kernel": "a faster kernel for the same numbers",
    "lora_on_cpu": "the adapter is on the device",
    "dpo_use_logits_to_keep": "the LM head is computed only where a token is scored",
    "dpo_padding_free": "does nothing in TRL since 0.29",
    "dpo_generate_during_eval": "answers are sampled while a run trains: sample_prompts, in [eval]",
    "max_prompt_len": "sequence_len limits prompt and answer together",
    "hf_use_auth_token": "`hf auth login`, or HF_TOKEN in the environment",
    "is_falcon_derived_model": "the model's own config says what it is",
    "is_qwen_derived_model": "the model's own config says what it is",
    "sample_packing_eff_est": "pairs are not packed",
    "total_num_tokens": "rows are counted for each run",
    "shuffle_merged_datasets": "rows are shuffled, by seed",
    "skip_prepare_dataset": "rows are tokenised for each run",
    "remove_unused_columns": "the columns of the rows are chosen by dpo-tui",
    "use_tensorboard": 'metrics are shown by dpo-tui; report_to = ["tensorboard"] adds it',
    "bench_dataset": "`dpo-tui eval` and `dpo-tui judge` measure a run",
    "do_bench_eval": "`dpo-tui eval` and `dpo-tui judge` measure a run",
    "plugins": "no code of others is loaded",
    "chat_template": "the tokenizer's own chat template is used; a Jinja file can be named",
    "chat_template_jinja": "the tokenizer's own chat template is used; a Jinja file can be named",
}
OPTIMIZERS = {"adamw_bnb_8bit": "adamw_8bit", "adamw_hf": "adamw_torch"}
# Where Axolotl differs from our defaults, or asks for a value that a file may leave out (its utils/schemas, 0.19).
DEFAULTS: dict[str, Any] = {
    "use_lora": False,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 1,
    "num_train_epochs": 1,
    "eval_split": 0.0,
    "max_seq_length": 512,
    "gradient_checkpointing": False,
    "lora_dropout": 0.0,
    "lr_scheduler_type": "cosine",
}
# TRL's own, which Axolotl passes on (its core/builders/rl.py).
METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "orpo": {"beta": 0.1},
    "simpo": {"beta": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 1.0},
}
_TYPICAL_KEYS = {"micro_batch_size", "sequence_len", "num_epochs", "datasets", "adapter", "rl"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return "base_model" in raw and bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read an Axolotl file."""
    conversion = Conversion()
    if not raw.get("rl"):
        conversion.values["strategy"] = "sft"
    foreign = {key for key in raw if key.startswith(("wandb_", "mlflow_", "comet_"))}
    dropped = DROPPED | dict.fromkeys(foreign, "trackers are named in report_to, and set up by their own variables")
    arguments = arguments_of(raw["rl"]) if raw.get("rl") else "SFTConfig"
    convert_keys(conversion, raw, converted=_CONVERTED, renamed=RENAMED, dropped=dropped, arguments=arguments)
    fill_in_warmup(conversion)
    conversion.fill_in(DEFAULTS, "Axolotl")
    if (key := "excess_length_strategy") not in raw:
        conversion.drop(key, f"Axolotl's default, 'drop': {LONG_ROWS}")
    if not _has_plain_text(raw):
        train_answers(conversion, "Axolotl")
    without_reference(conversion, METHOD_DEFAULTS, "Axolotl")
    return conversion


def _rl(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "ipo":
        conversion.take(key, "strategy", "dpo")
        conversion.values["loss_type"] = ["ipo"]
    else:
        strategy(conversion, key, value)


def _long_rows(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.drop(key, LONG_ROWS if str(value).lower() == "truncate" else f"{value}: {LONG_ROWS}")


def _alpha_of_orpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    """Take it as β, whatever the method: Axolotl reads it last, behind trl.beta and rl_beta."""
    if name := _other_beta(raw) or ("rl_beta" if raw.get("rl_beta") is not None else ""):
        conversion.drop(key, f"{name} is given too, and wins")
    elif raw.get("rl"):
        conversion.take(key, "beta", number(value))
    else:
        conversion.drop(key, "is read with rl only")


def _other_beta(raw: Mapping[str, Any]) -> str:
    """The key of a β that wins over rl_beta: that of the table trl; empty where it has none."""
    table = raw.get("trl")
    return "trl.beta" if isinstance(table, Mapping) and table.get("beta") is not None else ""


def _beta(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    winner = _other_beta(raw) or ("rl_beta" if key == "dpo_beta" and raw.get("rl_beta") is not None else "")
    if winner:
        conversion.drop(key, f"{winner} is given too, and wins")
    else:
        conversion.take(key, "beta", number(value))


def _of_cpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    setting_of_strategy(conversion, key, value, str(raw.get("rl")), frozenset({"simpo"}))


def _adapter(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if value == "qlora":
        conversion.values["use_4bit"] = True
    if value in {"lora", "qlora"}:
        conversion.take(key, "use_lora", True)
    else:
        conversion.leave_undecided(key, value, "only lora and qlora are offered")


def _four_bit(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    # With adapter: qlora the weights are in 4-bit in any case.
    conversion.take(key, "use_4bit", switch(value) or raw.get("adapter") == "qlora")


def _eight_bit(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        eight_bit_table(conversion, key)
    else:
        conversion.drop(key, "is off")


def _has_plain_text(raw: Mapping[str, Any]) -> bool:
    """Whether a data set is plain text, of which every token is trained."""
    datasets = raw.get("datasets")
    entries = [entry for entry in datasets if isinstance(entry, Mapping)] if isinstance(datasets, list) else []
    return any(str(entry.get("type")) == "completion" for entry in entries)


def _on_inputs(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if not is_stage_one(conversion):
        conversion.drop(key, "only the answers are scored")
    elif switch(value):
        every_token(conversion, key)
    else:
        conversion.drop(key, "is off")


def _per_epoch(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    ours, otherwise = {
        "evals_per_epoch": ("eval_strategy", "five evaluations a run, or eval_steps"),
        "saves_per_epoch": ("save_strategy", "checkpoints follow save_steps"),
    }[key]
    if number(value) == 1:
        conversion.take(key, ours, "epoch")
    else:
        conversion.drop(key, otherwise)


def _linear(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.take(key, "lora_target_modules", ["all-linear"])
    else:
        conversion.drop(key, "is off")


def _modules(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if switch(raw.get("lora_target_linear")):
        conversion.drop(key, "lora_target_linear covers every linear layer")
    else:
        conversion.take(key, "lora_target_modules", text_list(value))


def _bf16(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, key, value in {"auto", "full"} or switch(value))


def _flash(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.take(key, "attn_implementation", "flash_attention_2")
    else:
        conversion.drop(key, "is off")


def _optimizer(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.other("optim", OPTIMIZERS.get(str(value), value), shown=key)


def _checkpointing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.take(key, key, switch(value))
    if value in {"offload", "offload_disk"}:
        conversion.values["activation_offloading"] = True


def _held_out(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    held_out(conversion, key, value, fields()["eval_split"].default)


def _dpo_loss(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    loss(conversion, key, text_list(value))


def _dpo_weights(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("dpo_loss_type"):
        conversion.take(key, "loss_weights", [number(one) for one in (value if isinstance(value, list) else [value])])
    else:
        conversion.leave_undecided(key, value, "dpo_loss_type does not say for which losses")


def _rpo(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if raw.get("rl") == "kto":
        no_supervised_loss(conversion, key, value)
        return
    names = text_list(raw["dpo_loss_type"]) if raw.get("dpo_loss_type") else ["sigmoid"]
    supervised_loss(conversion, key, value, ["ipo"] if raw.get("rl") == "ipo" else names)


def _normed(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if switch(value):
        conversion.leave_undecided(key, value, 'loss_type = ["sigmoid_norm"], in [dpo], is DPO per token')
    else:
        conversion.drop(key, "is off")


def _special_tokens(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    tokens = value if isinstance(value, Mapping) else {}
    if not tokens:
        conversion.drop(key, "is empty")
    for name, token in tokens.items():
        if name == "pad_token" and token:
            conversion.pass_on(f"{key}.{name}", "trl", "pad_token", str(token))
        elif token:
            conversion.leave_undecided(
                f"{key}.{name}", token, "the tokenizer's own is used: change it in the model's tokenizer_config.json"
            )
        else:
            conversion.drop(f"{key}.{name}", "is empty")


def _own_tokenizer(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if value == raw.get("base_model"):
        conversion.drop(key, "the model's own is used")
    else:
        conversion.leave_undecided(key, value, "the model's own is used: copy the other into the model's folder")


def _min_rate(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.values["lr_scheduler_type"] = "cosine_with_min_lr"
    conversion.pass_on(key, "trl", "lr_scheduler_kwargs", {"min_lr_rate": number(value)})


def _schedule(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if not raw.get("cosine_min_lr_ratio"):
        conversion.other("lr_scheduler_type", value, shown=key)
    elif value == "cosine":
        conversion.take(key, "lr_scheduler_type", "cosine_with_min_lr", "with cosine_min_lr_ratio")
    else:
        conversion.leave_undecided(key, value, "cosine_min_lr_ratio is given too, and is for cosine")


def _layers(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    conversion.pass_on(key, "peft", {"peft_layers_to_transform": "layers_to_transform"}[key], value)


def _trl_table(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    for name, item in value.items() if isinstance(value, Mapping) else ():
        if item is None:
            conversion.drop(f"{key}.{name}", "is empty")
        else:
            conversion.other(name, item, shown=f"{key}.{name}")


def _datasets(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    convert_datasets(conversion, key, value)


_CONVERTED: dict[str, Convert] = {
    **BEST_CHECKPOINT,
    **INTERVALS,
    "evals_per_epoch": _per_epoch,
    "saves_per_epoch": _per_epoch,
    "sample_packing": packing,
    "eval_sample_packing": evaluation_packing,
    "train_on_inputs": _on_inputs,
    "rl": _rl,
    "rl_beta": _beta,
    "dpo_beta": _beta,
    "excess_length_strategy": _long_rows,
    "orpo_alpha": _alpha_of_orpo,
    "simpo_gamma": _of_cpo,
    "cpo_alpha": _of_cpo,
    "base_model": partial(base_of_adapter, adapter_key="lora_model_dir"),
    "lora_model_dir": adapter,
    "adapter": _adapter,
    "load_in_4bit": _four_bit,
    "load_in_8bit": _eight_bit,
    "lora_target_linear": _linear,
    "lora_target_modules": _modules,
    "bf16": _bf16,
    "flash_attention": _flash,
    "optimizer": _optimizer,
    "lr_scheduler": _schedule,
    "cosine_min_lr_ratio": _min_rate,
    "gradient_checkpointing": _checkpointing,
    "val_set_size": _held_out,
    "datasets": _datasets,
    "test_datasets": _datasets,
    "fp16": half_precision,
    "warmup_steps": warmup,
    "warmup_ratio": warmup,
    "dpo_loss_type": _dpo_loss,
    "dpo_loss_weights": _dpo_weights,
    "dpo_norm_loss": _normed,
    "rpo_alpha": _rpo,
    "special_tokens": _special_tokens,
    "base_model_config": _own_tokenizer,
    "tokenizer_config": _own_tokenizer,
    "peft_layers_to_transform": _layers,
    "trl": _trl_table,
}
