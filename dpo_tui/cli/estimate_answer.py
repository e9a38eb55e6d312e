"""What `estimate` finds out about a run, and that as one JSON object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.files import LoadedConfig, local_paths
from dpo_tui.config.schema import Config
from dpo_tui.data.pair_sizes import PairSizes, pair_sizes
from dpo_tui.hardware import nvml
from dpo_tui.hardware.auto_profile import resolve_profile
from dpo_tui.hardware.duration import Duration, Steps, duration_of, steps_of
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.memory.fit import FitChange, Verdict, changes_to_fit, in_gigabytes, verdict_of
from dpo_tui.hardware.memory.memory_estimate import GB, DeviceKind, MemoryEstimate
from dpo_tui.hardware.memory.memory_estimate import estimate as estimate_memory
from dpo_tui.hardware.memory_band import band_note
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of, local_files
from dpo_tui.hardware.profiles import Profile, main_memory
from dpo_tui.hardware.run_history import Measurement, measurements, nearest
from dpo_tui.start.stages import is_earlier_run, shape_of


@dataclass(frozen=True)
class EstimateResult:
    """Everything that `estimate` tells.

    Attributes:
        device: "cuda", or "cpu" where main memory is meant.
        device_name: of the GPU; None when only its memory was given.
        gpu: its index.
        free: bytes to compare with; None when unknown.
        reasons: what ``profile`` decided, in words.
    """

    config: Config
    arch: Architecture
    device: DeviceKind
    device_name: str | None
    gpu: int | None
    free: int | None
    memory: MemoryEstimate
    verdict: Verdict
    changes: list[FitChange]
    sizes: PairSizes
    steps: Steps | None
    duration: Duration | None
    earlier: list[Measurement]
    reasons: tuple[str, ...]


def answer_for(loaded: LoadedConfig, vram: float | None) -> EstimateResult:
    """Count a run on this machine, or on a card with so many gigabytes free."""
    config = _located(loaded)
    inventory = nvml.read() if config.gpus != "none" else nvml.Inventory()
    profile = recommend(inventory, main_memory(), gpus=config.gpus)
    resolved = resolve_profile(config, set(loaded.origins), inventory, found=_given(profile, vram))
    config = resolved.config
    arch = architecture_of(config.model_name, config.model_revision)
    if vram is not None:
        return _counted(config, arch, device="cuda", name=None, gpu=None, free=int(vram * GB), reasons=resolved.reasons)
    if profile.gpu is None:
        return _counted(config, arch, device="cpu", name="cpu", gpu=None, free=profile.free, reasons=resolved.reasons)
    name = next(gpu.name for gpu in inventory.gpus if gpu.index == profile.gpu)
    return _counted(
        config, arch, device="cuda", name=name, gpu=profile.gpu, free=profile.free, reasons=resolved.reasons
    )


def _counted(
    config: Config,
    arch: Architecture,
    *,
    device: DeviceKind,
    name: str | None,
    gpu: int | None,
    free: int | None,
    reasons: tuple[str, ...],
) -> EstimateResult:
    sizes = pair_sizes(config, local_files(config.model_name, config.model_revision))
    memory = estimate_memory(config, arch, device=device, longest=sizes.longest)
    steps = steps_of(config, sizes.trained, sizes.tokens_per_pair)
    earlier = measurements()
    changes = [] if free is None else changes_to_fit(config, arch, free, device=device, longest=sizes.longest)
    measured = [one for one in earlier if one.measured is not None]
    return EstimateResult(
        config=config,
        arch=arch,
        device=device,
        device_name=name,
        gpu=gpu,
        free=free,
        memory=memory,
        verdict=verdict_of(memory.total, free),
        changes=changes,
        sizes=sizes,
        steps=steps,
        duration=duration_of(config, arch, steps.tokens if steps else None, name or "", earlier),
        earlier=nearest(measured, config, arch, None) if device == "cuda" else [],
        reasons=reasons,
    )


def _given(profile: Profile, vram: float | None) -> Profile | None:
    """With ``--vram`` the profile is chosen for a card of that size instead of this machine's."""
    if vram is None:
        return profile
    size = int(vram * GB)
    card = nvml.Gpu(index=0, name=f"a card with {vram:g} GB", memory_total=size, memory_free=size)
    return recommend(nvml.Inventory((card,)), main_memory(), {})


def _located(loaded: LoadedConfig) -> Config:
    """The settings with local paths made absolute, and the model of an earlier run named."""
    found: dict[str, Any] = {**local_paths(loaded)}
    name = loaded.config.model_name
    if is_earlier_run(name):
        found["model_name"], found["model_revision"] = shape_of(name)
    return loaded.config.model_copy(update=found)


def document(answer: EstimateResult) -> Mapping[str, Any]:
    """The answer as `estimate --json` prints it (docs/hardware.md)."""
    duration, steps = answer.duration, answer.steps
    return {
        "total_gb": in_gigabytes(answer.memory.total),
        "parts": {part.key: round(part.size / GB, 4) for part in answer.memory.parts},
        "free_gb": in_gigabytes(answer.free),
        "verdict": answer.verdict,
        "changes": [
            {
                "set": change.settings,
                "saves_gb": in_gigabytes(change.saves),
                "words": change.description,
                "fits": change.fits,
            }
            for change in answer.changes
        ],
        "steps": steps.steps if steps else None,
        "tokens": steps.tokens if steps else None,
        "seconds": round(duration.seconds) if duration else None,
        "seconds_range": [round(duration.low), round(duration.high)] if duration else None,
        "seconds_basis": duration.basis if duration else None,
        "device": answer.device,
        "peak": answer.memory.peak.name,
        "band": band_note(answer.config, answer.arch, answer.memory) if answer.device == "cuda" else None,
        "data": answer.sizes.words,
        "notes": [*answer.reasons, *answer.memory.notes],
        "measured": [
            {
                "run": one.run,
                "device": one.device,
                "measured_gb": in_gigabytes(one.measured),
                "estimated_gb": in_gigabytes(one.estimated),
            }
            for one in answer.earlier
        ],
    }
