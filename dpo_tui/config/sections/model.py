"""[model]: what is trained."""

import math
import re
from typing import Any, Literal

from pydantic import field_validator

from dpo_tui.config.setting import Section, setting

_SHA256 = re.compile(r"[0-9a-f]{64}")
# What the code that renders a template passes itself.
_NOT_TO_SET = {
    "messages",
    "conversation",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "return_dict",
    "return_tensors",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
}


class ModelSection(Section):
    """The model and how its weights are held in memory."""

    model_name: str = setting(
        ...,
        "model",
        "A Hugging Face hub id, such as meta-llama/Llama-3.1-8B-Instruct, or a local folder; or the folder of a LoRA "
        "adapter, as PEFT saves it, which is merged into its base first: that model is then the reference, frozen.",
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
    fp16: bool = setting(
        False,
        "float16",
        "Compute in fp16 on the GPU, with scaled losses, even where it has bfloat16; the CPU computes in fp32. Needs "
        "bf16 = false. A model made in bfloat16 can overflow in it.",
        advanced=True,
    )
    model_revision: str | None = setting(
        None, "revision", "Branch, tag or commit of the hub repository.", advanced=True
    )
    trust_remote_code: str | None = setting(
        None,
        "trusted code",
        "SHA-256 of the Python files of a model that brings code of its own, which may then run; such a model is "
        "refused without it. `dpo-tui train` asks in a terminal, says what it means, and remembers it.",
        advanced=True,
    )
    attn_implementation: Literal[
        "auto", "eager", "sdpa", "flex_attention", "varlen", "flash_attention_2", "flash_attention_3"
    ] = setting(
        "auto",
        "attention",
        "Which attention code runs. auto leaves it to transformers (SDPA). flex_attention trains on GPUs only, and so "
        "does varlen, torch's attention for variable lengths, which shares prompts without a mask; no GPU has tried "
        "either yet. With FlashAttention no prompts are shared.",
        advanced=True,
    )
    chat_template: str | None = setting(
        None,
        "chat template",
        "A Jinja file to use instead of the tokenizer's own template. A tokenizer without one gets ChatML, and the run "
        "says so.",
        advanced=True,
    )
    chat_template_kwargs: dict[str, Any] = setting(
        {},
        "template variables",
        "Values for variables of the chat template, as a table: { enable_thinking = false }. They become the "
        "template's defaults in training, evaluation, judging, chat and export.",
        advanced=True,
    )
    eos_token: str | None = setting(
        None,
        "end-of-text token",
        "The token that ends an answer, if it is not the tokenizer's: for training, chat, and the tokenizer and "
        "generation settings of what is exported.",
        advanced=True,
        min_length=1,
    )

    @field_validator("trust_remote_code", mode="before")
    @classmethod
    def _digest(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, str) and _SHA256.fullmatch(value)):
            raise ValueError(
                "is no switch but the SHA-256 of the code that may run, which `dpo-tui config check` names for a model "
                "that brings code"
            )
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def _variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if not (name.isidentifier() and name.isascii()):
                raise ValueError(f"{name!r} is no name of a variable")
            if name in _NOT_TO_SET:
                raise ValueError(f"{name} is passed by what renders the template, and cannot be set here")
            if not _is_plain(value):
                raise ValueError(f"{name} must be text, a number, true, false, or a list or table of these")
        return values


def _is_plain(value: Any) -> bool:
    """Whether a value can be written into a TOML file and into a template."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
