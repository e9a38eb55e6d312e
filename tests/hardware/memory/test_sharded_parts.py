"""What FSDP2 divides, in the estimate of one process: the arithmetic, part by part."""

from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.hardware.memory.memory_estimate import MemoryEstimate, estimate
from dpo_tui.hardware.models.lookup import architecture_of

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
ARCH = architecture_of(MODEL)


def estimated(distributed: str, **values: Any) -> MemoryEstimate:
    return estimate(
        from_values({"model_name": MODEL, "dataset": "-", "gpu_count": 4, "distributed": distributed, **values}), ARCH
    )


@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_each_of_four_processes_holds_a_quarter_of_all_but_its_activations(use_lora: bool) -> None:
    whole, divided = (estimated(how, use_lora=use_lora) for how in ("ddp", "fsdp2"))
    for part in ("weights", "gradients", "optimizer", *(["adapter"] if use_lora else [])):
        assert divided.part(part) == -(-whole.part(part) // 4), part
    if use_lora:  # a whole model has its peak in the optimizer's step, where no activations are left
        assert divided.part("activations") == whole.part("activations") > 0
    assert (whole.part("gradient_buckets") > 0, divided.part("gradient_buckets")) == (True, 0)
    assert divided.total < whole.total


def test_two_layers_and_the_vocabulary_are_whole_at_times() -> None:
    layer = (ARCH.parameters - ARCH.embedding_weights) // ARCH.layers
    weights = 2 * layer + ARCH.embedding_weights
    assert estimated("fsdp2").part("unsharded") == pytest.approx(2 * weights, rel=1e-6), "bf16"
    full = estimated("fsdp2", use_lora=False)
    assert full.part("unsharded") == pytest.approx(2 * weights * 2, rel=1e-6), "and their gradients"


def test_nf4_weights_are_divided_and_their_scales_are_whole() -> None:
    whole, divided = (estimated(how, use_4bit=True) for how in ("ddp", "fsdp2"))
    packed = sum(count * linear.weights for linear, count in ARCH.matrices()) // 2
    scales = whole.part("weights") - packed - 2 * (ARCH.embedding_weights + ARCH.small_weights)
    books = 7 * ARCH.layers * 4 * (1 + 16 + 256)
    assert scales == pytest.approx(packed * 2 * (1 / 64 + 4 / (64 * 256)) + books, rel=1e-3)
    assert divided.part("weights") == -(-(whole.part("weights") - scales) // 4) + scales
    loading = next(phase.size for phase in divided.phases if phase.name.startswith("loading"))
    assert loading >= whole.part("weights"), "packed where they are loaded, before they are divided"
    layers = 2 * (packed + scales) / ARCH.layers
    assert divided.part("unsharded") == pytest.approx(layers + 2 * ARCH.embedding_weights, rel=1e-3)


def test_offloaded_parts_are_not_on_the_gpu() -> None:
    offloaded = estimated("fsdp2", use_lora=False, cpu_offload=True)
    assert [offloaded.part(name) for name in ("weights", "gradients", "optimizer")] == [0, 0, 0]
    assert offloaded.part("unsharded") == estimated("fsdp2", use_lora=False).part("unsharded")


def test_a_reference_that_is_scored_in_steps_is_whole_in_its_pass() -> None:
    scored = {how: estimated("fsdp2", use_lora=False, precompute_ref_log_probs=how) for how in ("on", "off")}
    assert scored["off"].part("reference_model") == ARCH.parameters * 4 // 4
    passes = next(phase.size for phase in scored["off"].phases if phase.name == "reference pass")
    assert passes > ARCH.parameters * 2, "TRL divides it as one group"
    assert scored["on"].part("reference_model") == 0


@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_a_reference_that_is_scored_once_needs_the_model_whole_before_it_is_divided(use_lora: bool) -> None:
    once = estimated("fsdp2", use_lora=use_lora, precompute_ref_log_probs="on", gradient_checkpointing=True)
    (whole,) = (phase.size for phase in once.phases if phase.name.endswith("before the weights are divided"))
    assert whole >= ARCH.parameters * (2 if use_lora else 4)
    assert once.total >= whole
