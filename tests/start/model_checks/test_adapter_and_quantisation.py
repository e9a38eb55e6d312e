"""Names of an adapter's modules, merges that cannot be made, and quantised weights, known before a run starts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError
from dpo_tui.start.model_check import check_model
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from dpo_tui.start.prepare import prepare_stages
from tests.support.training import loaded


def checked(folder: Path, *, has_gpu: bool = False, **changes: Any) -> list[str]:
    return check_model(from_values({"model_name": str(folder), "dataset": "-", **changes}), has_gpu=has_gpu)


def refusal(folder: Path, *, has_gpu: bool = False, **changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        checked(folder, has_gpu=has_gpu, **changes)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def make_model(folder: Path, model_type: str, **sizes: Any) -> Path:
    """Replace a model's weights and config by those of another family."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, **sizes)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def make_moe(folder: Path, model_type: str, **sizes: Any) -> Path:
    """Replace a model's weights and config by those of a mixture of experts."""
    common = {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    return make_model(folder, model_type, **{**common, "num_local_experts": 4, "num_experts_per_tok": 2, **sizes})


ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
HYBRID = {"layer_types": ["attention", "attention"], "shared_intermediate_size": 64}
PACKED = {
    "gptq": "qweight", "awq": "qweight", "compressed-tensors": "weight_packed", "hqq": "W_q", "vptq": "indices",
    "newest": "codes", "bitsandbytes": "weight.quant_state.bitsandbytes__nf4", "mxfp4": "gate_up_proj_blocks",
}  # fmt: skip
"""By method, how the name of a quantised weight ends in files."""


def quantised(folder: Path, method: str, **settings: Any) -> Path:
    """Write a quantization_config, and quantised weights in place of the matrices of the first MLP."""
    with_settings(folder, quant_method=method, **settings)
    return with_packed(folder, PACKED[method])


def with_settings(folder: Path, **settings: Any) -> Path:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": settings}))
    return folder


def with_packed(folder: Path, packed: str) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: one for name, one in load_file(folder / "model.safetensors").items() if ".0.mlp." not in name}
    for part in ("gate_proj", "up_proj", "down_proj"):
        weights[f"model.layers.0.mlp.{part}.{packed}"] = torch.zeros(8, 8, dtype=torch.int32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.usefixtures("tools_in_process")
def test_targets_of_which_none_is_in_the_model_are_refused_with_those_that_are(folder: Path) -> None:
    error = refusal(folder, lora_target_modules=["query_key_value", "dense"])
    assert "query_key_value" in error.message
    assert all(name in str(error.hint) for name in ("q_proj", "o_proj", "down_proj"))


def test_a_target_without_effect_beside_others_is_named(folder: Path) -> None:
    (note,) = checked(folder, lora_target_modules=["q_proj", "kproj"])
    assert "no kproj" in note and "k_proj" in note
    assert checked(folder, lora_target_modules=["q_proj", "layers.0.mlp.up_proj"]) == []


@pytest.mark.usefixtures("tools_in_process")
def test_a_module_to_train_whole_that_the_model_lacks_is_refused(folder: Path) -> None:
    error = refusal(folder, modules_to_save=["embed_tokens", "lmhead"])
    assert "no module lmhead" in error.message and "lm_head" in str(error.hint)
    assert checked(folder, modules_to_save=["embed_tokens", "lm_head"]) == []


@pytest.mark.usefixtures("tools_in_process")
def test_layers_that_the_table_peft_names_and_the_model_lacks_are_refused(folder: Path) -> None:
    changes: dict[str, Any] = {"lora_target_modules": ["q_proj"], "peft": {"layers_to_transform": [1, 2]}}
    error = refusal(folder, **changes)
    assert "[peft] layers_to_transform: the model has no layer 2; it has layers 0 to 1" in error.message
    assert "layers_to_transform" in str(error.hint)
    assert checked(folder, **changes | {"peft": {"layers_to_transform": [1]}}) == []


@pytest.mark.usefixtures("tools_in_process")
def test_a_merge_of_fused_experts_is_possible_and_so_is_a_second_stage(
    folder: Path, tiny_pairs: Path, tmp_path: Path, home: Path
) -> None:
    make_moe(folder, "mixtral")
    assert checked(folder) == []
    assert checked(folder, merge_at_end=True) == []
    assert checked(folder, merge_at_end=True, lora_target_modules=["q_proj", "o_proj"]) == []
    first = loaded(tmp_path, folder, tiny_pairs)
    second = loaded(tmp_path, folder, tiny_pairs, model_name="previous")
    assert len(prepare_stages([first, second])) == 2


@pytest.mark.usefixtures("tools_in_process")
def test_experts_that_are_in_no_file_are_refused_before_the_first_stage(
    folder: Path, tiny_pairs: Path, tmp_path: Path, home: Path
) -> None:
    """transformers would begin with random numbers in place of an expert, and no file has room for the merged one."""
    from safetensors.torch import load_file, save_file

    make_moe(folder, "mixtral")
    weights = {name: weight for name, weight in load_file(folder / "model.safetensors").items() if ".w2." not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "mlp.experts.down_proj of the model" in refusal(folder, merge_at_end=True).message
    first = loaded(tmp_path, folder, tiny_pairs)
    second = loaded(tmp_path, folder, tiny_pairs, model_name="previous")
    with pytest.raises(ConfigError, match="in none of its files"):
        prepare_stages([first, second])


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "hqq"])
def test_quantised_weights_say_which_package_they_need(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerPackages, "has", lambda self, module: False)
    error = refusal(quantised(folder, method), has_gpu=True)
    assert f"quantised ({method})" in error.message and "needs" in error.message
    assert "-m pip install" in str(error.hint)


def test_gptq_with_its_packages_needs_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerPackages, "has", lambda self, module: True)
    quantised(folder, "gptq", bits=4)
    assert checked(folder, has_gpu=True) == []
    assert "needs a GPU" in refusal(folder, has_gpu=False).message
    assert "use_4bit = true would quantise them again" in refusal(folder, has_gpu=True, use_4bit=True).message
    assert "bitsandbytes in 4 bits only" in refusal(folder, has_gpu=True, merge_at_end=True).message


def test_weights_that_train_no_adapter_and_those_that_would_be_trained_themselves_are_refused(folder: Path) -> None:
    assert "trains no adapter" in refusal(quantised(folder, "vptq"), has_gpu=True).message
    quantised(folder, "bitsandbytes", load_in_4bit=True)
    assert "use_lora = false" in refusal(folder, use_lora=False).message
    (note,) = checked(folder, use_4bit=True)
    assert "use_4bit has no effect" in note


def test_quantised_weights_that_fsdp2_would_leave_whole_are_refused(folder: Path) -> None:
    several = {"gpus": "none", "ranks": 2, "distributed": "fsdp2"}
    quantised(folder, "bitsandbytes", load_in_4bit=True)
    assert "leaves those whole on every process" in refusal(folder, **several).message
    quantised(folder, "bitsandbytes", load_in_4bit=True, bnb_4bit_quant_storage="bfloat16")
    assert checked(folder, **several) == []


def test_a_method_that_is_not_known_is_a_guess_and_no_refusal(folder: Path) -> None:
    (note,) = checked(quantised(folder, "newest"))
    assert "newest" in note and "may fail" in note


def test_a_quantisation_without_settings_is_none(folder: Path) -> None:
    assert checked(with_settings(folder)) == []


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors", "newest", "mxfp4"])
def test_a_quantisation_of_which_the_files_know_nothing_is_refused(folder: Path, method: str) -> None:
    """Before anything is asked for that only quantised weights need."""
    with_settings(folder, quant_method=method)
    message = refusal(folder, has_gpu=method != "mxfp4").message if method != "mxfp4" else checked(folder)[0]
    assert f"a quantization_config ({method}), and no weight in " in message


def test_plain_weights_are_right_where_the_method_is_done_without(folder: Path) -> None:
    """Without a GPU for FP8 transformers loads the weights as they are."""
    (note,) = checked(with_settings(folder, quant_method="fp8"), has_gpu=False)
    assert "they are used as they are" in note
    assert checked(with_settings(folder, quant_method="newest", format="dense"), has_gpu=True)[0].endswith("may fail")


@pytest.mark.parametrize("method", PACKED)
def test_quantised_weights_without_a_quantisation_in_the_config_are_refused(folder: Path, method: str) -> None:
    error = refusal(with_packed(folder, PACKED[method]))
    assert "its files hold quantised weights" in error.message and "no quantization_config" in error.message


@pytest.mark.usefixtures("tools_in_process")
def test_floats_of_8_bits_are_quantised_weights_only_with_their_scales(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights |= {name: one.to(torch.float8_e4m3fn) for name, one in weights.items() if "_proj" in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert checked(folder) == []
    weights |= {f"{name}_scale_inv": torch.ones(1, 1) for name in weights if "_proj" in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "weight_scale_inv" in refusal(folder).message


def test_weights_of_another_method_than_the_config_names_are_refused(folder: Path) -> None:
    quantised(folder, "gptq", bits=4)
    with_settings(folder, quant_method="bitsandbytes", load_in_4bit=True)
    assert "of another method (GPTQ or AWQ)" in refusal(folder).message
    with_packed(folder, PACKED["bitsandbytes"])
    with_settings(folder, quant_method="bitsandbytes", load_in_8bit=True)
    assert "of another method (bitsandbytes in 4 bits)" in refusal(folder).message


def test_another_vocabulary_is_noticed_beside_quantised_weights_too(folder: Path) -> None:
    path = quantised(folder, "bitsandbytes", load_in_4bit=True) / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"vocab_size": document["vocab_size"] + 64}))
    assert f"vocab_size = {document['vocab_size'] + 64:,}, and the embedding" in refusal(folder).message


def test_packages_of_another_environment_are_looked_up_in_its_folders(tmp_path: Path) -> None:
    interpreter = tmp_path / "bin" / "python"
    packages = WorkerPackages(interpreter)
    assert not packages.has("gptqmodel") and packages.model_types() == frozenset()
    (tmp_path / "lib/python3.12/site-packages/gptqmodel").mkdir(parents=True)
    assert packages.has("gptqmodel")


def test_the_known_types_are_those_of_transformers() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    )

    packages = WorkerPackages()
    assert packages.model_types() == set(CONFIG_MAPPING_NAMES)
    assert packages.language_model_types() == {
        *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    }


@pytest.mark.usefixtures("tools_in_process")
@pytest.mark.parametrize("kind", ["granitemoe", "granitemoehybrid", "phimoe"])
def test_a_load_balancing_loss_that_trl_cannot_compute_is_refused_unless_it_is_off(folder: Path, kind: str) -> None:
    path = make_moe(folder, kind, **HYBRID if "hybrid" in kind else {}) / "config.json"
    document = json.loads(path.read_text())
    document.pop("router_aux_loss_coef", None)
    path.write_text(json.dumps(document))
    attention = {"lora_target_modules": ["q_proj", "o_proj"]}
    assert "load-balancing loss" in refusal(folder, **attention).message
    assert "config.json" in str(refusal(folder, strategy="sft", **attention).hint)
    assert "set router_aux_loss_coef = 0" in str(refusal(folder, strategy="kto", **attention).hint)
    assert checked(folder, router_aux_loss_coef=0.0, **attention) == []
    path.write_text(json.dumps(document | {"router_aux_loss_coef": 0.0}))
    assert checked(folder, strategy="sft", **attention) == []


UNTRAINABLE: dict[str, tuple[dict[str, Any], str]] = {
    "llama4_text": ({**ATTENTION, "num_local_experts": 2, "intermediate_size": 64}, "Llama 4"),
    "mamba2": ({"num_heads": 4, "head_dim": 32, "n_groups": 1, "state_size": 8}, "out_proj"),
    "phimoe": ({**ATTENTION, "num_local_experts": 2, "intermediate_size": 64}, "router"),
}


@pytest.mark.usefixtures("tools_in_process")
@pytest.mark.parametrize("kind", UNTRAINABLE)
def test_what_trl_or_peft_cannot_train_is_refused_in_words(folder: Path, kind: str) -> None:
    sizes, said = UNTRAINABLE[kind]
    assert said in refusal(make_model(folder, kind, **sizes), router_aux_loss_coef=0.0).message


def test_biases_of_the_base_are_not_trained_where_it_is_the_reference(folder: Path) -> None:
    make_model(folder, "qwen2", intermediate_size=64, **ATTENTION)  # biases in q_proj, k_proj and v_proj
    adapted = {"bias": "lora_only"}
    for found in (
        refusal(folder, peft=adapted),
        refusal(folder, peft=adapted, strategy="kto"),
        refusal(folder, peft={"bias": "all"}, lora_target_modules=["o_proj"]),
    ):
        assert "k_proj, q_proj, v_proj" in found.message
    checked(folder, peft=adapted, lora_target_modules=["o_proj"])
    checked(folder, peft=adapted, strategy="orpo")
    checked(folder, peft={"lora_bias": True})


def test_a_model_without_biases_takes_any_setting_of_them(folder: Path) -> None:
    checked(folder, peft={"bias": "all"})


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"strategy": "sft"}, "lora_dropout"),
        ({"disable_dropout": False}, "lora_dropout"),
        ({"use_dora": True}, "use_dora"),
        ({"peft": {"lora_bias": True}}, "lora_bias"),
    ],
    ids=str,
)
def test_what_no_adapter_on_fused_experts_has_is_refused_before_the_start(
    folder: Path, tools_in_process: None, changes: dict[str, Any], option: str
) -> None:
    """With the default dropout, too, which supervised fine-tuning keeps."""
    model = make_moe(folder, "mixtral")
    refused = refusal(model, **changes)
    assert f"{option}: PEFT has none in an adapter on experts" in refused.message
    assert f"set {option} = " in (refused.hint or "")
    checked(model, **changes, lora_target_modules=["q_proj", "v_proj"])


@pytest.mark.parametrize("changes", [{}, {"strategy": "sft", "lora_dropout": 0.0}], ids=str)
def test_an_adapter_without_dropout_on_fused_experts_is_not_refused(
    folder: Path, tools_in_process: None, changes: dict[str, Any]
) -> None:
    checked(make_moe(folder, "mixtral"), **changes)
