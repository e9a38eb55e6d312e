"""[training]: the loop."""

from typing import Literal

from dpo_tui.config.setting import Section, setting

Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "adafactor",
    "sgd",
]
# transformers.trainer_utils.SchedulerType; what a schedule needs besides goes into [trl] lr_scheduler_kwargs.
Schedule = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]


class TrainingSection(Section):
    """Epochs, batches and the optimizer."""

    num_train_epochs: float = setting(3, "epochs", "Passes over the data; 2 to 4 is safe.", gt=0, le=1000)
    per_device_train_batch_size: int = setting(
        2, "batch per device", "Pairs in one forward pass. Halve it when memory runs out.", unit="pairs", ge=1, le=4096
    )
    gradient_accumulation_steps: int = setting(
        4,
        "accumulate",
        "Forward passes before a step. Batch × accumulate × processes is the effective batch.",
        ge=1,
        le=65536,
    )
    learning_rate: float = setting(
        5e-7,
        "learning rate",
        "How far each step moves. DPO is sensitive: 1e-7 to 1e-6 is the usual range and 5e-7 the default. With LoRA, "
        "TRL's documentation advises about 5e-6.",
        gt=0,
        le=1,
    )
    warmup_ratio: float = setting(
        0.1, "warm-up ratio", "Part of the steps in which the rate climbs from zero.", ge=0, lt=1
    )
    warmup_steps: int | None = setting(
        None,
        "warm-up steps",
        "The same as a number of steps, instead of warmup_ratio.",
        unit="steps",
        advanced=True,
        ge=0,
    )
    max_steps: int | None = setting(
        None, "steps at most", "Stop after so many steps, whatever the epochs say.", advanced=True, ge=1
    )
    lr_scheduler_type: Schedule = setting("linear", "schedule", "How the rate falls after the warm-up.", advanced=True)
    optim: Optimizer = setting(
        "adamw_torch",
        "optimizer",
        "The 8-bit and paged forms of AdamW need less GPU memory.",
        advanced=True,
    )
    weight_decay: float = setting(0.0, "weight decay", "AdamW's pull towards zero.", advanced=True, ge=0, le=1)
    adam_beta1: float = setting(0.9, "Adam β1", "Memory of the gradient's mean.", advanced=True, ge=0, lt=1)
    adam_beta2: float = setting(0.999, "Adam β2", "Memory of the gradient's square.", advanced=True, ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "Adam ε", "Keeps the division finite.", advanced=True, gt=0, le=1)
    max_grad_norm: float = setting(
        1.0, "gradient clip", "A longer gradient is scaled down to this length.", advanced=True, gt=0
    )
    gradient_checkpointing: bool = setting(
        True,
        "checkpoint activations",
        "Compute activations twice instead of keeping them: much less memory, about 20 % slower.",
        advanced=True,
    )
    group_by_length: bool = setting(
        False, "group by length", "Batch pairs of like length: less padding, but other batches.", advanced=True
    )
    dataloader_num_workers: int = setting(
        0, "loader processes", "Processes that prepare batches.", advanced=True, ge=0, le=64
    )
    logging_steps: int = setting(
        1, "log every", "Steps between two lines of metrics.", unit="steps", advanced=True, ge=1
    )
    save_steps: int = setting(
        100,
        "save every",
        "Steps between two checkpoints, from which a run can resume.",
        unit="steps",
        advanced=True,
        ge=1,
    )
    save_strategy: Literal["steps", "epoch"] = setting(
        "steps",
        "save by",
        "steps saves a checkpoint every save_steps; epoch at the end of each epoch, so that what is lost when a run "
        "ends early may be most of one.",
        advanced=True,
    )
    save_only_model: bool = setting(
        False,
        "checkpoints of weights",
        "Leave optimizer, schedule and random state out of checkpoints: a third of the size or less. A run whose "
        "training is not finished then cannot be resumed from them, and `resume` says so.",
        advanced=True,
    )
    save_total_limit: int = setting(
        2, "checkpoints kept", "Older checkpoints are deleted.", advanced=True, ge=1, le=1000
    )
    seed: int = setting(
        42, "seed", "Same seed, same data order and same first weights.", advanced=True, ge=0, le=2**32 - 1
    )
