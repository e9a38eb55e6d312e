"""Small random models of families whose attention, dropout, RoPE or experts need care, with the tiny tokenizer."""

import shutil
from pathlib import Path
from typing import Any

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    # Weights of the usual size barely attend, and would forgive a token that sees too much.
    "initializer_range": 0.08,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LONG_FACTORS = [2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def _common(**changes: Any) -> dict[str, Any]:
    return _COMMON | changes


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _common()),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 64,
            "max_position_embeddings": 512,
            "initializer_range": 0.08,
        },
    ),
    "opt": (
        "opt",
        {
            "hidden_size": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 64,
            "max_position_embeddings": 512,
            "init_std": 0.08,
        },
    ),
    "seed_oss": ("seed_oss", _common()),
    "granite-dropout": ("granite", _common(attention_dropout=0.2, attention_multiplier=0.0625)),
    "phi3-longrope": (
        "phi3",
        _common(
            original_max_position_embeddings=64,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 8,
                "long_factor": _LONG_FACTORS,
                "original_max_position_embeddings": 64,
                "factor": 8.0,
            },
        ),
    ),
    "llama-dynamic": (
        "llama",
        _common(
            max_position_embeddings=64,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        ),
    ),
    "mixtral": ("mixtral", _common(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    "qwen3_moe": ("qwen3_moe", _common(**_EXPERTS)),
    "olmoe": ("olmoe", _common(**_EXPERTS)),
    "gpt_oss": (
        "gpt_oss",
        _common(
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=512,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "mistral-win64": ("mistral", _common(sliding_window=64)),
}
"""Kind and settings of each, by name."""


def make_family(name: str, folder: Path, tokenizer: Path, **changes: Any) -> Path:
    """Write the model of a family.

    Args:
        name: of :data:`FAMILIES`.
        folder: to write to.
        tokenizer: folder of the model that has the tokenizer.
        **changes: settings of the config that replace the family's.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    kind, values = FAMILIES[name]
    ids = {"vocab_size": len(AutoTokenizer.from_pretrained(tokenizer)), "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(values | ids | {"pad_token_id": 0} | changes))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            # What a family starts at zero must matter too.
            if parameter.ndim > 1 and not float(parameter.abs().max()):
                parameter.normal_(0, 0.08)
    model.save_pretrained(folder)
    for file in tokenizer.iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copy(file, folder)
    return folder
