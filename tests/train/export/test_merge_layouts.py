"""Merges of layers stored as [in, out], of experts and of tied embeddings; and the check that no wrong merge passes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from tests.support.training import finished_run, lines, make_config, make_run, train

CONV1D = {"lora_target_modules": ["c_attn", "c_proj"]}
SHORT = {"learning_rate": 1e-2, "max_steps": 3, "save_steps": 100, "kl_prompts": 0}


@pytest.fixture(scope="module")
def gpt2(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer GPT-2: its attention's c_proj is square, so that no shape tells how it is stored."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=512, initializer_range=0.08
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tied_llama(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with one tensor for embedding and output layer, in several files."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tied")
    config = AutoConfig.from_pretrained(tiny_model, tie_word_embeddings=True)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="100KB")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def export_merged(folder: RunFolder, target: Path, precision: str = "fp32") -> dict[str, Any]:
    from dpo_tui.train.tools.export_run import export

    request = {"run": str(folder.path), "target": str(target), "merge": True, "precision": precision}
    return export(request, lambda *_: None)


def share_of_the_change(base: Path, adapter: Path, merged: Path) -> float:
    """How far merged logits are from base + adapter, over how far the adapter moves them; every token is read once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model.eval()(input_ids=torch.arange(model.config.vocab_size)[None]).logits
            return found

    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    unchanged = logits(bare)
    apart = logits(PeftModel.from_pretrained(bare, str(adapter)))
    together = logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32))
    moved = float((apart - unchanged).norm())
    assert moved > 1e-2, "the adapter must matter, or agreeing proves nothing"
    return float((together - apart).norm()) / moved


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_square_layers_of_gpt2_are_merged_the_way_they_are_stored(
    home: Path, gpt2: Path, tiny_pairs: Path, tmp_path: Path, dora: bool
) -> None:
    folder = finished_run(gpt2, tiny_pairs, use_dora=dora, **CONV1D)
    export_merged(folder, tmp_path / "merged")
    assert share_of_the_change(gpt2, folder.adapter, tmp_path / "merged") < 1e-3


def test_files_that_leave_out_the_prefix_of_the_model_are_merged(
    home: Path, gpt2: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """As the published GPT-2 names its weights: h.0.attn…, and not transformer.h.0.attn…"""
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(gpt2, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    renamed = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file(renamed, base / "model.safetensors", metadata={"format": "pt"})
    folder = finished_run(base, tiny_pairs, **CONV1D)
    export_merged(folder, tmp_path / "merged")
    assert share_of_the_change(base, folder.adapter, tmp_path / "merged") < 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"modules_to_save": ["embed_tokens"], "lora_target_modules": ["q_proj"]},
        {"modules_to_save": ["lm_head"], "lora_target_modules": ["q_proj"]},
        {"lora_target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["embedding-whole", "head-whole", "embedding-lora"],
)
def test_an_adapter_on_one_of_two_tied_layers_leaves_the_other_as_it_was(
    home: Path, tied_llama: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """PEFT changes one of them, so the merged model has two weights where the base has one."""
    from transformers import AutoModelForCausalLM

    folder = finished_run(tied_llama, tiny_pairs, **changes)
    export_merged(folder, tmp_path / "merged")
    assert share_of_the_change(tied_llama, folder.adapter, tmp_path / "merged") < 1e-3
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not merged.config.tie_word_embeddings
    assert not (merged.lm_head.weight == merged.model.embed_tokens.weight).all()
    assert "logits differ by at most" in export_merged(folder, tmp_path / "in 16 bits", "bf16")["check"]


def test_a_tied_model_stays_tied_where_the_adapter_changes_neither(
    home: Path, tied_llama: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = finished_run(tied_llama, tiny_pairs)
    export_merged(folder, tmp_path / "merged", "bf16")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


@pytest.fixture(scope="module")
def scattered_mixtral(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral, one tensor an expert in its files, in so many files that the experts of a layer lie in several."""
    import json

    import torch
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    folder = tmp_path_factory.mktemp("mixtral")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = MixtralConfig(**sizes, **heads, num_local_experts=12, num_experts_per_tok=2, initializer_range=0.08)
    MixtralForCausalLM(config).save_pretrained(folder, max_shard_size="50KB")
    tokenizer.save_pretrained(folder)
    shard_of = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len({shard for name, shard in shard_of.items() if "layers.0.block_sparse_moe.experts" in name}) > 1
    return folder


def test_experts_are_merged_into_the_tensors_of_the_files(
    home: Path, scattered_mixtral: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """PEFT adapts one parameter for all experts of a layer; the files hold one tensor an expert, over several files."""
    import json

    folder = finished_run(scattered_mixtral, tiny_pairs)
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["target_parameters"]
    export_merged(folder, tmp_path / "merged")
    assert share_of_the_change(scattered_mixtral, folder.adapter, tmp_path / "merged") < 1e-3
    index = "model.safetensors.index.json"
    base, merged = (json.loads((path / index).read_text()) for path in (scattered_mixtral, tmp_path / "merged"))
    assert merged["weight_map"] == base["weight_map"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("mixtral", ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("qwen3-moe", ["mlp.experts.down_proj"]),
        ("llama", ["q_proj.weight"]),
    ],
)
def test_parameters_that_the_config_names_are_trained_and_merged_at_the_end(
    home: Path, tiny_pairs: Path, tmp_path: Path, family: str, parameters: list[str]
) -> None:
    """``target_parameters`` in [peft], from the checks before a start to the merged model."""
    import json

    from safetensors.torch import load_file

    from dpo_tui.start.prepare import prepare
    from tests.support import families
    from tests.support.training import loaded

    base = families.build(family, tmp_path / "base")
    settings = {"peft": {"target_parameters": parameters}, "lora_target_modules": ["v_proj"], "merge_at_end": True}
    prepare(loaded(tmp_path, base, tiny_pairs, **settings))
    folder = finished_run(base, tiny_pairs, **settings)
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["target_parameters"] == parameters
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    part = parameters[0].rpartition(".")[0]
    moved = [name for name, weight in weights.items() if part in name and "lora_B" in name and weight.norm() > 0]
    assert len(moved) == 2 * len(parameters), "in each of both layers"
    assert share_of_the_change(base, folder.adapter, folder.merged) < 1e-3


def test_a_merge_of_experts_into_16_bits_is_compared_with_its_parts(
    home: Path, scattered_mixtral: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """Such a merge is compared with one in memory, where PEFT adapts parameters of other names than ``weight``."""
    folder = finished_run(scattered_mixtral, tiny_pairs)
    assert "the rounding to 16 bits" in export_merged(folder, tmp_path / "merged", "bf16")["check"]


def test_a_merge_of_experts_in_4_bits_agrees_with_its_parts(
    home: Path, scattered_mixtral: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = finished_run(scattered_mixtral, tiny_pairs, use_4bit=True)
    assert "logits differ by at most" in export_merged(folder, tmp_path / "merged")["check"]


@pytest.fixture
def untransposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that adds B·A to a Conv1D as if it were stored as [out, in], where the shapes allow it."""
    from dpo_tui.train.export import adapted_layers

    merge_layer = adapted_layers.merge_layer

    def merge(layer: Any, tensors: Any) -> Any:
        weight = tensors["base_layer.weight"]
        layer.fan_in_fan_out = layer.fan_in_fan_out and weight.shape[0] != weight.shape[1]
        return merge_layer(layer, tensors)

    monkeypatch.setattr(adapted_layers, "merge_layer", merge)


def test_export_refuses_a_merge_that_is_not_transposed(
    home: Path, gpt2: Path, tiny_pairs: Path, tmp_path: Path, untransposed: None
) -> None:
    folder = finished_run(gpt2, tiny_pairs, **CONV1D)
    for precision in ("fp32", "bf16", "fp16"):
        with pytest.raises(TrainingError, match="does not agree with its parts"):
            export_merged(folder, tmp_path / "out", precision)
        assert not list(tmp_path.glob("*out*"))


def test_a_run_that_merges_at_its_end_refuses_a_wrong_merge_too(
    home: Path, gpt2: Path, tiny_pairs: Path, untransposed: None
) -> None:
    """The adapter is kept, and no next stage finds a model to start from, one of an earlier attempt neither."""
    run = make_run(config := make_config(gpt2, tiny_pairs, merge_at_end=True, **SHORT, **CONV1D))
    run.merged.mkdir()
    with pytest.raises(TrainingError, match="does not agree with its parts"):
        train(config, run)
    assert run.adapter.is_dir()
    assert not list(run.path.glob("*merged*"))


def test_a_merge_for_the_next_stage_refuses_a_wrong_merge_too(
    home: Path, gpt2: Path, tiny_pairs: Path, untransposed: None
) -> None:
    from dpo_tui.train.tools.merge import merge_run

    folder = finished_run(gpt2, tiny_pairs, **CONV1D)
    with pytest.raises(TrainingError, match="does not agree with its parts"):
        merge_run({"run": str(folder.path)}, lambda *_: None)
    assert not list(folder.path.glob("*merged*"))


def test_a_run_that_merges_at_its_end_says_how_the_merge_compares(home: Path, gpt2: Path, tiny_pairs: Path) -> None:
    run = make_run(config := make_config(gpt2, tiny_pairs, merge_at_end=True, **SHORT, **CONV1D))
    train(config, run)
    assert run.merged.is_dir()
    assert any("logits differ by at most" in event["message"] for event in lines(run.events))


def test_rounding_larger_than_the_adapter_is_no_fault_and_is_said(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """Of a few steps at a low rate, bf16 rounds much away; the merge is right all the same."""
    folder = finished_run(tiny_model, tiny_pairs, learning_rate=1e-4)
    said = export_merged(folder, tmp_path / "merged", "bf16")["check"]
    shares = re.search(r"by at most ([\d.e+-]+) of what .* 16 bits by ([\d.e+-]+) of it", said)
    assert shares, said
    assert float(shares[1]) < 0.01
    assert float(shares[2]) > 0.1


def test_rounding_that_takes_the_training_away_is_warned_of_with_the_remedy(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = finished_run(tiny_model, tiny_pairs, learning_rate=1e-7)
    said = export_merged(folder, tmp_path / "merged", "bf16")["check"]
    assert re.search(r"Warning: the rounding to 16 bits .* by [\d,]+% of .* --precision fp32", said), said
    assert "Warning" not in export_merged(folder, tmp_path / "out", "fp32")["check"]


def test_a_run_in_4_bits_is_merged_into_16_bits_within_the_same_bound(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And refused where it is merged into the weights before they were rounded to NF4."""
    from dpo_tui.train.export import merge_weights

    folder = finished_run(tiny_model, tiny_pairs, use_4bit=True)
    assert "logits differ by at most" in export_merged(folder, tmp_path / "merged", "bf16")["check"]
    monkeypatch.setattr(merge_weights, "_quantise_and_dequantise", lambda weight: weight)
    with pytest.raises(TrainingError, match="does not agree with its parts"):
        export_merged(folder, tmp_path / "out", "bf16")
