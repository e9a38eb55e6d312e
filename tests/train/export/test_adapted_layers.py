"""Layers with an adapter merge to what PEFT's own merge gives, and what does not fit the base is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from dpo_tui.errors import TrainingError
from dpo_tui.train.export.adapted_layers import AdaptedModel, read_adapted_model

Q_WEIGHT = "model.layers.0.self_attn.q_proj.weight"
LINEAR = ["q_proj", "down_proj"]
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": LINEAR},
    "dora": {"target_modules": LINEAR, "use_dora": True},
    "rank-stabilised": {"target_modules": LINEAR, "use_rslora": True, "lora_alpha": 3},
    "alpha of its own": {"target_modules": LINEAR, "alpha_pattern": {"q_proj": 32}, "rank_pattern": {"down_proj": 2}},
    "embedding": {"target_modules": ["embed_tokens"]},
    "whole output layer": {"target_modules": LINEAR, "modules_to_save": ["lm_head"]},
}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with an output layer of its own."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_model, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def conv1d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2, whose layers store their weights as [in, out], and whose output layer is the embedding."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(2)
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=16)).save_pretrained(folder)
    return folder


def adapter_of(base: Path, folder: Path, **settings: Any) -> Path:
    """Save an adapter whose every tensor is random, so that it changes what it is for."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(**({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | settings)))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(str(folder))
    return folder


def merged_here(base: Path, found: AdaptedModel) -> dict[str, torch.Tensor]:
    weights = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    return {name: found.merge(name, weight) for name, weight in weights.items()}


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    whole: dict[str, torch.Tensor] = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().state_dict()
    return whole


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_weight_is_that_of_pefts_own_merge(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = adapter_of(base, tmp_path, **settings)
    found = read_adapted_model(base, adapter)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    mine, theirs = merged_here(base, found), merged_by_peft(base, adapter)
    for name, weight in theirs.items():
        torch.testing.assert_close(mine[name], weight, msg=name)
        assert torch.equal(mine[name], plain[name]) is (name not in found.changed), name
    assert torch.equal(mine[min(found.changed)], found.merge(min(found.changed), plain[min(found.changed)])), (
        "a second merge of the same layer gives the same"
    )


def test_a_layer_that_is_stored_transposed_is_merged_the_way_it_is_stored(conv1d: Path, tmp_path: Path) -> None:
    adapter = adapter_of(conv1d, tmp_path, target_modules=["c_attn"], fan_in_fan_out=True)
    found = read_adapted_model(conv1d, adapter)
    assert found.changed == {"transformer.h.0.attn.c_attn.weight"}
    assert found.tied == (("lm_head.weight", "transformer.wte.weight"),)
    theirs = merged_by_peft(conv1d, adapter)
    for name, weight in merged_here(conv1d, found).items():
        torch.testing.assert_close(weight, theirs[name], msg=name)


def test_what_is_quantised_is_every_linear_layer_but_the_output_layer(base: Path, tmp_path: Path) -> None:
    found = read_adapted_model(base, adapter_of(base, tmp_path, target_modules=["q_proj"]))
    named = {name.rpartition(".")[0].rpartition(".")[2] for name in found.linear}
    assert named == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert found.tied == ()
    assert set(found.base.state_dict()) == set(AutoModelForCausalLM.from_pretrained(base).state_dict())
    assert not [name for name, module in found.base.named_modules() if "lora" in name]


def rewritten(adapter: Path, change: dict[str, Any]) -> Path:
    """The adapter with other values in its config."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return adapter


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
    ],
)
def test_adapters_that_change_more_than_layers_are_refused(
    base: Path, tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    adapter = rewritten(adapter_of(base, tmp_path, target_modules=LINEAR), change)
    with pytest.raises(TrainingError, match=f"adapters with {name} cannot be merged shard by shard") as refused:
        read_adapted_model(base, adapter)
    assert "merge_and_unload" in (refused.value.hint or "")


A_OF_Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
HEAD = "base_model.model.lm_head.weight"


def without(name: str) -> Any:
    return lambda tensors: {other: tensor for other, tensor in tensors.items() if other != name}


def renamed(old: str, new: str) -> Any:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def cut(name: str) -> Any:
    return lambda tensors: tensors | {name: tensors[name][:, :-1].contiguous()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(A_OF_Q), "the adapter has no tensor named model.layers.0.self_attn.q_proj.lora_A.weight"),
        (without(HEAD), "the adapter has no tensor named lm_head.weight"),
        (renamed("layers.1", "layers.7"), "the base model has no layer for model.layers.7.mlp.down_proj.lora_A.weight"),
        (cut(A_OF_Q), r"lora_A.weight is \[4, 63\], and \[4, 64\] in the base model"),
        (cut(HEAD), r"lm_head.weight is .*, and .* in the base model"),
    ],
)
def test_an_adapter_whose_tensors_do_not_fit_the_base_is_that_of_another_model(
    base: Path, tmp_path: Path, change: Any, message: str
) -> None:
    adapter = adapter_of(base, tmp_path, target_modules=LINEAR, modules_to_save=["lm_head"])
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    with pytest.raises(TrainingError, match=f"{message}: the adapter was trained on another model"):
        read_adapted_model(base, adapter)


def test_an_adapter_for_layers_that_the_base_has_not_is_that_of_another_model(base: Path, tmp_path: Path) -> None:
    adapter = rewritten(adapter_of(base, tmp_path, target_modules=LINEAR), {"target_modules": ["c_attn"]})
    with pytest.raises(TrainingError, match=r"c_attn.*: the adapter was trained on another model"):
        read_adapted_model(base, adapter)


def test_a_merge_leaves_the_weight_that_it_was_given_and_no_memory_of_it(base: Path, tmp_path: Path) -> None:
    found = read_adapted_model(base, adapter_of(base, tmp_path, target_modules=LINEAR))
    weight = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()[Q_WEIGHT].detach().clone()
    before = weight.clone()
    merged = found.merge(Q_WEIGHT, weight)
    assert torch.equal(weight, before)
    assert (merged.dtype, merged.requires_grad) == (torch.float32, False)
    assert {tensor.device.type for tensor in found.layers[Q_WEIGHT].layer.state_dict().values()} == {"meta"}
