"""The activation formula against the tensors that autograd really keeps, on small layers of the real classes.

CPU kernels differ from the GPU's in two small ways (LayerNorm keeps its input in bf16; attention's output is sometimes
a copy), so the families with either have a wider margin here.
"""

import gc
import weakref
from typing import Any

import pytest

from dpo_tui.hardware.memory.activations import (
    Workload,
    backward_extra,
    layer_boundary,
    outside_layers,
    saved_by_layer,
)
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.read_model import from_config

torch = pytest.importorskip("torch")

ROWS, LENGTH = 2, 96
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 256}
FAMILIES: dict[str, tuple[dict[str, Any], float]] = {
    "llama": ({**HEADS, "head_dim": 32, "intermediate_size": 896}, 0.02),
    "mistral": ({**HEADS, "head_dim": 32, "intermediate_size": 896}, 0.02),
    "qwen2": ({**HEADS, "intermediate_size": 1352}, 0.02),
    "qwen3": ({**HEADS, "head_dim": 64, "intermediate_size": 768}, 0.02),
    "gemma": ({**HEADS, "num_key_value_heads": 1, "head_dim": 64, "intermediate_size": 1024}, 0.02),
    "gemma2": ({**HEADS, "head_dim": 64, "intermediate_size": 768}, 0.02),
    "olmo2": ({**HEADS, "num_key_value_heads": 8, "intermediate_size": 688}, 0.02),
    "granite": ({**HEADS, "intermediate_size": 800}, 0.02),
    "smollm3": ({**HEADS, "intermediate_size": 1376}, 0.02),
    "qwen3_moe": (
        {**HEADS, "head_dim": 32, "moe_intermediate_size": 256, "num_experts": 8, "num_experts_per_tok": 2},
        0.02,
    ),
    "mixtral": ({**HEADS, "head_dim": 32, "intermediate_size": 512, "num_local_experts": 8}, 0.02),
    "glm4": ({**HEADS, "head_dim": 32, "intermediate_size": 896}, 0.06),
    "phi3": ({**HEADS, "num_key_value_heads": 8, "intermediate_size": 704}, 0.06),
    "phi": ({**HEADS, "num_key_value_heads": 8, "intermediate_size": 1024}, 0.06),
    "stablelm": ({**HEADS, "num_key_value_heads": 8, "intermediate_size": 704}, 0.06),
}


def build(
    family: str, layers: int, *, rank: int = 16, dtype: Any = None, checkpointed: bool = False
) -> tuple[Any, Architecture]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    shape, _ = FAMILIES[family]
    values = {"num_hidden_layers": layers, "vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = AutoConfig.for_model(family, **shape, **values)
    base = torch.float32 if rank == 0 else torch.bfloat16
    model = AutoModelForCausalLM.from_config(settings, dtype=base)
    if rank:
        model = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.to(dtype or torch.bfloat16)
        model.enable_input_require_grads()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train(), from_config({**settings.to_dict(), "model_type": family}, family)


def workload(arch: Architecture, **values: Any) -> Workload:
    names = frozenset(linear.name for linear in arch.linears())
    return Workload(ROWS, LENGTH, adapted=names, attention="eager" if arch.softcap else "sdpa", **values)


def forward(model: Any) -> Any:
    """The backbone on right-padded rows, as DPO has them, under autocast."""
    mask = torch.ones((ROWS, LENGTH), dtype=torch.long)
    mask[0, -3:] = 0  # as a real batch: padded somewhere
    backbone = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return backbone(input_ids=torch.zeros_like(mask), attention_mask=mask, use_cache=False).last_hidden_state


def standing(model: Any) -> set[int]:
    """Storages that are there anyway: weights, gradients, buffers."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight)
    held = [*model.parameters(), *model.buffers(), *(w.grad for w in model.parameters() if w.grad is not None)]
    return {tensor.untyped_storage()._cdata for tensor in held}


def saved_bytes(model: Any) -> int:
    ignored, seen = standing(model), {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in ignored:
            seen[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(model)
    return sum(size for size, _ in seen.values())


def peak_bytes(model: Any) -> int:
    """The most bytes that were alive at once in a forward and backward pass."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    ignored = standing(model)
    live: dict[int, int] = {}
    now = top = 0

    def released(key: int) -> None:
        nonlocal now
        now -= live.pop(key, 0)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal now, top
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    key = storage._cdata
                    if key not in ignored and key not in live and storage.nbytes():
                        live[key] = storage.nbytes()
                        now += live[key]
                        weakref.finalize(storage, released, key)
            top = max(top, now)
            return result

    gc.collect()
    with Watch():
        hidden = forward(model)
        hidden.backward(torch.ones_like(hidden))
    return top


@pytest.mark.parametrize("family", FAMILIES)
def test_one_more_layer_keeps_as_much_as_the_formula_says(family: str) -> None:
    """Activations without checkpointing; the difference of two depths is one layer."""
    two, arch = build(family, 2)
    one, _ = build(family, 1)
    real = saved_bytes(two) - saved_bytes(one)
    assert saved_by_layer(arch, workload(arch)) == pytest.approx(real, rel=FAMILIES[family][1])


def test_an_fp32_adapter_keeps_a_copy_per_linear_layer() -> None:
    """Over 16-bit weights peft casts each input for itself; autocast's copies of the adapter come on top."""
    two, arch = build("llama", 2, dtype=torch.float32)
    one, _ = build("llama", 1, dtype=torch.float32)
    casts = sum(16 * (linear.rows + linear.columns) * 2 for linear in arch.linears())
    real = saved_bytes(two) - saved_bytes(one) - casts
    assert saved_by_layer(arch, workload(arch, adapter_width=4)) == pytest.approx(real, rel=0.01)


def test_full_fine_tuning_keeps_fp32_streams_and_casts() -> None:
    """Trained fp32 weights under autocast."""
    two, arch = build("llama", 2, rank=0)
    one, _ = build("llama", 1, rank=0)
    casts = sum(linear.weights * 2 for linear in arch.linears())
    real = saved_bytes(two) - saved_bytes(one) - casts
    assert saved_by_layer(arch, workload(arch, rank=0)) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_the_peak_of_a_step_is_what_the_formula_says(family: str, checkpointed: bool) -> None:
    """Layer boundaries, one layer computed again, and its gradients; the LM head is not in this."""
    layers = 3
    model, arch = build(family, layers, checkpointed=checkpointed)
    work = workload(arch)
    saved = saved_by_layer(arch, work)
    kept = layers * (layer_boundary(arch, work) if checkpointed else saved) + outside_layers(arch, work)
    formula = kept + (saved if checkpointed else 0) + backward_extra(arch, work)
    assert formula == pytest.approx(peak_bytes(model), rel=0.05)
