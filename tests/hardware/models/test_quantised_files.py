"""Models whose files hold quantised weights: their size in memory, from the files or from the format."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.hardware.memory.memory_estimate import DeviceKind, MemoryEstimate, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.models.read_model import from_config
from tests.support.families import build

GB = 1e9
EIGHT_B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
LINEAR, VOCABULARY = 6_979_321_856, 2 * 128256 * 4096


def eight_b(**quantisation: Any) -> Architecture:
    return from_config({**EIGHT_B, "quantization_config": quantisation}, "8B")


def memory(arch: Architecture, device: DeviceKind = "cuda", **values: Any) -> MemoryEstimate:
    return estimate(from_values({"model_name": "x", "dataset": "-", "use_4bit": False, **values}), arch, device=device)


@pytest.mark.parametrize(
    ("quantisation", "bits"),
    [
        ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 4 + 8 / 64),
        ({"load_in_4bit": True, "quant_method": "bitsandbytes"}, 4 + 32 / 64),
        ({"load_in_8bit": True, "quant_method": "bitsandbytes"}, 8),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 8 + 24 / 32),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}}},
            },
            4 + 16 / 128,
        ),
    ],
)
def test_an_8b_model_takes_the_bits_of_its_quantisation(quantisation: dict[str, Any], bits: float) -> None:
    """It was counted in 16 bit, at 16 GB, whatever the files hold."""
    arch = eight_b(**quantisation)
    assert arch.parameters == pytest.approx(8.03e9, rel=0.001)
    expected = LINEAR * bits / 8 + 2 * VOCABULARY
    assert memory(arch).part("weights") == pytest.approx(expected, rel=0.005)


def test_use_4bit_changes_nothing_where_the_files_are_quantised() -> None:
    arch = eight_b(load_in_4bit=True, bnb_4bit_use_double_quant=True)
    assert memory(arch, use_4bit=True).total == memory(arch).total
    plain = from_config(EIGHT_B, "8B")
    assert memory(arch).total == pytest.approx(memory(plain, use_4bit=True).total, rel=0.01)


def test_an_adapter_over_gptq_stays_in_fp32_and_over_bitsandbytes_in_16_bit() -> None:
    """TRL casts it where bitsandbytes holds the weights, and only there."""
    gptq, packed = eight_b(quant_method="gptq", bits=4, group_size=128), eight_b(load_in_4bit=True)
    assert memory(gptq).part("adapter") == 2 * memory(packed).part("adapter")


def test_fp8_without_a_gpu_and_methods_that_are_not_known_are_counted_unpacked_and_said() -> None:
    plain = memory(from_config(EIGHT_B, "8B"), device="cpu").part("weights")
    for quantisation, words in (
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "unpacked"),
        ({"quant_method": "brandnew"}, "guess"),
    ):
        found = memory(eight_b(**quantisation), device="cpu")
        assert found.part("weights") == plain
        assert any(words in note for note in found.notes), found.notes


def test_a_model_that_bitsandbytes_saved_takes_what_its_files_say(tmp_path: Path) -> None:
    """The real thing: quantised while loading, saved, and loaded again."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    plain = build("llama", tmp_path / "plain")
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=how, dtype=torch.bfloat16).save_pretrained(
        tmp_path / "packed"
    )
    held = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.bfloat16)
    real = sum(weight.numel() * weight.element_size() for weight in held.parameters())
    for module in held.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            parts = (state.absmax, state.code, state.state2.absmax, state.state2.code)
            real += sum(part.numel() * part.element_size() for part in parts)
    arch = architecture_of(str(tmp_path / "packed"))
    assert arch.parameters == architecture_of(str(plain)).parameters
    # The files hold a few bytes of description with each matrix, which are no tensors in memory.
    assert memory(arch).part("weights") == pytest.approx(real, rel=0.01)


def _write(folder: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    """Write a safetensors file of zeros: name → dtype, shape, bytes of a number."""
    entries, end = {}, 0
    for name, (dtype, shape, width) in tensors.items():
        size = width
        for side in shape:
            size *= side
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))


def test_gptq_files_are_counted_as_they_are(tmp_path: Path) -> None:
    config = {
        **EIGHT_B,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "intermediate_size": 128,
        "vocab_size": 100,
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    sides = {name: (64, 64) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    sides |= {"gate_proj": (128, 64), "up_proj": (128, 64), "down_proj": (64, 128)}
    tensors: dict[str, tuple[str, list[int], int]] = {
        "model.embed_tokens.weight": ("F16", [100, 64], 2),
        "lm_head.weight": ("F16", [100, 64], 2),
        "model.norm.weight": ("F16", [64], 2),
        "model.layers.0.input_layernorm.weight": ("F16", [64], 2),
        "model.layers.0.post_attention_layernorm.weight": ("F16", [64], 2),
    }
    packed = 0
    for name, (rows, columns) in sides.items():
        at = f"model.layers.0.part.{name}"
        tensors |= {
            f"{at}.qweight": ("I32", [columns // 8, rows], 4),
            f"{at}.qzeros": ("I32", [columns // 32, rows // 8], 4),
            f"{at}.scales": ("F16", [columns // 32, rows], 2),
            f"{at}.g_idx": ("I32", [columns], 4),
        }
        packed += rows * columns // 2 + columns // 32 * rows // 2 + columns // 32 * rows * 2 + 4 * columns
    _write(tmp_path, tensors)
    arch = architecture_of(str(tmp_path))
    whole = packed + 2 * (2 * 100 * 64 + 3 * 64)
    assert memory(arch).part("weights") == whole
    # By the format alone, the same.
    (tmp_path / "model.safetensors").unlink()
    assert memory(architecture_of(str(tmp_path))).part("weights") == whole
    assert not arch.guessed
