"""The basic config of DPO on an 8B model in 4-bit, on which estimates and profiles are tested."""

from typing import Any

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
BASIC: dict[str, Any] = {
    "strategy": "dpo",
    "task": "text-generation",
    "model_name": LLAMA,
    "dataset": "/path/to/preference-data.jsonl",
    "provider": "huggingface",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": 5e-7,
    "lora_r": 16,
    "lora_alpha": 32,
    "use_4bit": True,
    "bf16": True,
}


def config(**values: Any) -> Config:
    """The basic config with the given values changed."""
    return from_values({**BASIC, **values})
