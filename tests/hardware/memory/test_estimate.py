"""The fixed parts of the memory estimate against real model, adapter, optimizer and NF4 objects (no GPU needed)."""

import copy
import functools
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.adapter import trained_weights
from dpo_tui.hardware.memory.memory_estimate import estimate, optimizer_size
from dpo_tui.hardware.models.lookup import architecture_of, known_models, recommended_models
from dpo_tui.hardware.models.quantised import quantisation_while_loading

torch = pytest.importorskip("torch")

MODELS = (
    "meta-llama/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-4B",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "mistralai/Mistral-Nemo-Instruct-2407",
    "google/gemma-2b-it",
    "google/gemma-2-2b-it",
    "google/gemma-3-1b-it",
    "microsoft/Phi-3-mini-4k-instruct",
    "microsoft/Phi-4-mini-instruct",
    "microsoft/phi-2",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "HuggingFaceTB/SmolLM3-3B",
    "allenai/OLMo-2-1124-7B-Instruct",
    "ibm-granite/granite-3.3-2b-instruct",
    "stabilityai/stablelm-2-1_6b-chat",
    "tiiuae/Falcon3-7B-Instruct",
)
# The embeddings of the padding row, rotary buffers and the like make up the rest.
CLOSE = 0.01


def config(model: str, **values: Any) -> Config:
    return from_values({"model_name": model, "dataset": "-", **values})


@functools.cache
def raw_config(model: str) -> dict[str, Any]:
    from dpo_tui.hardware.models.lookup import _table

    return dict(_table()[model.lower()])


@functools.cache
def layers_and_rest(model: str) -> tuple[Any, int, int, int]:
    """A one-layer model on the meta device, and its bf16 bytes: (model, one layer, everything else, layers).

    Decoder layers of one model are alike, so one is built and counted as often as the model has it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    values = copy.deepcopy(raw_config(model))
    kind, layers = values.pop("model_type"), values["num_hidden_layers"]
    values["num_hidden_layers"] = 1
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, pad_token_id=0, **values), dtype=torch.bfloat16
        )
    layer = sum(weight.numel() * weight.element_size() for weight in built.base_model.layers.parameters())
    total = sum(weight.numel() * weight.element_size() for weight in built.parameters())
    return built, layer, total - layer, layers


@functools.cache
def nf4_bytes_per_weight() -> float:
    """Measured on a really quantised layer, as the worker asks for it: NF4 with double quantisation."""
    functional = pytest.importorskip("bitsandbytes").functional
    packed, state = functional.quantize_4bit(torch.randn(2048, 1024), compress_statistics=True, quant_type="nf4")
    tensors = (packed, state.absmax, state.state2.absmax)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / (2048 * 1024)


@pytest.mark.parametrize("model", MODELS)
def test_bf16_weights_are_those_of_the_real_model(model: str) -> None:
    """The weights' share, within 1 %."""
    _, layer, rest, layers = layers_and_rest(model)
    found = estimate(config(model, use_4bit=False), architecture_of(model)).part("weights")
    assert found == pytest.approx(layers * layer + rest, rel=CLOSE)


@pytest.mark.parametrize("model", MODELS)
def test_nf4_weights_are_those_of_really_quantised_layers(model: str) -> None:
    """Linear layers of the decoder packed; embeddings, LM head, norms and biases in 16 bit."""
    built, layer, rest, layers = layers_and_rest(model)
    matrices = [module.weight for module in built.base_model.layers.modules() if isinstance(module, torch.nn.Linear)]
    weights = sum(matrix.numel() for matrix in matrices)
    real = layers * (layer - 2 * weights + nf4_bytes_per_weight() * weights) + rest
    found = estimate(config(model, use_4bit=True), architecture_of(model)).part("weights")
    assert found == pytest.approx(real, rel=CLOSE)


@pytest.mark.parametrize("rank", [16, 64])
@pytest.mark.parametrize("model", MODELS)
def test_adapter_gradients_and_optimizer_are_those_of_a_real_adapter(model: str, rank: int) -> None:
    """PEFT's all-linear adapter with AdamW, in fp32 over 16-bit weights and in bf16 over NF4 (TRL 1.16)."""
    from peft import LoraConfig, get_peft_model

    built, _, _, layers = layers_and_rest(model)
    adapted = get_peft_model(
        copy.deepcopy(built), LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    for use_4bit, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        held = [torch.nn.Parameter(weight.detach().to(dtype)) for weight in trained]
        adapter = layers * sum(weight.numel() * weight.element_size() for weight in held)
        state = layers * _state_bytes(held)
        found = estimate(config(model, use_4bit=use_4bit, lora_r=rank), architecture_of(model))
        assert found.part("adapter") == pytest.approx(adapter, rel=CLOSE)
        assert found.part("gradients") == pytest.approx(adapter, rel=CLOSE)
        assert found.part("optimizer") == pytest.approx(state, rel=CLOSE)


def _state_bytes(weights: list[Any]) -> int:
    optimizer = torch.optim.AdamW(weights, foreach=False)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.numel() * value.element_size() for value in states if value.dim() > 0)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_32bit"])
def test_bitsandbytes_states_have_the_size_that_the_library_gives_them(name: str) -> None:
    """The optimizers that need less memory."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    bits = 8 if name == "adamw_8bit" else 32
    optimizer = bitsandbytes.optim.AdamW([torch.nn.Parameter(torch.zeros(1024, 64))], optim_bits=bits)
    group = optimizer.param_groups[0]
    optimizer.initialized = True
    weight = group["params"][0]
    weight.grad = torch.zeros_like(weight)
    optimizer.init_state(group, weight, 0, 0)
    kept = [value for key, value in optimizer.state[weight].items() if torch.is_tensor(value) and "qmap" not in key]
    real = sum(value.numel() * value.element_size() for value in kept) / weight.numel()
    values = config("meta-llama/Llama-3.2-1B-Instruct", use_4bit=True, optim=name)
    arch = architecture_of(values.model_name)
    assert optimizer_size(values, arch) / trained_weights(values, arch) == pytest.approx(real, rel=CLOSE)


def test_one_nf4_matrix_has_its_exact_size() -> None:
    """Block scales in bytes, nested scales, offset and code books included."""
    functional = pytest.importorskip("bitsandbytes").functional

    packed, state = functional.quantize_4bit(torch.randn(896, 4864), compress_statistics=True, quant_type="nf4")
    kept = (packed, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
    real = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    asked = quantisation_while_loading(config("meta-llama/Llama-3.2-1B-Instruct", use_4bit=True))
    assert asked is not None
    assert asked.size(896, 4864) == real


def bytes_of_a_linear_layer(table: dict[str, Any], rows: int, columns: int) -> int:
    """Bytes of a layer that bitsandbytes has really quantised, with its scales and code books."""
    nn = pytest.importorskip("bitsandbytes").nn
    if table.get("load_in_8bit"):
        layer = nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False).to("cpu")
        kept = (layer.weight.data, layer.weight.SCB)
        assert layer.weight.data.dtype == torch.int8
    else:
        nested, kind = bool(table.get("bnb_4bit_use_double_quant")), table.get("bnb_4bit_quant_type", "fp4")
        layer = nn.Linear4bit(columns, rows, bias=False, compress_statistics=nested, quant_type=kind).to("cpu")
        state = layer.weight.quant_state
        kept = (layer.weight.data, state.absmax, state.code)
        kept += (state.offset, state.state2.absmax, state.state2.code) if nested else ()
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


TABLES: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True},
    "FP4": {"load_in_4bit": True},
    "FP4 nested": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
    "NF4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}


@pytest.mark.parametrize("name", TABLES)
def test_weights_quantised_by_a_table_have_the_size_that_bitsandbytes_gives_them(name: str) -> None:
    """[model_init] quantization_config: one layer to a few bytes, and a model within 1 %."""
    model, table = "meta-llama/Llama-3.2-1B-Instruct", TABLES[name]
    made, arch = config(model, model_init={"quantization_config": table}), architecture_of(model)
    asked = quantisation_while_loading(made)
    assert asked is not None
    assert asked.size(512, 1024) == pytest.approx(bytes_of_a_linear_layer(table, 512, 1024), abs=4)
    built, layer, rest, layers = layers_and_rest(model)
    matrices = [module.weight for module in built.base_model.layers.modules() if isinstance(module, torch.nn.Linear)]
    weights = sum(matrix.numel() for matrix in matrices)
    per_weight = bytes_of_a_linear_layer(table, 512, 1024) / (512 * 1024)
    real = layers * (layer - 2 * weights + per_weight * weights) + rest
    found = estimate(made, arch)
    assert found.part("weights") == pytest.approx(real, rel=CLOSE)
    assert f"weights, {name.partition(' ')[0]}, vocabulary" in found.parts[0].label


@pytest.mark.parametrize("name", TABLES)
def test_over_such_weights_the_adapter_is_counted_in_bf16_as_over_nf4(name: str) -> None:
    model = "meta-llama/Llama-3.2-1B-Instruct"
    made = config(model, model_init={"quantization_config": TABLES[name]})
    plain, arch = config(model, use_4bit=False), architecture_of(model)
    assert estimate(made, arch).part("adapter") * 2 == estimate(plain, arch).part("adapter")


def test_a_module_that_is_left_out_is_counted_in_16_bit() -> None:
    model = "meta-llama/Llama-3.2-1B-Instruct"
    arch = architecture_of(model)
    whole, less = (
        estimate(config(model, model_init={"quantization_config": {"load_in_8bit": True, **more}}), arch)
        for more in ({}, {"llm_int8_skip_modules": ["lm_head", "down_proj"]})
    )
    matrix, layers = 2048 * 8192, 16
    assert less.part("weights") - whole.part("weights") == layers * (matrix - 4 * 2048)


def test_a_method_of_unknown_size_is_counted_in_16_bit_and_the_estimate_says_so() -> None:
    model = "meta-llama/Llama-3.2-1B-Instruct"
    arch = architecture_of(model)
    made = config(model, model_init={"quantization_config": {"quant_method": "hqq", "nbits": 4}})
    found = estimate(made, arch)
    assert found.part("weights") == estimate(config(model, use_4bit=False), arch).part("weights")
    assert any("whose size in memory is not known here" in note for note in found.notes)


def test_the_shipped_table_has_forty_architectures_and_every_recommended_model() -> None:
    """The estimate works without the network."""
    sizes = {(one.hidden, one.layers, one.vocabulary, one.tied) for one in map(architecture_of, known_models())}
    assert len(sizes) >= 40
    for model in recommended_models():
        assert architecture_of(model.name).parameters / 1e9 == pytest.approx(model.parameters, rel=0.01), model.name
    assert {"meta-llama/Llama-3.1-8B-Instruct"} <= {model.name for model in recommended_models()}
    assert min(model.parameters for model in recommended_models()) < 0.2
    assert max(model.parameters for model in recommended_models()) > 14


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("meta-llama/Llama-2-7b-hf", 6.738),
        ("meta-llama/Llama-3.3-70B-Instruct", 70.554),
        ("HuggingFaceH4/zephyr-7b-beta", 7.242),
        ("01-ai/Yi-1.5-9B-Chat", 8.829),
        ("google/gemma-7b", 8.538),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.777),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1.100),
        ("mistralai/Mistral-Small-24B-Instruct-2501", 23.572),
    ],
)
def test_parameter_counts_are_the_published_ones(model: str, billions: float) -> None:
    assert architecture_of(model).parameters / 1e9 == pytest.approx(billions, abs=0.001)
