"""[model]: what is trained."""

from typing import Literal

from dpo_tui.config.setting import Section, setting


class ModelSection(Section):
    """The model and how its weights are held in memory."""

    model_name: str = setting(
        ...,
        "model",
        "A Hugging Face hub id, such as meta-llama/Llama-3.1-8B-Instruct, or a local folder.",
        min_length=1,
    )
    provider: Literal["huggingface", "unsloth"] = setting(
        "huggingface",
        "provider",
        "Which stack trains: huggingface (transformers, TRL, PEFT) or unsloth, in an environment of its own.",
    )
    use_4bit: bool = setting(
        False,
        "4-bit weights",
        "Hold the frozen weights in NF4 with double quantisation (QLoRA): about a quarter of the 16-bit memory.",
    )
    bf16: bool = setting(
        True,
        "bfloat16",
        "Compute in bfloat16 where the device can (NVIDIA Ampere or newer); an older GPU falls back to fp16 and the "
        "CPU to fp32, and the run says so.",
    )
    model_revision: str | None = setting(
        None, "revision", "Branch, tag or commit of the hub repository.", advanced=True
    )
    attn_implementation: Literal[
        "auto", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"
    ] = setting(
        "auto",
        "attention",
        "Which attention code runs. auto leaves it to transformers (SDPA). flex_attention trains on GPUs only; with "
        "FlashAttention no prompts are shared.",
        advanced=True,
    )
    chat_template: str | None = setting(
        None,
        "chat template",
        "A Jinja file to use instead of the tokenizer's own template. A tokenizer without one gets ChatML, and the run "
        "says so.",
        advanced=True,
    )
