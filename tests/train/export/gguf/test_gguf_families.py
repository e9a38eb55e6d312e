"""GGUF files of each family: read by transformers' own loader they compute what the model computes."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import TrainingError, UsageError
from tests.support import families

gguf = pytest.importorskip("gguf")

HELD = ("llama", "llama-tied", "llama3-rope", "mistral-window-64", "qwen2", "qwen3", "gemma2-window-64",
        "gemma3-text-window-64")  # fmt: skip
BOUND = {"f16": 2e-3, "bf16": 2e-2, "q8_0": 8e-2}
"""Largest distance of the logits over their size, of weights that were in fp32 before."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Tiny random models, each made when it is first asked for."""

    class Models(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = families.build(name, tmp_path_factory.mktemp("family") / name)
            return self[name]

    return Models()


def written(folder: Path, target: Path, chosen: Any) -> tuple[Any, Path]:
    """The model of a folder, and the file that was written of it."""
    from dpo_tui.train.export.gguf.gguf_file import GgufModel, write_gguf

    model = GgufModel(folder)
    target.mkdir(exist_ok=True)
    write_gguf(model, target / "m.gguf", chosen, "a model")
    return model, target / "m.gguf"


def settings(file: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize("chosen", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", HELD)
def test_the_file_computes_what_the_model_computes(
    models: Mapping[str, Path], tmp_path: Path, name: str, chosen: Any
) -> None:
    """Rows within the window of the family that loses it, beyond that of those that keep it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    folder = models[name]
    _, file = written(folder, tmp_path, chosen)
    config: Any = AutoConfig.from_pretrained(folder)
    if config.model_type == "mistral":  # which is a Llama in GGUF
        values = config.to_dict()
        config = LlamaConfig(**{key: values[key] for key in values if key not in ("model_type", "sliding_window")})
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, config=config, dtype=torch.float32)
    row = torch.randint(0, 1536, (1, 60 if "mistral" in name else 120), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = whole(row).logits, read.eval()(row).logits
    assert float((found - expected).norm() / expected.norm()) < BOUND[chosen]


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3-text-window-64"])
def test_without_a_config_transformers_finds_the_settings_in_the_file(
    models: Mapping[str, Path], tmp_path: Path, name: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    written(models[name], tmp_path, "f16")
    whole = AutoModelForCausalLM.from_pretrained(models[name], dtype=torch.float32).eval()
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "rms_norm_eps"):
        assert getattr(read.config, key) == pytest.approx(getattr(whole.config, key))
    assert read.config.rope_parameters["rope_theta" if name != "gemma3-text-window-64" else "full_attention"]


def test_the_settings_are_those_of_the_model(models: Mapping[str, Path], tmp_path: Path) -> None:
    _, file = written(models["gemma3-text-window-64"], tmp_path, "q8_0")
    found = settings(file)
    assert found["general.architecture"] == "gemma3"
    assert found["general.file_type"] == 7  # mostly Q8_0
    assert found["gemma3.attention.sliding_window"] == 64
    assert found["gemma3.rope.freq_base"] == 1_000_000.0
    assert found["gemma3.rope.freq_base_swa"] == 10_000.0
    assert found["gemma3.attention.key_length"] == 16
    _, file = written(models["gemma2-window-64"], tmp_path / "2", "bf16")
    found = settings(file)
    assert (found["gemma2.attn_logit_softcapping"], found["gemma2.final_logit_softcapping"]) == (50.0, 30.0)


def test_a_window_that_llama_cpp_does_not_know_bounds_the_context(models: Mapping[str, Path], tmp_path: Path) -> None:
    model, file = written(models["mistral-window-64"], tmp_path, "bf16")
    assert settings(file)["llama.context_length"] == 64
    assert "64 tokens of context and not 1,024" in model.family.context_length(model.config)[1]


def test_the_frequencies_of_llama_3_are_in_the_file(models: Mapping[str, Path], tmp_path: Path) -> None:
    """The formula of the Llama 3.1 model card, written down here once more."""
    import math

    _, file = written(models["llama3-rope"], tmp_path, "f16")
    stored = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "rope_freqs.weight")
    for pair, factor in enumerate(stored.data.tolist()):
        wavelength = 2 * math.pi * 10000.0 ** (2 * pair / 16)
        if wavelength < 96 / 4.0:
            expected = 1.0
        elif wavelength > 96 / 1.0:
            expected = 8.0
        else:
            smooth = (96 / wavelength - 1.0) / (4.0 - 1.0)
            expected = 1 / ((1 - smooth) / 8.0 + smooth)
        assert factor == pytest.approx(expected, rel=1e-5)


def test_a_vocabulary_smaller_than_the_embedding_is_filled_up(tmp_path: Path) -> None:
    folder = families.build("llama", tmp_path / "model", vocab_size=1600)
    _, file = written(folder, tmp_path / "out", "f16")
    found = settings(file)
    tokens = found["tokenizer.ggml.tokens"]
    assert len(tokens) == 1600 == found["llama.vocab_size"]
    assert tokens[-1] == "[PAD1599]"
    assert found["tokenizer.ggml.token_type"][-1] == 5  # unused


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("phi3", {}, "type phi3"),
        ("gemma3-wrapper", {}, "type gemma3 "),
        ("llama-yarn", {}, "rotary embedding is of the type yarn"),
        ("llama-dynamic-ntk", {}, "rotary embedding is of the type dynamic"),
        ("llama", {"hidden_act": "gelu"}, "activation is gelu"),
        ("gemma2-window-64", {"query_pre_attn_scalar": 32}, "scaled by 32, and llama.cpp's by 16"),
        ("gemma2-window-64", {"layer_types": ["full_attention"] * 2}, "do not slide as llama.cpp's do"),
        ("gemma2-window-64", {"final_logit_softcapping": None}, "not capped"),
        ("gemma2-window-64", {"tie_word_embeddings": False}, "not its embedding"),
        ("gemma3-text-window-64", {"use_bidirectional_attention": True}, "both ways"),
        ("qwen3", {"attention_bias": True}, "no place for model.layers.0.self_attn.k_proj.bias"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    folder = families.build(name, tmp_path / "model", **changes)
    with pytest.raises(UsageError, match=reason):
        written(folder, tmp_path / "out", "f16")


def test_biases_of_a_llama_have_their_place(tmp_path: Path) -> None:
    """Query and key biases are permuted as their matrices are."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = families.build("llama", tmp_path / "model", attention_bias=True, mlp_bias=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".bias"):
                weight.normal_()
    model.save_pretrained(folder)
    _, file = written(folder, tmp_path / "out", "bf16")
    read = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file="m.gguf", config=model.config, dtype=torch.float32
    )
    row = torch.arange(5, 50)[None]
    with torch.no_grad():
        expected, found = model.float()(row).logits, read(row).logits
    assert float((found - expected).norm() / expected.norm()) < BOUND["bf16"]


def test_weights_too_large_for_fp16_are_refused_and_bf16_is_named(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = families.build("llama", tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[3, 5] = 1e5
    model.save_pretrained(folder)
    with pytest.raises(TrainingError, match=r"output\.weight: has weights above 65,504") as refused:
        written(folder, tmp_path / "out", "f16")
    assert "--gguf bf16" in str(refused.value)
    written(folder, tmp_path / "out2", "bf16")


def test_a_file_without_the_embeddings_behind_the_last_token_agrees(models: Mapping[str, Path], tmp_path: Path) -> None:
    """As llama.cpp's converter writes Gemma 3, whose embedding is longer than its vocabulary."""
    from transformers import AutoModelForCausalLM

    from dpo_tui.train.export.gguf.gguf_check import check_gguf
    from dpo_tui.train.export.gguf.gguf_file import GgufModel

    _, file = written(models["llama-tied"], tmp_path, "f16")
    longer = shutil.copytree(models["llama-tied"], tmp_path / "longer")
    whole = AutoModelForCausalLM.from_pretrained(longer)
    whole.resize_token_embeddings(1600)
    whole.save_pretrained(longer)
    assert check_gguf(GgufModel(longer), file, "f16", ["how do i reset"], None).error < 1e-5


def test_a_file_that_names_another_end_than_the_template_s_is_remarked_on_or_refused(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    from dpo_tui.train.export.gguf.gguf_check import check_end_tokens

    def named(number: int) -> Path:
        file = tmp_path / f"{number}.gguf"
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_eos_token_id(number)
        writer.add_chat_template("{{ messages }}")
        writer.add_token_list(["a"])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file

    folder = models["llama"]
    assert check_end_tokens(folder, named(1)) == ""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<|user|>"}))
    assert "answers end with <|end|> (1)" in check_end_tokens(other, named(3))
    with pytest.raises(TrainingError, match=r"names the ends \[7\] and not \[1, 3\]"):
        check_end_tokens(other, named(7))


def test_a_file_that_differs_from_the_model_is_noticed(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value, a tensor too few, an order of rows that writer and comparison have wrong alike, and a cut file."""
    import numpy as np

    from dpo_tui.train.export.gguf.gguf_check import check_gguf, compare_tensors
    from dpo_tui.train.export.gguf.gguf_families import GgufFamily

    model, file = written(models["llama"], tmp_path, "q8_0")
    texts = ["how do i reset my password"]
    found = check_gguf(model, file, "q8_0", texts, models["llama-tied"])
    assert found.tensors == 21
    assert found.error < 1e-5
    assert found.rounding is not None
    assert 0 < found.rounding < 1

    whole = file.read_bytes()
    reader = gguf.GGUFReader(file, "r+")
    stored = next(tensor for tensor in reader.tensors if tensor.name == "blk.1.ffn_up.weight")
    stored.data[3, 5] ^= np.uint8(64)
    stored.data.flush()
    with pytest.raises(TrainingError, match=r"blk\.1\.ffn_up\.weight has other values"):
        compare_tensors(model, file)
    file.write_bytes(whole[:-500])
    with pytest.raises(TrainingError, match="cannot be read"):
        compare_tensors(model, file)

    # Without the order of rows that llama.cpp rotates: the comparison of tensors has it wrong too, and agrees.
    monkeypatch.setattr(GgufFamily, "stored", lambda self, name, tensor, config: tensor)
    model, file = written(models["llama"], tmp_path / "plain", "f16")
    assert compare_tensors(model, file) == 21
    with pytest.raises(TrainingError, match="does not say what the model says"):
        check_gguf(model, file, "f16", texts, None)
