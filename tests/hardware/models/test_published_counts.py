"""Counts of weights as the makers of models publish them, and those that are active with embeddings and LM head."""

from typing import Any

import pytest

from dpo_tui.hardware.models.read_model import from_config

PUBLISHED: dict[str, tuple[dict[str, Any], float, float]] = {
    "Qwen/Qwen3-30B-A3B": (
        {
            "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
            "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
            "vocab_size": 151936, "tie_word_embeddings": False,
        },
        30.53, 3.35,
    ),
    "openai/gpt-oss-20b": (
        {
            "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
            "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 32,
            "num_experts_per_tok": 4, "vocab_size": 201088, "tie_word_embeddings": False,
            "quantization_config": {"quant_method": "mxfp4"},
        },
        20.91, 4.19,
    ),
    "deepseek-ai/DeepSeek-V3": (
        {
            "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
            "num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048,
            "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
            "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
            "v_head_dim": 128, "vocab_size": 129280, "tie_word_embeddings": False,
        },
        671.03, 37.55,
    ),
    "google/gemma-3-4b-it": (
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
                "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
            },
            "vision_config": {
                "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
                "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 896, "patch_size": 14,
                "vision_use_head": False,
            },
        },
        4.30, 3.88,
    ),
    "openai-community/gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
        0.124, 0.124,
    ),
    "tiiuae/falcon-7b": (
        {
            "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
            "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "bias": False,
        },
        6.92, 6.92,
    ),
    "bigscience/bloom-7b1": (
        {"model_type": "bloom", "n_embed": 4096, "n_layer": 30, "num_attention_heads": 32, "vocab_size": 250880},
        7.07, 7.07,
    ),
    "EleutherAI/gpt-j-6b": (
        {
            "model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400,
            "tie_word_embeddings": False,
        },
        6.05, 6.05,
    ),
    "mosaicml/mpt-7b": (
        {"model_type": "mpt", "d_model": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 50432},
        6.65, 6.65,
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", PUBLISHED)
def test_weights_are_as_many_as_published(model: str) -> None:
    config, billions, active = PUBLISHED[model]
    arch = from_config(config, model)
    assert not arch.guessed
    assert arch.parameters / 1e9 == pytest.approx(billions, rel=0.002, abs=0.001)
    assert arch.active_parameters / 1e9 == pytest.approx(active, rel=0.005, abs=0.001)
