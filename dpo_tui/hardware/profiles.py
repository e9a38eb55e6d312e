"""Which profile suits this machine, and why.

From 12 GB mid-range, from 16 GB high-end, below that reduced; in decimal gigabytes (``bytes / 1e9``), because
that is how cards are sold: 12,282 MiB are 12.88 GB and 16,376 MiB are 17.17. An idle card of 12.88 GB shows 11.8 free
with a desktop on it and is still a 12 GB card; but one on which somebody trains is only as large as what is left.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.fit import smaller_batches
from dpo_tui.hardware.models import RecommendedModel, architecture_of, recommended_models
from dpo_tui.hardware.nvml import Gpu, Inventory
from dpo_tui.hardware.vram import GB, DeviceKind, estimate

ProfileName = Literal["mid-range", "high-end", "reduced", "cpu"]

MID_RANGE_GB, HIGH_END_GB = 12, 16
# What a desktop, the driver and a few small programs take on a card that is otherwise idle.
EVERYDAY_GB = 1.2
# 16 GB of memory; machines with 16 GiB show a little less than 16.0 after the firmware took its share.
MINIMUM_RAM_GB = 15.0
BF16_CAPABILITY = (8, 0)  # NVIDIA Ampere
_LARGEST: dict[str, float] = {"cpu": 1.0, "reduced": 5.0}  # billions of weights
REFERENCE_MODEL = "meta-llama/Llama-3.1-8B-Instruct"
NOT_ADVISED = "DPO is not advised here: 12 GB of GPU memory is the minimum. Use QLoRA with a smaller model."

SETTINGS: dict[ProfileName, dict[str, Any]] = {
    "mid-range": {
        "use_4bit": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "lora_r": 16,
        "lora_alpha": 32,  # twice the rank
        "max_seq_length": 1024,
        "bf16": True,
    },
    "high-end": {
        "use_4bit": True,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "lora_r": 64,
        "lora_alpha": 128,
        "max_seq_length": 2048,
        "bf16": True,
    },
    "reduced": {  # QLoRA, the smallest micro-batch, the same effective batch of 8
        "use_4bit": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "lora_r": 16,
        "lora_alpha": 32,
        "max_seq_length": 512,
        "bf16": True,
        "gradient_checkpointing": True,
    },
    "cpu": {  # for the demo and tiny models: 4-bit only slows a CPU down, and bfloat16 is for GPUs
        "use_4bit": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "max_seq_length": 512,
        "bf16": False,
    },
}


@dataclass(frozen=True)
class Profile:
    """A recommendation.

    Attributes:
        name: of the profile.
        gpu: NVML index of the GPU to use; None for the CPU.
        reason: why, in words.
        settings: config fields and their values.
        warnings: what else a person should know.
        total: bytes of memory of that GPU (of the machine, for "cpu").
        free: bytes of it that are free now.
    """

    name: ProfileName
    gpu: int | None
    reason: str
    settings: dict[str, Any]
    warnings: tuple[str, ...] = ()
    total: int | None = None
    free: int | None = None

    @property
    def device(self) -> DeviceKind:
        """Where it trains."""
        return "cpu" if self.gpu is None else "cuda"


@dataclass(frozen=True)
class Ram:
    """The machine's main memory, in bytes; within a container, what the container may use."""

    total: int
    free: int


@dataclass(frozen=True)
class _Candidate:
    """One GPU as a place to train."""

    gpu: Gpu
    name: ProfileName
    total: int | None
    free: int | None
    words: str
    warnings: tuple[str, ...] = field(default_factory=tuple)


def recommend(inventory: Inventory, ram: Ram, environ: Mapping[str, str] | None = None) -> Profile:
    """Choose a GPU and a profile for it.

    Args:
        inventory: what NVML told.
        ram: main memory; unified-memory GPUs share it.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.
    """
    visible = visible_gpus(inventory.gpus, os.environ if environ is None else environ)
    candidates = [_candidate(gpu, ram) for gpu in visible if not gpu.lost]
    warnings = _ram_warnings(ram)
    if not candidates:
        return _cpu(_why_no_gpu(inventory, visible), ram, warnings)
    best = max(candidates, key=_rank)
    reason = best.words + (_why_this_one(best, candidates, inventory) if len(inventory.gpus) > 1 else "")
    settings = dict(SETTINGS[best.name])
    return Profile(best.name, best.gpu.index, reason, settings, best.warnings + warnings, best.total, best.free)


def visible_gpus(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` leaves; all without it. Numbers count in PCI order, as NVML does."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in (word.strip() for word in listed.split(",")):
        found = [gpu for gpu in gpus if _names(entry, gpu)]
        if not found:
            break  # CUDA ignores everything after the first entry that it does not know
        chosen += [gpu for gpu in found if gpu not in chosen]
    return chosen


def fitting_models(profile: Profile) -> list[RecommendedModel]:
    """The recommended models that the estimate lets run on the profile's device, largest first."""
    if profile.free is None:
        return []
    fitting = []
    for model in reversed(recommended_models()):
        config = preset(profile.name, model.name)
        # On a CPU more would fit into memory, and take days; a small card wants a smaller model.
        if model.parameters > _LARGEST.get(profile.name, math.inf):
            continue
        if smallest_size(config, profile.device) <= profile.free:
            fitting.append(model)
    return fitting


def preset(name: ProfileName, model_name: str = REFERENCE_MODEL) -> Config:
    """A config with a profile's settings."""
    return from_values({"model_name": model_name, "dataset": "-", **SETTINGS[name]})


def smallest_size(config: Config, device: DeviceKind) -> int:
    """Bytes that the config takes with the smallest micro-batch that keeps its effective batch."""
    arch = architecture_of(config.model_name)
    for values, _ in smaller_batches(config):
        config = from_values({**config.model_dump(), **values})
    return estimate(config, arch, device=device).total


def main_memory() -> Ram:
    """Main memory, capped by the container's limit (cgroup v2, then v1)."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit_path, used_path in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        limit, used = _number(limit_path), _number(used_path)
        if limit is not None and limit < total:
            total = limit
            free = min(free, max(0, limit - (used or 0)))
    return Ram(total, free)


def gb(size: float) -> str:
    """Bytes as decimal gigabytes with one digit and unit."""
    return f"{size / GB:.1f} GB"


def _candidate(gpu: Gpu, ram: Ram) -> _Candidate:
    warnings: list[str] = []
    total, free, label = gpu.memory_total, gpu.memory_free, gpu.name
    if gpu.mig:
        slices = [piece for piece in gpu.mig_instances if piece.memory_free is not None]
        if slices:
            largest = max(slices, key=lambda piece: piece.memory_free or 0)
            total, free, label = largest.memory_total, largest.memory_free, f"{gpu.name} (largest MIG slice)"
        elif total is not None:
            warnings.append("MIG is on and has no readable slice: CUDA sees slices only, not the whole GPU.")
    elif gpu.unified:
        total, free, label = ram.total, ram.free, f"{gpu.name} (memory shared with the CPU)"
    if gpu.compute_capability is not None and gpu.compute_capability < BF16_CAPABILITY:
        major, minor = gpu.compute_capability
        warnings.append(f"Compute capability {major}.{minor} has no bfloat16: the run falls back to fp16.")
    if total is None or free is None:
        why = gpu.faults["memory"].reason if "memory" in gpu.faults else "the driver does not tell"
        words = f"{label}, memory unknown ({why}) → reduced, to be safe"
        return _Candidate(gpu, "reduced", None, None, words, tuple(warnings))
    figures = f"{_short(label)}, {gb(total)}, {free / GB:.1f} free"
    held = _who_holds(gpu)
    name, because = _classify(total, free)
    if name == "reduced":
        warnings.append(NOT_ADVISED if total < MID_RANGE_GB * GB else f"Too little is free for DPO now{held or ''}.")
    words = f"{figures}{held if held and name != _classify(total, total)[0] else ''} → {name}{because}"
    return _Candidate(gpu, name, total, free, words, tuple(warnings))


def _classify(total: int, free: int) -> tuple[ProfileName, str]:
    """The profile for so much memory: by its size, unless others hold more of it than everyday programs do."""
    usable = min(total, free + int(EVERYDAY_GB * GB))
    if usable >= HIGH_END_GB * GB:
        need = smallest_size(preset("high-end"), "cuda")
        if need <= free:
            return "high-end", _as_launched(free)
        return "mid-range", f" (the high-end preset needs {gb(need)})"
    if usable >= MID_RANGE_GB * GB:
        need = smallest_size(preset("mid-range"), "cuda")
        if need <= free:
            return "mid-range", ""
    return "reduced", ""


def _as_launched(free: int) -> str:
    """How the high-end preset starts an 8B model where its own micro-batch is too large for the card."""
    config = preset("high-end")
    arch = architecture_of(config.model_name)
    if estimate(config, arch).total <= free:
        return ""
    for values, _ in smaller_batches(config):
        config = from_values({**config.model_dump(), **values})
        if estimate(config, arch).total <= free:
            break
    batch, accumulate = config.per_device_train_batch_size, config.gradient_accumulation_steps
    return f" (an 8B model starts as micro-batch {batch} × {accumulate})"


_ORDER: dict[ProfileName, int] = {"cpu": 0, "reduced": 1, "mid-range": 2, "high-end": 3}


def _rank(candidate: _Candidate) -> tuple[int, bool, int, int]:
    """Better profile, then bfloat16, then more free memory, then the lower index."""
    capability = candidate.gpu.compute_capability
    has_bf16 = capability is None or capability >= BF16_CAPABILITY
    return _ORDER[candidate.name], has_bf16, candidate.free or 0, -candidate.gpu.index


def _why_this_one(best: _Candidate, candidates: list[_Candidate], inventory: Inventory) -> str:
    others = [candidate for candidate in candidates if candidate is not best]
    words = f"; GPU {best.gpu.index} of {len(inventory.gpus)}"
    if others:
        most = max(others, key=lambda other: other.free or 0)
        busy = _who_holds(most.gpu)
        free = f"{gb(most.free)} free" if most.free is not None else "memory unknown"
        words += f": GPU {most.gpu.index} has {free}{busy}"
    lost = [str(gpu.index) for gpu in inventory.gpus if gpu.lost]
    return words + (f"; lost: GPU {', '.join(lost)}" if lost else "")


def _who_holds(gpu: Gpu) -> str:
    big = [holder for holder in gpu.holders if holder.memory is None or holder.memory > 0.3 * GB]
    if not big:
        return ""
    first = big[0]
    who = f"{first.user}'s pid {first.pid}" if first.user else f"pid {first.pid}"
    size = gb(first.memory) if first.memory is not None else "an unknown share"
    more = f" and {len(big) - 1} more" if len(big) > 1 else ""
    return f" ({who} holds {size}{more})"


def _cpu(reason: str, ram: Ram, warnings: tuple[str, ...]) -> Profile:
    advice = "Without a GPU only the demo and tiny models train in bearable time."
    return Profile("cpu", None, f"{reason} → cpu", dict(SETTINGS["cpu"]), (advice, *warnings), ram.total, ram.free)


def _why_no_gpu(inventory: Inventory, visible: list[Gpu]) -> str:
    if inventory.fault is not None:
        return f"no GPU: {inventory.fault.reason}"
    if not inventory.gpus:
        return "no GPU: the driver lists none"
    if not visible:
        return "no GPU: CUDA_VISIBLE_DEVICES hides all of them"
    return f"no GPU: {visible[0].name} is lost; only a reset or a reboot brings it back"


def _ram_warnings(ram: Ram) -> tuple[str, ...]:
    if ram.total >= MINIMUM_RAM_GB * GB:
        return ()
    return (f"{gb(ram.total)} of main memory: 16 GB is the minimum, loading a 7B model may be killed.",)


def _names(entry: str, gpu: Gpu) -> bool:
    if entry.isdigit():
        return int(entry) == gpu.index
    if entry.startswith("MIG-"):
        return any((piece.uuid or "").startswith(entry) for piece in gpu.mig_instances)
    return len(entry) > len("GPU-") and gpu.uuid is not None and gpu.uuid.startswith(entry)


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # no such cgroup version, or "max"
        return None
