"""The model card that goes with an adapter: what it is, what made it, how to use it."""

from typing import Any

import dpo_tui
from dpo_tui.config.schema import Config
from dpo_tui.plain import printable
from dpo_tui.train.receipt import DataUsed

_SHOWN = (
    "loss",
    "rewards/accuracies",
    "rewards/margins",
    "eval_loss",
    "eval_rewards/accuracies",
    "eval_rewards/margins",
)


def model_card(config: Config, data: DataUsed, results: dict[str, Any]) -> str:
    """Return the card's Markdown, with the hub's YAML head."""
    method = "Direct Preference Optimization" if config.strategy == "dpo" else "supervised fine-tuning"
    what = f"A LoRA adapter (rank {config.lora_r}, alpha {config.alpha})" if config.use_lora else "A model"
    metrics = results.get("metrics", {})
    rows = "\n".join(f"| {name} | {metrics[name]:.4g} |" for name in _SHOWN if name in metrics)
    model = printable(config.model_name, single_line=True)
    return f"""---
base_model: {model}
library_name: {"peft" if config.use_lora else "transformers"}
pipeline_tag: text-generation
tags: [{config.strategy}, trl, dpo-tui]
---

# {printable(config.name or model, single_line=True)}

{what} for `{model}`, trained with {method}
([TRL](https://github.com/huggingface/trl)) by dpo-tui {dpo_tui.__version__}.

## Data

`{printable(data.location, single_line=True)}` ({data.format}), sha256 `{data.sha256 or "not one file"}`.
{data.rows:,} rows; {data.train:,} pairs trained on, {data.held_out:,} held out, {data.unusable:,} unusable,
{data.too_long:,} dropped because the prompt fills {config.max_seq_length:,} tokens.

## Settings

β {config.beta:g} · loss {", ".join(config.loss_type)} · learning rate {config.learning_rate:g} ·
effective batch {config.effective_batch} · {results.get("steps", "?")} steps · seed {config.seed} ·
{"NF4 4-bit base" if config.use_4bit else "16- or 32-bit base"} · longest sequence {config.max_seq_length:,} tokens.

## Results

| metric | last value |
|---|---|
{rows}

## Use

{_usage(config, model)}
"""


def _usage(config: Config, model: str) -> str:
    load = (
        f'base = AutoModelForCausalLM.from_pretrained("{model}")\n'
        'model = PeftModel.from_pretrained(base, "THIS FOLDER")'
        if config.use_lora
        else 'model = AutoModelForCausalLM.from_pretrained("THIS FOLDER")'
    )
    imports = "from peft import PeftModel\n" if config.use_lora else ""
    return f"```python\n{imports}from transformers import AutoModelForCausalLM, AutoTokenizer\n\n{load}\n```"
