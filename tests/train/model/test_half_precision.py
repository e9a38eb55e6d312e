"""fp16: what is trained is in fp32, so that the scaler of losses can divide its gradients, whatever the base is in."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from tests.support.trained_both_ways import worker_trainer
from tests.support.training import make_config

FP16 = {"fp16": True, "bf16": False}
TRAINED: dict[str, dict[str, Any]] = {
    "adapter": {},
    "copied layer": {"modules_to_save": ["lm_head"], "strategy": "orpo"},
    "4-bit weights": {"use_4bit": True},
    "4-bit weights without a reference": {"use_4bit": True, "strategy": "simpo"},
    "all weights": {"use_lora": False},
}


def scaled_trainer(config: Any) -> Any:
    """The trainer of a run, on the CPU in fp16 with a scaler, both of which accelerate leaves to GPUs."""
    import torch

    from dpo_tui.train.model.device import TrainingDevice

    trainer = worker_trainer(config, TrainingDevice("cpu", "fp16", "On the CPU in fp16"))
    assert trainer.args.fp16 and not trainer.args.bf16
    trainer.accelerator.native_amp, trainer.accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0)
    return trainer


@pytest.mark.parametrize(
    "name", [*list(TRAINED)[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in list(TRAINED)[1:])]
)
@pytest.mark.usefixtures("home")
def test_steps_are_scaled_and_what_is_trained_is_in_fp32(tiny_model: Path, tiny_pairs: Path, name: str) -> None:
    import torch

    settings = {"max_steps": 4, "eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0, "learning_rate": 1e-2}
    trainer = scaled_trainer(make_config(tiny_model, tiny_pairs, **settings, **FP16, **TRAINED[name]))
    weights = dict(trainer.model.named_parameters())
    assert {weight.dtype for weight in weights.values() if weight.requires_grad} == {torch.float32}
    frozen = {weight.dtype for weight in weights.values() if not weight.requires_grad}
    assert torch.float16 in frozen or name == "all weights"
    before = {key: weight.detach().clone() for key, weight in weights.items() if weight.requires_grad}
    trainer.train()
    log = [line for line in trainer.state.log_history if "loss" in line]
    assert len(log) == 4 and log[-1]["loss"] < log[0]["loss"]
    assert all(0 < line["grad_norm"] < 1e3 for line in log), "neither scaled nor infinite"
    assert trainer.accelerator.scaler.get_scale() == 1024.0, "no step was left out"
    moved = [key for key, weight in weights.items() if key in before and not weight.equal(before[key])]
    assert len(moved) > 0.9 * len(before)


def test_a_gpu_computes_in_fp16_where_that_is_asked_for_and_the_cpu_says_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from dpo_tui.train.model.device import choose_device

    needed = {"model_name": "m", "dataset": "d", **FP16}
    on_cpu = choose_device(from_values({**needed, "gpus": "none"}))
    assert (on_cpu.precision, on_cpu.description) == ("fp32", "On the CPU in fp32: fp16 is for NVIDIA GPUs")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    on_gpu = choose_device(from_values(needed))
    assert (on_gpu.precision, on_gpu.dtype) == ("fp16", torch.float16)
    assert on_gpu.description == "On NVIDIA L4 in fp16, as fp16 = true asks"


def test_both_precisions_at_once_are_refused() -> None:
    with pytest.raises(InvalidConfigError, match="set bf16 = false") as refused:
        from_values({"model_name": "m", "dataset": "d", "fp16": True})
    assert [problem.key for problem in refused.value.problems] == ["fp16"]
