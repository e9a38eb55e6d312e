"""Part e: where the GPU's time goes in the fastest of our ways."""

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.session import NotMeasured, Part, Session
from benchmarks.gpu_parts.speed import OURS_ONCE, WARM_UP, WAYS, WORKLOADS, setup_of
from benchmarks.gpu_parts.training_setup import free_memory
from benchmarks.gpu_parts.ways import Way

_STEPS = 3
_SHOWN = 12
# Parts of kernel names, the first that fits; lower case.
_KINDS = (
    ("attention", ("flash", "fmha", "attention", "sdpa", "flex")),
    ("4-bit unpacking", ("dequant", "kgemm_4bit", "4bit")),
    ("optimizer", ("adam", "multi_tensor", "foreach")),
    ("LM head", ("_forward_kernel", "_backward_kernel", "logprob", "softmax")),
    ("matrix products", ("gemm", "cutlass", "nvjet", "cublas", "matmul", "::mm")),
    ("copies and casts", ("memcpy", "memset", "copy", "cast")),
)


def measure(session: Session) -> None:
    """Profile a few steps on the first two workloads."""
    for workload in WORKLOADS[:1] if session.dry else WORKLOADS[:2]:
        way = fastest(session.results, workload.name)
        session.measure(
            f"{workload.name}: {way.name}",
            partial(_profiled, session, workload, way),
            needs=workload.needs,
        )


def fastest(results: Path, workload: str) -> Way:
    """Return our fastest way on a workload, as part d has measured it; the sdpa mask where it has not."""
    ours = {f"{workload}: {way.name}": way for way in WAYS if way.ours}
    measured: dict[str, float] = {}
    for text in results.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line.get("part") == "d" and line.get("row") in ours and "pairs_a_second_3_epochs" in line:
            measured[line["row"]] = line["pairs_a_second_3_epochs"]
    return ours[max(measured, key=lambda name: measured[name])] if measured else OURS_ONCE


def _profiled(session: Session, workload: Any, way: Way) -> Mapping[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback

    from benchmarks.gpu_parts.clock import StepClock

    free_memory()
    setup = setup_of(session, workload, way, steps=WARM_UP + _STEPS)
    trainer = setup.trainer(way)
    clock = StepClock(WARM_UP, float("inf"))
    profiler = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    class Profiled(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP:
                profiler.start()

    trainer.add_callback(clock)
    trainer.add_callback(Profiled())
    trainer.train()
    profiler.stop()
    steps = len(clock.steps)
    on_gpu = torch.cuda.is_available()
    events = [
        (event.key, event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profiler.key_averages()
        if not on_gpu or "cuda" in str(event.device_type).lower()
    ]
    del trainer
    free_memory()
    if not events:
        raise NotMeasured("the profiler saw no kernel")
    busy = sum(time for _, time in events) / 1000 / steps
    a_step = sum(clock.steps) * 1000 / steps
    kinds: dict[str, float] = defaultdict(float)
    for name, time in events:
        kinds[kind_of(name)] += time / 1000 / steps
    slowest = sorted(events, key=lambda event: -event[1])[:_SHOWN]
    return {
        "ms_a_step": round(a_step, 1),
        "ms_busy": round(busy, 1),
        "idle": round(max(0.0, 1 - busy / a_step), 3),
        **{f"ms, {kind}": round(time, 1) for kind, time in sorted(kinds.items(), key=lambda item: -item[1])},
        "slowest": [f"{name[:70]}: {time / 1000 / steps:.1f} ms" for name, time in slowest],
    }


def kind_of(kernel: str) -> str:
    """Return what a kernel computes, by its name."""
    low = kernel.lower()
    return next((kind for kind, signs in _KINDS if any(sign in low for sign in signs)), "the rest")


PART = Part(
    letter="e",
    name="profile",
    title="Where the time goes",
    meaning=(
        f"{_STEPS} steps of our fastest way under torch's profiler (which itself slows the host). `ms_busy`: kernels a "
        "step; `idle`: share of the step in which none ran; kinds by the kernels' names."
    ),
    seconds=45,
    measure=measure,
)
