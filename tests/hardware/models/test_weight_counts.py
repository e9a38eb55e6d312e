"""Weights and adapters as the estimate counts them, against the real classes and PEFT, for every family."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.memory.adapter import adapter_weights, updated_weights
from dpo_tui.hardware.memory.memory_estimate import DeviceKind, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.models.read_model import from_config
from tests.support.families import FAMILIES, build

torch = pytest.importorskip("torch")

# Configurations that the families above do not have, each with another layout.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2-moe-some-dense": ("qwen2-moe", {"decoder_sparse_step": 2, "mlp_only_layers": [], "num_hidden_layers": 4}),
    "qwen3-moe-first-dense": ("qwen3-moe", {"mlp_only_layers": [0], "num_hidden_layers": 3}),
    "gemma3n-shared-keys": (
        "gemma3n-text",
        {
            "num_kv_shared_layers": 2,
            "intermediate_size": [128, 96, 64, 128],
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "gemma4-shared-keys-wide": (
        "gemma4-text",
        {
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
        },
    ),
    "gemma4-larger-global-heads": ("gemma4-text", {"global_head_dim": 32}),
    "gemma4-shared-values": (
        "gemma4-text",
        {"global_head_dim": 32, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4-without-layer-inputs": ("gemma4-text", {"hidden_size_per_layer_input": 0}),
    "gemma4-experts": (
        "gemma4-text",
        {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    ),
    "falcon-40b": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-biased-sequential": ("falcon", {"bias": True, "parallel_attn": False, "multi_query": False}),
    "opt-350m": ("opt", {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "llama-biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "phi-qk-norm": ("phi", {"qk_layernorm": True, "num_key_value_heads": 4}),
    "cohere-qk-norm": ("cohere", {"use_qk_norm": True}),
    "deepseek-v3-mixed": ("deepseek-v3", {"num_hidden_layers": 4, "first_k_dense_replace": 2, "n_shared_experts": 2}),
    "gpt2-narrow": ("gpt2", {"n_inner": 96}),
    "starcoder2-without-bias": ("starcoder2", {"use_bias": False}),
    "jamba-other-periods": ("jamba", {"attn_layer_period": 4, "expert_layer_period": 4}),
    "lfm2-as-it-is": ("lfm2", {"block_auto_adjust_ff_dim": False}),
    "llama4-all-sparse": ("llama4-text", {"interleave_moe_layer_step": 1}),
    "mamba-biased": ("mamba", {"use_bias": True, "expand": 3}),
}
DEVICES: tuple[DeviceKind, ...] = ("cuda", "cpu")
CASES = [*FAMILIES, *VARIANTS]


@functools.cache
def real(name: str) -> tuple[Any, Any]:
    """The configuration of a family and its model, without weights."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    family_name, more = VARIANTS.get(name, (name, {}))
    family = FAMILIES[family_name]
    config = AutoConfig.for_model(family.model_type, **{**family.options, **more})
    causal = family.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "wrapper" not in name
    loader = modeling_auto.AutoModelForCausalLM if causal else modeling_auto.AutoModelForImageTextToText
    with torch.device("meta"):
        return config, loader.from_config(config, dtype=torch.bfloat16)


def counted(name: str, *, short: bool = False) -> Architecture:
    """The family as the estimate reads it from config.json; ``short``: one that leaves defaults out."""
    config, _ = real(name)
    values = config.to_diff_dict() if short else config.to_dict()
    values["model_type"] = config.model_type
    return from_config(json.loads(json.dumps(values, default=str)), name)


def settings(**values: Any) -> Config:
    return from_values({"model_name": "x", "dataset": "-", "use_4bit": False, **values})


def weights(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_weights_counted_from_the_config_are_those_of_the_real_class(name: str, short: bool) -> None:
    arch = counted(name, short=short)
    assert not arch.guessed
    assert arch.parameters == weights(real(name)[1])


def real_adapter(name: str, targets: Any) -> int:
    from peft import LoraConfig, get_peft_model

    model = real.__wrapped__(name)[1]
    adapted = get_peft_model(model, LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM"))
    return sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("mamba", "falcon-h1"))])
def test_the_adapter_of_all_linear_layers_has_as_many_weights_as_pefts(name: str) -> None:
    """Experts that are one parameter included, for which PEFT doubles the rank of gate and up values."""
    assert adapter_weights(settings(), counted(name)) == real_adapter(name, "all-linear")


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("mamba", ["in_proj", "x_proj"]),
        ("falcon-h1", ["q_proj", "o_proj"]),
        ("gpt2", ["c_proj"]),
        ("qwen3-moe", ["q_proj", "gate_proj", "up_proj"]),
        ("qwen3-moe", ["down_proj"]),
        ("deepseek-v3", ["kv_b_proj", "gate_proj", "up_proj", "down_proj"]),
        ("qwen2-moe", ["gate_proj", "down_proj"]),
        ("mixtral", ["w1", "w2", "w3"]),
        ("gemma3-wrapper", ["q_proj", "v_proj"]),
    ],
)
def test_an_adapter_of_named_modules_has_as_many_weights_as_pefts(name: str, targets: list[str]) -> None:
    assert adapter_weights(settings(lora_target_modules=targets), counted(name)) == real_adapter(name, targets)


@pytest.mark.parametrize("name", ["gemma3-wrapper", "qwen3.5-wrapper", "qwen3-vl", "mistral3-wrapper"])
def test_a_vision_tower_takes_memory_but_gets_no_gradients(name: str) -> None:
    model, arch = real(name)[1], counted(name)
    seen = [part for part in ("vision_tower", "visual", "multi_modal_projector") if hasattr(model.model, part)]
    tower = sum(weights(getattr(model.model, part)) for part in seen)
    assert arch.tower_weights == tower > 0
    assert updated_weights(settings(use_lora=False), arch) == weights(model) - tower
    assert 0 < updated_weights(settings(), arch) < adapter_weights(settings(), arch)


def test_a_token_passes_through_the_active_experts_only() -> None:
    arch = counted("qwen3-moe")
    idle = 2 * (4 - 2) * 3 * 64 * 32  # layers, experts that are not chosen, matrices of an expert
    assert arch.active_parameters == arch.parameters - idle


@pytest.mark.parametrize("name", ["llama", "gemma3-wrapper", "qwen3.5-wrapper", "mixtral", "gpt2", "jamba", "apertus"])
def test_weights_counted_from_the_files_are_those_of_the_model_in_memory(name: str, tmp_path: Path) -> None:
    arch = architecture_of(str(build(name, tmp_path / "model")))
    assert (arch.stored.parameters if arch.stored else 0) == weights(real(name)[1])
    assert not arch.guessed


@pytest.mark.parametrize("name", ["llama-tied", "gemma3-wrapper", "qwen3-moe", "gpt2", "mamba", "lfm2", "granite-moe"])
def test_a_family_that_is_not_known_is_counted_in_its_files_and_called_a_guess(name: str, tmp_path: Path) -> None:
    known = architecture_of(str(build(name, tmp_path / "model")))
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    (config.get("text_config") or config)["model_type"] = "brandnew"
    config["tie_word_embeddings"] = known.tied
    file.write_text(json.dumps(config))
    unknown = architecture_of(str(tmp_path / "model"))
    assert unknown.guessed and "brandnew" in unknown.guess
    assert unknown.parameters == known.parameters
    assert unknown.linear_weights == pytest.approx(known.linear_weights, rel=0.05)
    assert unknown.active_parameters == pytest.approx(known.active_parameters, rel=0.05)


def test_a_family_that_is_not_known_without_its_files_is_a_guess() -> None:
    config = {**real("llama")[0].to_dict(), "model_type": "brandnew"}
    assert "brandnew" in from_config(config, "x").guess
    experts = {**real("qwen3-moe")[0].to_dict(), "model_type": "brandnew"}
    guessed = from_config(experts, "x")
    assert "experts" in guessed.guess
    assert guessed.parameters == pytest.approx(weights(real("qwen3-moe")[1]), rel=0.01)


def test_a_tower_that_is_not_known_is_counted_and_called_a_guess() -> None:
    config = {
        "model_type": "brandnew_vl",
        "text_config": real("llama")[0].to_dict(),
        "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64},
    }
    arch = from_config(config, "x")
    assert "brandnew_vl" in arch.guess
    assert arch.tower_weights == 2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 64


def test_damaged_files_leave_the_count_to_the_config(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    arch = architecture_of(str(folder))
    assert arch.stored is None
    assert arch.parameters == weights(real("llama")[1])


@pytest.mark.parametrize("name", CASES)
def test_every_family_gets_a_whole_estimate(name: str) -> None:
    """On a GPU and without one, with an adapter over packed weights and with all weights trained."""
    arch = counted(name)
    for values in ({"use_4bit": True}, {"use_lora": False}, {"gradient_checkpointing": False}):
        for device in DEVICES:
            found = estimate(settings(**values), arch, device=device)
            assert all(part.size >= 0 for part in found.parts)
            assert found.total == sum(part.size for part in found.parts)
            assert found.part("weights") >= arch.parameters // 2


@pytest.mark.parametrize(("name", "value"), [("num_hidden_layers", 1001), ("vocab_size", 10**18)])
def test_a_size_that_no_model_has_is_refused_before_it_is_counted(name: str, value: int) -> None:
    """Each layer is looked at: a damaged number would keep the estimate busy for hours."""
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 9,
        "intermediate_size": 99,
    }
    assert from_config(config, "a folder").layers == 2
    with pytest.raises(ConfigError, match=f"no usable {name}"):
        from_config(config | {name: value}, "a folder")
