"""The number of steps, and the time that they take by earlier runs or by data sheets."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.hardware.duration import duration_of, flops_per_token, steps_of
from dpo_tui.hardware.memory.memory_estimate import GB, estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.models.read_model import from_config
from dpo_tui.hardware.run_history import measurements, nearest
from tests.support.basic_config import BASIC, LLAMA, config


def finished_run(
    folder: Path, name: str, values: dict[str, Any], metrics: dict[str, float], device: dict[str, Any]
) -> None:
    run = folder / name
    run.mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(from_values(values)))
    receipt = {"version": 1, "device": device, "results": {"steps": 9, "metrics": metrics}}
    (run / "receipt.json").write_text(json.dumps(receipt))


def test_earlier_runs_are_the_basis_of_the_time_and_are_quoted(tmp_path: Path) -> None:
    """Measured against estimated, and a measured speed instead of a table."""
    gpu = {"kind": "cuda", "name": "Card"}
    finished_run(tmp_path, "20260101-000000-aaaa", BASIC, {"tokens_per_second": 1000.0, "vram_peak_gb": 8.5}, gpu)
    small = {**BASIC, "model_name": "Qwen/Qwen2.5-0.5B-Instruct"}
    finished_run(tmp_path, "20260102-000000-bbbb", small, {"tokens_per_second": 9000.0, "vram_peak_gb": 2.5}, gpu)
    (tmp_path / "20260103-000000-cccc").mkdir()
    (tmp_path / "20260103-000000-cccc" / "receipt.json").write_text("{ torn")
    found, arch = measurements(tmp_path), architecture_of(LLAMA)
    assert len(found) == 2
    best = nearest(found, config(), arch, "Card")[0]
    assert best.run.endswith("aaaa")
    whole = estimate(config(), arch)
    assert best.measured == int(8.5 * GB)
    assert best.estimated == whole.total - whole.part("cuda_context")
    time = duration_of(config(), arch, 50_000, "Card", found)
    assert time is not None
    assert time.seconds == pytest.approx(50.0)
    assert "aaaa" in time.basis
    guess = duration_of(config(), arch, 50_000, "Other card", found)
    assert guess is not None
    assert "guess" in guess.basis


def test_steps_follow_trainers_arithmetic() -> None:
    assert steps_of(config(eval_split=0.0), 100, 10.0).steps == 3 * 13  # type: ignore[union-attr]
    assert steps_of(config(max_steps=7), None, 10.0).tokens == 7 * 8 * 10  # type: ignore[union-attr]
    assert steps_of(config(), None, 10.0) is None
    assert steps_of(config(eval_split=0.0), 1, None).steps == 3  # type: ignore[union-attr]


def test_the_time_of_a_mixture_of_experts_follows_the_active_weights() -> None:
    shape = {
        "model_type": "mixtral", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 100, "num_experts_per_tok": 2,
    }  # fmt: skip
    few, many = (from_config({**shape, "num_local_experts": experts}, "x") for experts in (4, 64))
    assert many.parameters > 5 * few.parameters
    router = 2 * (64 - 4) * 64  # layers, more experts, hidden size
    assert many.active_weights == few.active_weights + router
    assert flops_per_token(config(), many) < 1.2 * flops_per_token(config(), few)


def test_the_reference_and_checkpoints_cost_time() -> None:
    arch = architecture_of(LLAMA)
    full = flops_per_token(config(), arch)
    assert flops_per_token(config(precompute_ref_log_probs=True), arch) == pytest.approx(full * 3 / 4)
    assert flops_per_token(config(gradient_checkpointing=False), arch) == pytest.approx(full * 3 / 4)
