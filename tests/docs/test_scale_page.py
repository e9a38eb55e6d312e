"""docs/scale.md: what it computes of a 70B model and of ten million pairs is computed again here."""

from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config, fields
from dpo_tui.data import cache_folders
from dpo_tui.hardware.memory.adapter import adapter_weights
from dpo_tui.hardware.memory.memory_estimate import GB, adapter_width, estimate, optimizer_size
from dpo_tui.hardware.models.lookup import architecture_of
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
MODEL = "meta-llama/Llama-3.3-70B-Instruct"
ARCH = architecture_of(MODEL)
CARD = 80
PAIRS = 10_000_000

# Measured, with where and on what: the page says so.
STEP_BYTES, SCORE_BYTES, PROCESSOR_RATE, CLOCK_RATE = 625, 8, 2065, 362


def large(gpus: int, **values: Any) -> Config:
    """A run of the 70B model with one pair of 2,048 tokens a micro-batch, on nodes of eight GPUs."""
    own = {"model_name": MODEL, "dataset": "-", "lora_r": 16, "per_device_train_batch_size": 1}
    job = {"launcher": "slurm", "gres": "gpu:h100:8", "nodes": gpus // 8, "gpu_count": 8}
    return from_values(own | {"max_seq_length": 2048, "gradient_checkpointing": True} | job | values)


NF4 = {"use_4bit": True, "distributed": "ddp"}
DIVIDED = {"distributed": "fsdp2"}
FULL = {**DIVIDED, "use_lora": False}


@pytest.mark.parametrize(
    ("what", "gpus", "changes"),
    [
        ("LoRA over NF4, DDP", 8, NF4),
        ("LoRA over bf16, DDP", 8, {"distributed": "ddp"}),
        ("LoRA over NF4, FSDP2", 8, {**NF4, **DIVIDED}),
        ("LoRA over NF4, FSDP2", 64, {**NF4, **DIVIDED}),
        ("LoRA over bf16, FSDP2", 8, DIVIDED),
        ("LoRA over bf16, FSDP2", 64, DIVIDED),
        ("full SFT, FSDP2", 8, {**FULL, "strategy": "sft"}),
        ("full SFT, FSDP2", 32, {**FULL, "strategy": "sft"}),
        ("full SFT, FSDP2", 64, {**FULL, "strategy": "sft"}),
        ("full SimPO, FSDP2", 64, {**FULL, "strategy": "simpo"}),
        ("full DPO, FSDP2", 64, FULL),
        ("full DPO, FSDP2, `cpu_offload`", 8, {**FULL, "cpu_offload": True}),
    ],
)
def test_memory_of_one_gpu(what: str, gpus: int, changes: dict[str, Any]) -> None:
    found = estimate(large(gpus, **changes), ARCH)
    fits = "yes" if found.total <= CARD * GB else "**no**"
    assert f"| {what} | {gpus} | {found.total / GB:.1f} | {found.peak.name} | {fits} |" in PAGE


def test_bytes_of_checkpoints_and_of_main_memory() -> None:
    config = large(8, **DIVIDED)
    weights = adapter_weights(config, ARCH)
    assert f"{weights / 1e6:.0f} M weights" in PAGE
    for changes in (DIVIDED, NF4):
        config = large(8, **changes)
        adapter, states = weights * adapter_width(config, ARCH) / GB, optimizer_size(config, ARCH) / GB
        assert f"{adapter:.2f} GB, and {states:.2f} GB" in PAGE
    checkpoint = 12 * ARCH.parameters
    assert f"{checkpoint / GB:,.0f} GB" in PAGE
    assert f"below {checkpoint / GB / 1800:.2f} GB a second" in PAGE, "30 minutes are what a rank waits in a collective"
    kept = fields()["save_total_limit"].default
    assert (
        f"{kept} are kept, and a third one is there while it is written: {(kept + 1) * checkpoint / 1e12:.1f} TB"
        in PAGE
    )
    whole = ARCH.parameters * 2
    assert f"{whole / GB:.0f} GB, and eight {8 * whole / 1e12:.1f} TB" in PAGE
    assert f"sixty-four read {64 * whole / 1e12:.0f} TB" in PAGE


def test_metrics_tokens_and_scores_of_ten_million_pairs() -> None:
    for batch in (8, 512):
        steps = -(-PAIRS // batch)
        assert f"| {batch} | {steps:,} | {steps * STEP_BYTES / 1e6:,.0f} MB |" in PAGE
    assert f"{PAIRS * SCORE_BYTES / 1e6:.0f} MB" in PAGE
    assert f"{PAIRS / PROCESSOR_RATE / 3600:.1f} processor hours" in PAGE
    assert f"{PAIRS / CLOCK_RATE / 3600:.1f} hours on that clock" in PAGE
    tokens = PAIRS * (300 * 4 + 12)
    assert f"{tokens / GB:.1f} GB" in PAGE
    assert cache_folders.LIMIT_BYTES == 10 * GB and "beyond 10 GB each" in PAGE
