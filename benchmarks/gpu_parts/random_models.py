"""Real architectures with random weights, made on the device: speed and memory do not care about the values.

The tokenizer is the demo's, padded with unused tokens to the model's vocabulary.
"""

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from dpo_tui.demo import assets

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
QWEN_1B = "Qwen/Qwen2.5-1.5B-Instruct"
GEMMA_1B = "google/gemma-3-1b-it"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 1600,
}
_INITIAL_SPREAD = 0.02  # standard deviation of the weights, transformers' initializer_range


def dimensions(model: str, *, tiny: bool = False) -> dict[str, Any]:
    """Return a model's config.json from the shipped table; ``tiny`` keeps the family alone.

    Raises:
        ValueError: the table has no such model.
    """
    entries = json.loads(
        resources.files("dpo_tui.hardware.models").joinpath("architectures.json").read_text(encoding="utf-8")
    )
    for entry in entries:
        if model in entry["models"]:
            found = dict(entry["config"])
            return found | _TINY if tiny else found
    raise ValueError(f"{model} is not in architectures.json")


def write_folder(folder: Path, model: str, *, tiny: bool = False) -> Path:
    """Write a model folder that has everything but the weights: config.json and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    values = dimensions(model, tiny=tiny)
    config = hub_config(model, tiny=tiny)
    config.architectures = [_class_name(values["model_type"])]
    config.save_pretrained(folder)
    write_tokenizer(folder, values["vocab_size"])
    return folder


def hub_config(model: str, *, tiny: bool = False, attention: str | None = None) -> Any:
    """Return the transformers config of a model in the shipped table."""
    from transformers import AutoConfig

    values = dimensions(model, tiny=tiny)
    kind = values.pop("model_type")
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "max_position_embeddings": 8192}
    options = {"attn_implementation": attention} if attention else {}
    return AutoConfig.for_model(kind, **special, **values, **options)


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """Write the demo's tokenizer with unused tokens up to the vocabulary's size."""
    shipped = assets.model_dir()
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(shipped / name, folder / name)
    document = json.loads((shipped / "tokenizer.json").read_text(encoding="utf-8"))
    known = document["model"]["vocab"]
    taken = len(known.keys() | {token["content"] for token in document["added_tokens"]})
    known |= {f"<unused-{number}>": number for number in range(taken, vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_max_length"] = 1_000_000
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def random_model(
    model: str,
    device: Any,
    *,
    four_bit: bool,
    dtype: Any,
    attention: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> Any:
    """Build a causal language model with random weights on a device, layer by layer.

    On the meta device first; then each module's weights are drawn where they belong, and linear layers are packed as
    NF4 one at a time, so that a 4-bit model never exists in 16 bit.

    Args:
        model: id in the shipped table.
        device: torch device.
        four_bit: NF4 with double quantisation for all linear layers but the LM head, as transformers does it.
        dtype: of the weights, and of NF4's products.
        attention: attn_implementation; None leaves it to transformers.
        tiny: the family alone, in a size for a test.
        seed: of the weights; the same seed gives the same model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = hub_config(model, tiny=tiny, attention=attention)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, dtype=dtype)
    draw = torch.Generator(device=device).manual_seed(seed)
    head = made.get_output_embeddings()
    for name, module in list(made.named_modules()):
        if four_bit and isinstance(module, torch.nn.Linear) and module is not head:
            made.set_submodule(name, _packed(module, dtype, device, draw))
            continue
        for key, weight in module.named_parameters(recurse=False):
            fresh = torch.empty(weight.shape, device=device, dtype=dtype)
            _initialise(fresh, type(module).__name__, key, made.config.model_type, draw)
            setattr(module, key, torch.nn.Parameter(fresh))
    made.tie_weights()
    _fill_buffers(made, device)
    if four_bit:
        made.is_loaded_in_4bit = True  # what TRL and PEFT look at
        made.quantization_method = "bitsandbytes"
    made.config.use_cache = False
    # Not in evaluation mode: there, on processors with AVX512-BF16, bitsandbytes repacks NF4 layers in the first
    # forward pass without gradients, and no gradient passes through a repacked layer afterwards.
    return made.train()


def _initialise(weight: Any, module: str, key: str, family: str, draw: Any) -> None:
    if "Norm" in module:
        # Gemma 3 multiplies by 1 + weight.
        weight.fill_(0.0 if family.startswith("gemma3") else 1.0)
    elif key == "bias":
        weight.zero_()
    else:
        weight.normal_(0.0, _INITIAL_SPREAD, generator=draw)


def _packed(linear: Any, dtype: Any, device: Any, draw: Any) -> Any:
    """Return one linear layer as NF4 with double quantisation, from random weights."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    biased = linear.bias is not None
    layer = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=biased,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = torch.empty((linear.out_features, linear.in_features), dtype=dtype, device=device)
    weight.normal_(0.0, _INITIAL_SPREAD, generator=draw)
    layer.weight = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer)
    if biased:
        layer.bias = torch.nn.Parameter(torch.zeros(linear.out_features, dtype=dtype, device=device))
    return layer.to(device)


def _fill_buffers(made: Any, device: Any) -> None:
    """Build rotary embeddings anew on the device, and fill whatever other buffers are still on the meta device."""
    import torch

    for name, module in list(made.named_modules()):
        if type(module).__name__.endswith("RotaryEmbedding"):
            with torch.device(device):
                made.set_submodule(name, type(module)(made.config))
            continue
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                value = made.config.hidden_size**0.5 if key == "embed_scale" else 1.0
                filled = torch.full(buffer.shape, value, device=device, dtype=buffer.dtype)
                module.register_buffer(key, filled, persistent=False)


def save_four_bit(model: Any, folder: Path) -> None:
    """Save a random NF4 model so that ``from_pretrained`` loads it as the hub's 4-bit models are loaded."""
    from transformers import BitsAndBytesConfig

    model.config.quantization_config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=model.dtype,
    )
    model.generation_config.do_sample = True
    model.save_pretrained(folder)


def _class_name(kind: str) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
