"""The result of `dpo-tui estimate`: memory, fit, steps and time of a config, and the same as a JSON object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.files import LoadedConfig, local_paths
from dpo_tui.config.schema import Config
from dpo_tui.data.pair_sizes import PairSizes, pair_sizes
from dpo_tui.hardware import nvml
from dpo_tui.hardware.apply_profile import resolve_profile
from dpo_tui.hardware.duration import Duration, Steps, duration_of, steps_of
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.job_gpu import job_inventory
from dpo_tui.hardware.memory.expected_range import expected_range_note
from dpo_tui.hardware.memory.fit import FitChange, Verdict, changes_to_fit, in_gigabytes, verdict_of
from dpo_tui.hardware.memory.memory_estimate import GB, DeviceKind, MemoryEstimate
from dpo_tui.hardware.memory.memory_estimate import estimate as estimate_memory
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.parallelism import with_chosen_parallelism
from dpo_tui.hardware.profiles import Profile, main_memory
from dpo_tui.hardware.requested_gpus import with_counted_gpus
from dpo_tui.hardware.run_history import Measurement, measurements, nearest
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.start.adapter_start import require_mergeable
from dpo_tui.start.earlier_run_model import is_earlier_run, shape_of
from dpo_tui.start.model_check import model_remarks
from dpo_tui.start.reference_refusal import reference_remarks
from dpo_tui.start.slurm_check import check_launcher


@dataclass(frozen=True)
class EstimateResult:
    """What `dpo-tui estimate` prints.

    Attributes:
        config: with its profile applied.
        arch: the model's dimensions.
        device: "cuda", or "cpu" where main memory is counted.
        device_name: of the GPU; None when only its memory was given.
        gpu: its NVML index; None for the CPU or with ``--vram``.
        free: bytes to compare with; None when unknown.
        memory: the estimate.
        verdict: the estimate compared with ``free``.
        changes: that make the run fit; empty where it fits.
        sizes: rows and tokens of the pairs.
        steps: None when neither the pairs nor ``max_steps`` are known.
        duration: None when the tokens are not known.
        earlier: measured runs that are most like this one.
        reasons: sentences about what the profile set, and what a check of the model's files found.
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


def estimate_run(loaded: LoadedConfig, vram: float | None) -> EstimateResult:
    """Estimate a run on this machine, or on a GPU with ``vram`` gigabytes free.

    Raises:
        ConfigError: the dimensions of the model are not known, or Slurm does not take the run.
    """
    config = _with_local_paths(loaded)
    notes = check_launcher(config)
    if config.launcher == "slurm":
        inventory = job_inventory(config)
    else:
        inventory = nvml.read() if config.gpus != "none" else nvml.Inventory()
    if vram is None:  # else the GPU that is asked about need not be in this machine
        config = with_counted_gpus(config, inventory)
        notes = (*notes, *inventory.notes)
    environ: dict[str, str] | None = {} if config.launcher == "slurm" else None
    profile = recommend(inventory, main_memory(), environ, gpus=config.gpus, count=config.node_processes)
    resolved = resolve_profile(config, set(loaded.origins), inventory, machine_profile=_profile_for(profile, vram))
    config, why = with_chosen_parallelism(resolved.config, int(vram * GB) if vram is not None else profile.total)
    require_mergeable(loaded)  # else a base that is not here would be refused in the words of another fault
    arch = architecture_of(config.model_name, config.model_revision)
    may_use_gpu = vram is not None or profile.gpu is not None
    remarks = (*model_remarks(config, has_gpu=may_use_gpu), *reference_remarks(loaded))
    reasons = (*notes, *resolved.reasons, *why, *remarks)
    if vram is not None:
        return _estimate_on(config, arch, device="cuda", name=None, gpu=None, free=int(vram * GB), reasons=reasons)
    if profile.gpu is None:
        free = None if profile.free is None else profile.free // config.node_processes
        return _estimate_on(config, arch, device="cpu", name="cpu", gpu=None, free=free, reasons=reasons)
    name = next(gpu.name for gpu in inventory.gpus if gpu.index == profile.gpu)
    return _estimate_on(config, arch, device="cuda", name=name, gpu=profile.gpu, free=profile.free, reasons=reasons)


def _estimate_on(
    config: Config,
    arch: Architecture,
    *,
    device: DeviceKind,
    name: str | None,
    gpu: int | None,
    free: int | None,
    reasons: tuple[str, ...],
) -> EstimateResult:
    """Estimate a config, with its profile applied, on a device with ``free`` bytes."""
    sizes = pair_sizes(config, local_model_folder(config.model_name, config.model_revision))
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


def _profile_for(profile: Profile, vram: float | None) -> Profile:
    """This machine's profile; with ``--vram``, the one for a GPU with that much memory."""
    if vram is None:
        return profile
    size = int(vram * GB)
    card = nvml.Gpu(index=0, name=f"a card with {vram:g} GB", memory_total=size, memory_free=size)
    return recommend(nvml.Inventory((card,)), main_memory(), {})


def _with_local_paths(loaded: LoadedConfig) -> Config:
    """The config with absolute local paths, and with a model of the same shape in place of ``run:ID``."""
    changes: dict[str, Any] = {**local_paths(loaded)}
    name = loaded.config.model_name
    if is_earlier_run(name):
        changes["model_name"], changes["model_revision"] = shape_of(name)
    return loaded.config.model_copy(update=changes)


def document(result: EstimateResult) -> Mapping[str, Any]:
    """The result as `estimate --json` prints it; docs/hardware.md describes the keys."""
    duration, steps = result.duration, result.steps
    return {
        "ranks": result.config.world_size,
        "effective_batch": result.config.effective_batch,
        "parameters": result.arch.parameters,
        "active_parameters": result.arch.active_parameters if result.arch.has_experts else result.arch.parameters,
        "parameters_guessed": result.arch.guessed,
        "total_gb": in_gigabytes(result.memory.total),
        "parts": {part.key: round(part.size / GB, 4) for part in result.memory.parts},
        "free_gb": in_gigabytes(result.free),
        "verdict": result.verdict,
        "changes": [
            {
                "set": change.settings,
                "saves_gb": in_gigabytes(change.saves),
                "words": change.description,
                "fits": change.fits,
            }
            for change in result.changes
        ],
        "steps": steps.steps if steps else None,
        "tokens": steps.tokens if steps else None,
        "seconds": round(duration.seconds) if duration else None,
        "seconds_range": [round(duration.low), round(duration.high)] if duration else None,
        "seconds_basis": duration.basis if duration else None,
        "device": result.device,
        "peak": result.memory.peak.name,
        "band": expected_range_note(result.config, result.arch, result.memory) if result.device == "cuda" else None,
        "data": result.sizes.basis,
        "notes": [*result.reasons, *result.memory.notes],
        "measured": [
            {
                "run": one.run,
                "device": one.device,
                "measured_gb": in_gigabytes(one.measured),
                "estimated_gb": in_gigabytes(one.estimated),
            }
            for one in result.earlier
        ],
    }
