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


def make_moe(folder: Path, model_type: str, **sizes: Any) -> Path:
    """Replace a model's weights and config by those of a mixture of experts."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    common = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary, num_key_value_heads=2, **common, **sizes)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def quantised(folder: Path, **settings: Any) -> Path:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": settings}))
    return folder


def test_targets_of_which_none_is_in_the_model_are_refused_with_those_that_are(folder: Path) -> None:
    error = refusal(folder, lora_target_modules=["query_key_value", "dense"])
    assert "query_key_value" in error.message
    assert all(name in str(error.hint) for name in ("q_proj", "o_proj", "down_proj"))


def test_a_target_without_effect_beside_others_is_named(folder: Path) -> None:
    (note,) = checked(folder, lora_target_modules=["q_proj", "kproj"])
    assert "no kproj" in note and "k_proj" in note
    assert checked(folder, lora_target_modules=["q_proj", "layers.0.mlp.up_proj"]) == []


def test_a_module_to_train_whole_that_the_model_lacks_is_refused(folder: Path) -> None:
    error = refusal(folder, modules_to_save=["embed_tokens", "lmhead"])
    assert "no module lmhead" in error.message and "lm_head" in str(error.hint)
    assert checked(folder, modules_to_save=["embed_tokens", "lm_head"]) == []


def test_a_merge_of_fused_experts_is_possible_and_so_is_a_second_stage(
    folder: Path, tiny_pairs: Path, tmp_path: Path, home: Path
) -> None:
    make_moe(folder, "mixtral", num_local_experts=4, num_experts_per_tok=2)
    assert checked(folder) == []
    assert checked(folder, merge_at_end=True) == []
    assert checked(folder, merge_at_end=True, lora_target_modules=["q_proj", "o_proj"]) == []
    first = loaded(tmp_path, folder, tiny_pairs)
    second = loaded(tmp_path, folder, tiny_pairs, model_name="previous")
    assert len(prepare_stages([first, second])) == 2


def test_a_merge_into_weights_that_are_in_no_file_is_refused_before_the_first_stage(
    folder: Path, tiny_pairs: Path, tmp_path: Path, home: Path
) -> None:
    """transformers would begin with random numbers in place of an expert, and no file has room for the merged one."""
    from safetensors.torch import load_file, save_file

    make_moe(folder, "mixtral", num_local_experts=4, num_experts_per_tok=2)
    weights = {name: weight for name, weight in load_file(folder / "model.safetensors").items() if ".w2." not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "mlp.experts.down_proj, which is in no file" in refusal(folder, merge_at_end=True).message
    first = loaded(tmp_path, folder, tiny_pairs)
    second = loaded(tmp_path, folder, tiny_pairs, model_name="previous")
    with pytest.raises(ConfigError, match="cannot be merged into its base"):
        prepare_stages([first, second])


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "hqq"])
def test_quantised_weights_say_which_package_they_need(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerPackages, "has", lambda self, module: False)
    error = refusal(quantised(folder, quant_method=method), has_gpu=True)
    assert f"quantised ({method})" in error.message and "needs" in error.message
    assert "-m pip install" in str(error.hint)


def test_gptq_with_its_packages_needs_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerPackages, "has", lambda self, module: True)
    quantised(folder, quant_method="gptq", bits=4)
    assert checked(folder, has_gpu=True) == []
    assert "needs a GPU" in refusal(folder, has_gpu=False).message
    assert "use_4bit = true would quantise them again" in refusal(folder, has_gpu=True, use_4bit=True).message
    assert "bitsandbytes in 4 bits only" in refusal(folder, has_gpu=True, merge_at_end=True).message


def test_weights_that_train_no_adapter_and_those_that_would_be_trained_themselves_are_refused(folder: Path) -> None:
    assert "trains no adapter" in refusal(quantised(folder, quant_method="vptq"), has_gpu=True).message
    quantised(folder, quant_method="bitsandbytes", load_in_4bit=True)
    assert "use_lora = false" in refusal(folder, use_lora=False).message
    (note,) = checked(folder, use_4bit=True)
    assert "use_4bit has no effect" in note


def test_a_method_that_is_not_known_is_a_guess_and_no_refusal(folder: Path) -> None:
    (note,) = checked(quantised(folder, quant_method="newest"))
    assert "newest" in note and "may fail" in note
    assert checked(quantised(folder)) == []


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


@pytest.mark.parametrize("kind", ["granitemoe", "granitemoehybrid", "phimoe"])
def test_a_load_balancing_loss_that_trl_cannot_compute_is_refused_unless_it_is_off(folder: Path, kind: str) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"model_type": kind}))
    attention = {"lora_target_modules": ["q_proj", "o_proj"]}
    assert "load-balancing loss" in refusal(folder, **attention).message
    assert "config.json" in str(refusal(folder, strategy="sft", **attention).hint)
    assert "set router_aux_loss_coef = 0" in str(refusal(folder, strategy="kto", **attention).hint)
    assert checked(folder, router_aux_loss_coef=0.0, **attention) == []
    path.write_text(json.dumps(document | {"model_type": kind, "router_aux_loss_coef": 0.0}))
    assert checked(folder, strategy="sft", **attention) == []


@pytest.mark.parametrize(("kind", "said"), [("llama4_text", "Llama 4"), ("mamba2", "out_proj"), ("phimoe", "router")])
def test_what_trl_or_peft_cannot_train_is_refused_in_words(folder: Path, kind: str, said: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind}))
    assert said in refusal(folder, router_aux_loss_coef=0.0).message
