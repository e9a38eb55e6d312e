"""Small random models of the families that people train, built with transformers and the demo's tokenizer.

Weights are larger than a fresh model's, so that attention attends and a wrong layout shows in the losses.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.demo.assets import model_dir

_VOCABULARY = 1536
_SPREAD = 0.08  # standard deviation of the weights
_TOKENS = {"vocab_size": _VOCABULARY, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
_LLAMA_LIKE = {
    **_TOKENS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": _SPREAD,
}
_GPT_LIKE = {**_TOKENS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024, "initializer_range": _SPREAD}
_OLD_STYLE = {
    **_TOKENS,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "initializer_range": _SPREAD,
}
_EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED_EXPERTS = {"moe_intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1}
_LATENT_ATTENTION = {
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "head_dim": 8,
}
_DELTA_NET = {
    "num_hidden_layers": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_PIXTRAL = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
    "num_position_embeddings": 16,
}


@dataclass(frozen=True)
class Family:
    """A configuration of a model family.

    Attributes:
        model_type: of transformers.
        options: of its configuration class.
        targets: the modules that get adapters.
        rate: learning rate of the adapters, at which three steps move the loss.
        plain_trl_trains: False where plain TRL fails on it too, so that there is nothing to compare with.
    """

    model_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("all-linear",)
    rate: float = 1e-2
    plain_trl_trains: bool = True


def _llama_like(
    model_type: str, *, targets: tuple[str, ...] = ("all-linear",), rate: float = 1e-2, **options: Any
) -> Family:
    return Family(model_type, {**_LLAMA_LIKE, **options}, targets, rate)


def _rope(**parameters: Any) -> dict[str, Any]:
    return {"max_position_embeddings": 512, "rope_parameters": {"rope_theta": 10000.0, **parameters}}


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

FAMILIES: dict[str, Family] = {
    "llama": _llama_like("llama"),
    "llama-tied": _llama_like("llama", tie_word_embeddings=True),
    "llama-attention-dropout": _llama_like("llama", attention_dropout=0.1),
    "llama-yarn": _llama_like(
        "llama", **_rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=96)
    ),
    "llama3-rope": _llama_like(
        "llama",
        **_rope(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=96,
        ),
    ),
    "llama-dynamic-ntk": _llama_like("llama", max_position_embeddings=96, rope_parameters={
        "rope_theta": 10000.0, "rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 96,
    }),
    "mistral": _llama_like("mistral", sliding_window=4096),
    "mistral-window-64": _llama_like("mistral", sliding_window=64),
    "ministral-window-64": _llama_like("ministral", sliding_window=64),
    "ministral3": _llama_like("ministral3"),
    "mistral3-wrapper": Family(
        "mistral3",
        {
            "text_config": {**_LLAMA_LIKE, "model_type": "mistral", "sliding_window": None},
            "vision_config": _PIXTRAL,
            "image_token_index": 10,
            "spatial_merge_size": 2,
        },
    ),
    "ministral3-wrapper": Family(
        "mistral3",
        {
            "text_config": {**_LLAMA_LIKE, "model_type": "ministral3"},
            "vision_config": _PIXTRAL,
            "image_token_index": 10,
            "spatial_merge_size": 2,
        },
    ),
    "qwen2": _llama_like("qwen2"),
    "qwen2-moe": _llama_like("qwen2_moe", **_EXPERTS, shared_expert_intermediate_size=32),
    "qwen3": _llama_like("qwen3"),
    "qwen3-moe": _llama_like("qwen3_moe", **_EXPERTS),
    "qwen3-next": _llama_like("qwen3_next", rate=5e-2, **_EXPERTS, **_DELTA_NET, shared_expert_intermediate_size=32
    ),
    "qwen3.5-text": _llama_like("qwen3_5_text", rate=5e-2, **_DELTA_NET),
    "qwen3.5-wrapper": Family(
        "qwen3_5",
        {
            "text_config": {**_LLAMA_LIKE, **_DELTA_NET, "model_type": "qwen3_5_text"},
            "vision_config": _QWEN_VISION,
            "image_token_id": 10,
            "video_token_id": 11,
            "vision_start_token_id": 12,
            "vision_end_token_id": 13,
        },
    ),
    "qwen3-vl": Family(
        "qwen3_vl",
        {
            "text_config": {
                **_LLAMA_LIKE,
                "model_type": "qwen3_vl_text",
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            },
            "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0]},
            "image_token_id": 10,
            "video_token_id": 11,
            "vision_start_token_id": 12,
            "vision_end_token_id": 13,
        },
    ),
    "gemma": _llama_like("gemma"),
    "gemma2": _llama_like("gemma2", sliding_window=4096, query_pre_attn_scalar=16),
    "gemma2-window-64": _llama_like("gemma2", sliding_window=64, query_pre_attn_scalar=16),
    "gemma3-text": _llama_like("gemma3_text", sliding_window=512, query_pre_attn_scalar=16),
    "gemma3-text-window-64": _llama_like(
        "gemma3_text", sliding_window=64, num_hidden_layers=6, query_pre_attn_scalar=16
    ),
    "gemma3-wrapper": Family(
        "gemma3",
        {
            "text_config": {
                **_LLAMA_LIKE,
                "model_type": "gemma3_text",
                "sliding_window": 512,
                "query_pre_attn_scalar": 16,
            },
            "vision_config": _SIGLIP,
            "mm_tokens_per_image": 4,
            "image_token_index": 10,
            "boi_token_index": 11,
            "eoi_token_index": 12,
        },
    ),
    "gemma3n-text": _llama_like(
        "gemma3n_text",
        num_hidden_layers=4,
        intermediate_size=[128] * 4,
        vocab_size_per_layer_input=_VOCABULARY,
        hidden_size_per_layer_input=16,
        num_kv_shared_layers=0,
        laurel_rank=8,
        sliding_window=512,
        activation_sparsity_pattern=[0.0] * 4,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        altup_num_inputs=2,
        altup_active_idx=0,
    ),
    "gemma4-text": _llama_like("gemma4_text", rate=3e-2,
        num_hidden_layers=6,
        vocab_size_per_layer_input=_VOCABULARY,
        hidden_size_per_layer_input=16,
        num_kv_shared_layers=0,
        sliding_window=512,
        global_head_dim=16,
    ),
    "phi": _llama_like("phi"),
    "phi3": _llama_like("phi3"),
    "phi3-longrope": _llama_like(
        "phi3",
        **_rope(
            rope_type="longrope",
            short_factor=[1.0] * 8,
            long_factor=[2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            original_max_position_embeddings=96,
            factor=512 / 96,
        ),
        original_max_position_embeddings=96,
    ),
    "smollm3": _llama_like("smollm3", num_hidden_layers=4),
    "granite": _llama_like(
        "granite",
        rate=5e-2,
        attention_multiplier=0.0625,
        logits_scaling=8.0,
        residual_multiplier=0.22,
        embedding_multiplier=12.0,
    ),
    "olmo2": _llama_like("olmo2"),
    "olmo3": _llama_like("olmo3", sliding_window=512, num_hidden_layers=4),
    "olmoe": _llama_like("olmoe", num_experts=4, num_experts_per_tok=2),
    "mixtral": _llama_like("mixtral", **_LOCAL_EXPERTS, sliding_window=None),
    "mixtral-attention-only": _llama_like("mixtral", targets=_ATTENTION, **_LOCAL_EXPERTS, sliding_window=None),
    "mixtral-router-logits": _llama_like(
        "mixtral", **_LOCAL_EXPERTS, sliding_window=None, output_router_logits=True
    ),
    "gpt-oss": _llama_like(
        "gpt_oss", **_LOCAL_EXPERTS, sliding_window=512, layer_types=["sliding_attention", "full_attention"]
    ),
    "deepseek-v2": _llama_like("deepseek_v2", **_ROUTED_EXPERTS, **_LATENT_ATTENTION, q_lora_rank=None),
    "deepseek-v3": _llama_like(
        "deepseek_v3", **_ROUTED_EXPERTS, **_LATENT_ATTENTION, q_lora_rank=24, n_group=2, topk_group=1
    ),
    "glm4": _llama_like("glm4"),
    "glm4-moe": _llama_like(
        "glm4_moe", **_ROUTED_EXPERTS, first_k_dense_replace=1, n_group=1, topk_group=1, use_qk_norm=True
    ),
    "exaone4": _llama_like("exaone4", sliding_window=512, sliding_window_pattern=4),
    "cohere": _llama_like("cohere", rate=5e-2),
    "cohere2": _llama_like("cohere2", rate=3e-2, sliding_window=512, num_hidden_layers=4),
    "apertus": _llama_like("apertus"),
    "hunyuan": _llama_like("hunyuan_v1_dense"),
    "stablelm": _llama_like("stablelm"),
    "nemotron": _llama_like("nemotron"),
    "starcoder2": _llama_like("starcoder2"),
    "seed-oss": _llama_like("seed_oss"),
    "lfm2": _llama_like("lfm2", layer_types=["conv", "full_attention"], block_multiple_of=32),
    "gpt2": Family("gpt2", _GPT_LIKE),
    "gptj": Family("gptj", {**_GPT_LIKE, "rotary_dim": 8}),
    "gpt-neo": Family(
        "gpt_neo",
        {
            **_TOKENS,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 64,
            "max_position_embeddings": 1024,
            "initializer_range": _SPREAD,
        },
    ),
    "gpt-neox": Family("gpt_neox", {**_OLD_STYLE, "intermediate_size": 128}),
    "falcon": Family("falcon", {**_OLD_STYLE, "alibi": False}),
    "falcon-alibi": Family("falcon", {**_OLD_STYLE, "alibi": True}),
    "bloom": Family("bloom", {**_TOKENS, "hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": _SPREAD}),
    "opt": Family("opt", {**_OLD_STYLE, "ffn_dim": 128, "word_embed_proj_dim": 64, "init_std": _SPREAD}),
    "mamba": Family(
        "mamba",
        {**_TOKENS, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "initializer_range": _SPREAD},
        ("in_proj", "x_proj"),
        rate=5e-2,
    ),
    "jamba": Family(
        "jamba",
        {
            **_LLAMA_LIKE,
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
            "mamba_dt_rank": 8,
        },
        _ATTENTION,
    ),
    "falcon-h1": Family(
        "falcon_h1",
        {**_LLAMA_LIKE, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16,
         "mamba_n_groups": 1},
        _ATTENTION,
    ),
    "granite-moe": Family("granitemoe", {**_LLAMA_LIKE, **_LOCAL_EXPERTS}, plain_trl_trains=False),
    "phi-moe": Family("phimoe", {**_LLAMA_LIKE, **_LOCAL_EXPERTS}, plain_trl_trains=False),
    "llama4-text": Family(
        "llama4_text",
        {
            **_LLAMA_LIKE,
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 128,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 8192,
            "interleave_moe_layer_step": 2,
        },
        plain_trl_trains=False,
    ),
}  # fmt: skip

IN_4BIT = (
    "llama", "mistral", "qwen3", "gemma2", "phi3", "glm4", "gpt-neox", "qwen3.5-text", "gpt-oss",
    "mixtral-attention-only", "smollm3", "olmo2", "granite",
)  # fmt: skip
"""Families that are compared with weights in NF4 too."""


def options_of(name: str, **changes: Any) -> dict[str, Any]:
    """What the configuration class of a family is given, with changes; in a wrapper those are of the language model."""
    options = dict(FAMILIES[name].options)
    text = options.get("text_config")
    return options | (changes if text is None else {"text_config": text | changes})


def build(name: str, folder: Path, tokenizer: Path | None = None, **changes: Any) -> Path:
    """Write the model of a family and a tokenizer into a new folder.

    Args:
        name: of :data:`FAMILIES`.
        folder: to write to.
        tokenizer: folder of the model that has the tokenizer, for which the vocabulary is made; the demo's otherwise.
        **changes: values of the config that replace the family's.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto import modeling_auto

    if tokenizer is not None:
        changes = {"vocab_size": len(AutoTokenizer.from_pretrained(tokenizer)), **changes}
    family = FAMILIES[name]
    config = AutoConfig.for_model(family.model_type, **options_of(name, **changes))
    causal = family.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "wrapper" not in name
    # Wrappers whole, as they are published: AutoModelForCausalLM makes some without their vision tower.
    loader = modeling_auto.AutoModelForCausalLM if causal else modeling_auto.AutoModelForImageTextToText
    torch.manual_seed(0)
    model = loader.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            # What a family starts at zero, or leaves as memory was, must matter too.
            if weight.ndim >= 2 and weight.numel() and not (weight.isfinite().all() and weight.abs().max() > 0):
                weight.normal_(0, _SPREAD)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy((tokenizer or model_dir()) / file, folder)
    return folder
