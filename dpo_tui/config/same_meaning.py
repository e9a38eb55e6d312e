"""Which setting an unknown name means: names of other tools by their meaning, and misspellings by one letter or two.

A name that is a real key of another tool is no misspelling of ours, however near the letters are: `rpo_alpha` is not
`lora_alpha`, `deepspeed` not `seed`. So the table comes first, and the distance that counts as a slip is small.
"""

from collections.abc import Iterable

SAME_SETTING = {
    "model_name_or_path": "model_name",
    "base_model": "model_name",
    "model": "model_name",
    "model_id": "model_name",
    "model_id_or_path": "model_name",
    "llm_backbone": "model_name",
    "pretrained_model_name_or_path": "model_name",
    "revision": "model_revision",
    "revision_of_model": "model_revision",
    "ref_model_name_or_path": "ref_model",
    "reference_model": "ref_model",
    "ref_model_adapters": "ref_adapter",
    "dataset_name": "dataset",
    "datasets": "dataset",
    "data": "dataset",
    "data_path": "dataset",
    "train_file": "dataset",
    "subset": "dataset_config",
    "split": "dataset_split",
    "dataset_train_split": "dataset_split",
    "field_prompt": "prompt_field",
    "field_chosen": "chosen_field",
    "field_rejected": "rejected_field",
    "field_system": "system_field",
    "num_samples": "max_samples",
    "max_length": "max_seq_length",
    "max_seq_len": "max_seq_length",
    "model_max_length": "max_seq_length",
    "cutoff_len": "max_seq_length",
    "sequence_len": "max_seq_length",
    "block_size": "max_seq_length",
    "max_prompt_length": "max_seq_length",
    "load_in_4bit": "use_4bit",
    "qlora": "use_4bit",
    "attn_impl": "attn_implementation",
    "flash_attn": "attn_implementation",
    "flash_attention": "attn_implementation",
    "float16": "fp16",
    "mixed_precision": "bf16",
    "dtype": "bf16",
    "torch_dtype": "bf16",
    "precision": "bf16",
    "pref_beta": "beta",
    "dpo_beta": "beta",
    "rl_beta": "beta",
    "loss": "loss_type",
    "loss_function": "loss_type",
    "dpo_loss_type": "loss_type",
    "pref_loss": "loss_type",
    "dpo_loss_weights": "loss_weights",
    "dpo_label_smoothing": "label_smoothing",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "per_device_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "grad_accumulation": "gradient_accumulation_steps",
    "gradient_accumulation": "gradient_accumulation_steps",
    "accumulation_steps": "gradient_accumulation_steps",
    "lr_scheduler": "lr_scheduler_type",
    "scheduler": "lr_scheduler_type",
    "schedule": "lr_scheduler_type",
    "optimizer": "optim",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "adam_eps": "adam_epsilon",
    "gradient_clip": "max_grad_norm",
    "warmup": "warmup_ratio",
    "warmup_proportion": "warmup_ratio",
    "num_warmup_steps": "warmup_steps",
    "activation_checkpointing": "gradient_checkpointing",
    "train_sampling_strategy": "group_by_length",
    "use_peft": "use_lora",
    "lora": "use_lora",
    "r": "lora_r",
    "rank": "lora_r",
    "lora_rank": "lora_r",
    "target_modules": "lora_target_modules",
    "lora_target": "lora_target_modules",
    "additional_target": "modules_to_save",
    "lora_modules_to_save": "modules_to_save",
    "val_size": "eval_split",
    "val_set_size": "eval_split",
    "validation_size": "eval_split",
    "split_dataset_ratio": "eval_split",
    "val_dataset": "eval_dataset",
    "eval_subset": "eval_dataset_config",
    "dataset_test_split": "eval_dataset_split",
    "dataset_eval_split": "eval_dataset_split",
    "load_best_model_at_end": "load_best",
    "metric_for_best_model": "load_best",
    "early_stopping": "early_stopping_patience",
    "early_stopping_steps": "early_stopping_patience",
    "early_stop_interval": "early_stopping_patience",
    "run_name": "name",
    "experiment_name": "name",
    "project_name": "name",
    "stage": "strategy",
    "rl": "strategy",
    "rlhf_type": "strategy",
    "trainer": "strategy",
    "precompute_ref_logps": "precompute_ref_log_probs",
    "dataset_processes": "dataset_num_proc",
    "preprocessing_num_workers": "dataset_num_proc",
}
"""Names that other tools use for a setting of ours."""

_MIXED_LOSS = (
    'add the loss on the chosen answers by name: loss_type = ["sigmoid", "sft"] and loss_weights = [1.0, {0}], in [dpo]'
)
_BY_TORCH = (
    "several GPUs train together ([compute] gpus, gpu_count), each with the whole model (DDP) or with a part of it: "
    'distributed = "fsdp2"; cpu_offload, use_4bit, gradient_checkpointing and activation_offloading save memory'
)
_STRATEGY = '{0} trains without a reference and is a strategy, not a loss of DPO: strategy = "{1}", in [run]'
_ADAPTER = "the adapter's folder can be model_name, in [model]: it is merged into its base model first"
MEANING = {
    "rpo_alpha": _MIXED_LOSS.format("its value"),
    "pref_ftx": _MIXED_LOSS.format("its value"),
    "orpo_beta": 'ORPO\'s λ is beta, in [dpo], with strategy = "orpo"',
    "orpo_alpha": 'ORPO\'s λ is beta, in [dpo], with strategy = "orpo"',
    "deepspeed": f"DeepSpeed is not used: {_BY_TORCH}",
    "fsdp": 'distributed = "fsdp2", in [compute], divides the model among several GPUs; cpu_offload goes with it',
    "load_in_8bit": "8-bit weights: [model_init] quantization_config = { load_in_8bit = true }",
    "adapter_name_or_path": _ADAPTER,
    "lora_model_dir": _ADAPTER,
    "output_dir": "a run has a folder of its own; `dpo-tui paths` says where",
    "push_to_hub": "`dpo-tui export RUN --push REPO` uploads the result",
    "template": "the tokenizer's own chat template is used; chat_template, in [model], names a Jinja file instead",
}
"""Names that no single setting stands for, and what to do instead."""

LOSS_MEANING = {
    "dpo": 'it is called "sigmoid"',
    "simpo": _STRATEGY.format("SimPO", "simpo"),
    "orpo": _STRATEGY.format("ORPO", "orpo"),
    "cpo": _STRATEGY.format("CPO", "cpo"),
    "kto": 'KTO trains on single answers, each labelled desirable or not: strategy = "kto"; pairs are usable. '
    "apo_zero, and bco_pair, weigh the two answers of a pair apart as KTO does",
    "kto_pair": 'TRL removed it in favour of KTO on single answers, which is strategy = "kto"; pairs are usable. '
    "apo_zero, and bco_pair, weigh the two answers of a pair apart as it did",
    "rpo": _MIXED_LOSS.format("α"),
    "cdpo": 'it is "robust" with label_smoothing, or "exo_pair"',
    "sppo": 'it is called "sppo_hard"',
    "bco": 'it is called "bco_pair"',
    "nca": 'it is called "nca_pair"',
    "exo": 'it is called "exo_pair"',
    "apo": 'there are "apo_zero", where the chosen answers are better than the model, and "apo_down", where not',
    "slic": 'it is called "hinge"',
    "length_norm": 'it is called "sigmoid_norm"',
}
"""Losses of other tools and papers that are no value of loss_type, and what stands for them."""
_LETTERS_FOR_SLIPS = (4, 8)
"""From how many letters on one slip is allowed, and two."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` is a misspelling of; empty where none is within a slip or two.

    One wrong, missing, added or exchanged letter counts as a slip: one is allowed from four letters on, a second from
    eight on. Case, ``-`` and ``_`` do not count.
    """
    from rapidfuzz.distance import OSA

    def letters(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    written = letters(name)
    allowed = sum(len(written) >= letters_needed for letters_needed in _LETTERS_FOR_SLIPS)
    best = ("", allowed + 1)
    for one in known:
        distance = OSA.distance(written, letters(one), score_cutoff=allowed)
        # A digit tells names apart that are otherwise the same: adam_beta1 and adam_beta2.
        same_digits = [c for c in written if c.isdigit()] == [c for c in letters(one) if c.isdigit()]
        if distance < best[1] and (same_digits or distance == 0):
            best = (one, distance)
    return best[0]
