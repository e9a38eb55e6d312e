"""Small random models of families whose weights have other names, or other shapes, in files than in memory."""

import shutil
from pathlib import Path
from typing import Any

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1}
_LATENT = {
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
_LINEAR = {
    "num_hidden_layers": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_GEMMA = {**_SHAPE, "query_pre_attn_scalar": 16, "sliding_window": 256}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "gemma3",
        {
            "text_config": {"model_type": "gemma3_text", **_GEMMA},
            "vision_config": {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **_VISION},
            "mm_tokens_per_image": 4,
            "image_token_index": 10,
            "boi_token_index": 11,
            "eoi_token_index": 12,
        },
    ),
    "gemma3_text": ("gemma3_text", _GEMMA),
    "gpt_neox": ("gpt_neox", _SHAPE),
    "mixtral": ("mixtral", {**_SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "olmoe": ("olmoe", {**_SHAPE, "num_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("qwen2_moe", {**_SHAPE, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("qwen3_moe", {**_SHAPE, **_EXPERTS}),
    "qwen3_next": ("qwen3_next", {**_SHAPE, **_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 16}),
    "deepseek_v2": ("deepseek_v2", {**_SHAPE, **_ROUTED, **_LATENT, "q_lora_rank": None}),
    "deepseek_v3": ("deepseek_v3", {**_SHAPE, **_ROUTED, **_LATENT, "q_lora_rank": 16, "n_group": 2, "topk_group": 1}),
    "glm4_moe": ("glm4_moe", {**_SHAPE, **_ROUTED, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}),
    "qwen3_5": (
        "qwen3_5",
        {
            "text_config": {"model_type": "qwen3_5_text", **_SHAPE, **_LINEAR},
            "vision_config": {"model_type": "qwen3_5_vision", "depth": 1, "hidden_size": 32, "intermediate_size": 64,
                              "num_heads": 2, "out_hidden_size": 32, "patch_size": 14},
        },
    ),
}  # fmt: skip
"""For each name the ``model_type`` and what its config is made from."""


def make_model(name: str, folder: Path, tokenizer_of: Path) -> Path:
    """Write the model, with the tokenizer of another one, for which its vocabulary is made."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    kind, settings = SETTINGS[name]
    size = {"vocab_size": len(AutoTokenizer.from_pretrained(tokenizer_of)), "pad_token_id": 0, "eos_token_id": 1}
    parts = settings | ({} if "text_config" in settings else size)
    if "text_config" in settings:
        parts = parts | {"text_config": settings["text_config"] | size}
    torch.manual_seed(0)
    # Whole, as it is published: AutoModelForCausalLM makes Qwen 3.5 without its vision tower.
    make = AutoModelForImageTextToText if "vision_config" in settings else AutoModelForCausalLM
    make.from_config(AutoConfig.for_model(kind, **parts), dtype=torch.float32).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_of / file, folder)
    return folder
