"""Arguments of the libraries that a config cannot pass on: those with a setting, and why others are refused.

Data of `dpo_tui.config.passthrough` and of the dialects.
"""

from collections.abc import Mapping
from typing import Any

_HUB = "nothing is uploaded while a run trains; `dpo-tui export RUN --push REPO` does it when the run is done"
_SEVERAL_DEVICES = "[compute] gpus, gpu_count and distributed say which GPUs train together, and how"
_CHECKPOINTS = "checkpoints are made so that a run can resume; save_steps and save_total_limit are in [training]"
_RESUME = "`dpo-tui resume RUN` continues from the newest complete checkpoint"
_PROGRESS = "dpo-tui writes metrics and progress itself"
_PRECISION = "the precision follows bf16 and fp16 in [model] and the device"
_ROUNDED = "the evaluation after the last step would round the weights themselves, which are saved behind it"
_PLACED = "the model is loaded whole onto the device that [compute] gpus chooses"
LOGIN = "`hf auth login`, or HF_TOKEN in the environment; a config is kept in the run folder as it is"

SETTING_FOR: Mapping[str, Mapping[str, str]] = {
    "trl": {
        "max_length": "max_seq_length",
        "train_sampling_strategy": "group_by_length",
        "run_name": "name",
        "activation_checkpointing": "gradient_checkpointing",
        "chat_template_path": "chat_template",
        "load_best_model_at_end": "load_best",
        "metric_for_best_model": "load_best",
    },
    "peft": {
        "r": "lora_r",
        "target_modules": "lora_target_modules",
        "revision": "model_revision",
        "base_model_name_or_path": "model_name",
    },
    "model_init": {
        "pretrained_model_name_or_path": "model_name",
        "revision": "model_revision",
        "dtype": "bf16",
        "torch_dtype": "bf16",
        "load_in_4bit": "use_4bit",
    },
}
"""By table: the setting that stands for a library's argument of another name."""

_OF_AN_INITIALISATION = "belongs to an init_lora_weights that changes the base model's weights, or needs data first"
REFUSED: Mapping[str, Mapping[str, str]] = {
    "trl": {
        "output_dir": "a run has a folder of its own; `dpo-tui paths` says where",
        "push_to_hub": _HUB,
        "hub_token": LOGIN,
        "hub_private_repo": _HUB,
        "hub_model_id": _HUB,
        "hub_strategy": _HUB,
        "hub_always_push": _HUB,
        "hub_revision": _HUB,
        "resume_from_checkpoint": _RESUME,
        "ignore_data_skip": "a resumed run trains on the same rows as one that was not interrupted",
        "restore_callback_states_from_checkpoint": _RESUME,
        "trust_remote_code": "code from the hub is never run",
        "remove_unused_columns": "the columns of the rows are chosen by dpo-tui",
        "max_completion_length": "is for models with an encoder; max_seq_length is the limit",
        "is_encoder_decoder": "is for models with an encoder, which dpo-tui does not train",
        "padding_value": "rows are padded with the tokenizer's padding token",
        "generate_during_eval": "sample_prompts in [eval] writes answers while a run trains",
        "dataset_text_field": "the columns of the rows are chosen by dpo-tui",
        "dataset_kwargs": "the rows are tokenised by TRL as it does by default",
        "greater_is_better": "follows from load_best in [eval]: of a loss less is better, of accuracy and margin more",
        "save_on_each_node": _CHECKPOINTS,
        "enable_jit_checkpoint": "`dpo-tui stop`, SIGTERM and SIGINT save a checkpoint",
        "eval_on_start": "held-out pairs are evaluated before the first step",
        "do_train": "training is what a run does",
        "do_eval": "evaluation follows eval_split, eval_dataset and eval_steps in [eval]",
        "do_predict": "`dpo-tui eval RUN` evaluates on other data",
        "logging_strategy": "metrics follow logging_steps in [training]",
        "logging_first_step": "the first step is logged",
        "logging_nan_inf_filter": "a loss that is not finite is shown as it is",
        "disable_tqdm": _PROGRESS,
        "project": "trackers are named by report_to in [run]",
        "auto_find_batch_size": "a run that is out of memory is tried again with half the batch and more accumulation",
        "use_cpu": 'gpus = "none" in [compute] trains on the CPU',
        "local_rank": _SEVERAL_DEVICES,
        "deepspeed": _SEVERAL_DEVICES,
        "fsdp": _SEVERAL_DEVICES,
        "fsdp_config": _SEVERAL_DEVICES,
        "parallelism_config": _SEVERAL_DEVICES,
        "model_init_kwargs": "write them into [model_init]",
        "padding_free": "does nothing for preferences since TRL 0.29; packing, in [sft], fills sequences in stage one",
        "use_liger_kernel": "is deprecated in TRL; the LM head is computed only where a token is scored anyway",
        "liger_kernel_config": "belongs to use_liger_kernel, which is deprecated in TRL",
        "fp16_full_eval": _ROUNDED,
        "bf16_full_eval": _ROUNDED,
        "length_column_name": "lengths are counted; group_by_length in [training] needs no column of them",
        "label_smoothing_factor": "does nothing here; label_smoothing in [dpo] belongs to the losses that have it",
    },
    "peft": {
        "task_type": "is always causal language modelling",
        "peft_type": "is always LORA",
        "inference_mode": "an adapter that is trained is not in inference mode",
        "auto_mapping": "is written by PEFT itself",
        "peft_version": "is written by PEFT itself",
        "megatron_config": "belongs to Megatron, which trains by itself",
        "megatron_core": "belongs to Megatron, which trains by itself",
        "loftq_config": "replaces the base model's own weights, which are also the reference",
        "layer_replication": "makes another model of the base, and the reference with it",
        "arrow_config": "is for several adapters at once",
        "eva_config": _OF_AN_INITIALISATION,
        "corda_config": _OF_AN_INITIALISATION,
        "lora_ga_config": _OF_AN_INITIALISATION,
        "use_qalora": "acts on GPTQ layers alone, and PEFT ignores it on all others without a word",
        "qalora_group_size": "belongs to use_qalora, which acts on GPTQ layers alone",
        "velora_config": "makes an adapter with tensors beside A and B, which no merge here knows",
        "alora_invocation_tokens": "acts behind certain tokens alone, and PEFT allows one forward pass a step for it",
    },
    "model_init": {
        "trust_remote_code": "code from the hub is never run",
        "code_revision": "code from the hub is never run",
        "token": LOGIN,
        "use_auth_token": LOGIN,
        "device_map": _PLACED,
        "max_memory": _PLACED,
        "offload_folder": _PLACED,
        "offload_buffers": _PLACED,
        "device_mesh": _SEVERAL_DEVICES,
        "distributed_config": _SEVERAL_DEVICES,
        "tp_plan": _SEVERAL_DEVICES,
        "tp_size": _SEVERAL_DEVICES,
        "config": "values of the model's config can be written here one by one",
        "state_dict": "the weights are read from the model's files",
        "adapter_kwargs": "no adapter is loaded into the model; merge it first",
        "adapter_name": "no adapter is loaded into the model; merge it first",
        "output_loading_info": "loading reports what is missing anyway",
        "use_cache": "is off while a run trains",
        "tqdm_class": "is an object, which a file cannot hold",
        "subfolder": "the tokenizer would be looked for elsewhere; name the folder itself as model_name",
        "gguf_file": "the tokenizer and the merge read a model in safetensors",
        "weights_only": "no pickled objects are loaded",
        "load_in_8bit": "transformers 5 takes it in a table: quantization_config = { load_in_8bit = true }",
    },
}
"""By table: why an argument that the library has cannot be set."""

SECRETS = frozenset({"hub_token", "hf_token", "hf_hub_token", "token", "use_auth_token", "access_token", "api_key"})
"""Arguments whose values are repeated in no message and no file."""

# PEFT's initialisations that leave the base model's weights as they are and need no data.
PLAIN_INITIALISATIONS: tuple[Any, ...] = (True, False, "gaussian", "orthogonal")

# Values of the model's config.json that classes of transformers read without declaring them.
MODEL_CONFIG_ALIASES = frozenset({"rope_scaling", "rope_theta", "sliding_window", "output_router_logits"})
