"""Which GPU a run takes: the one rule for recommending, estimating and starting.

`ranked` orders the devices that a person may use; `recommend` takes the first of them and names the profile that suits
it; `placement_for` says which of them a run may be started on. The choice itself is made when the run's turn comes, by its
supervisor (`dpo_tui.runs.queue`), among those that no other run has.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.cuda_devices import PREFIX, CudaDevice, largest_slice, visible_devices
from dpo_tui.hardware.memory.memory_estimate import GB, estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.nvml import Gpu, Inventory
from dpo_tui.hardware.profiles import (
    MID_RANGE_GB,
    MINIMUM_RAM_GB,
    NOT_ADVISED,
    SETTINGS,
    Profile,
    ProfileName,
    Ram,
    classify,
    gb,
)

BF16_CAPABILITY = (8, 0)  # NVIDIA Ampere
_LIKE = 0.97
"""Two cards of one kind differ by a few percent in memory: by ECC, or by what the firmware keeps."""


@dataclass(frozen=True)
class Candidate:
    """One device as a place to train.

    Attributes:
        device: the GPU, or the slice of one.
        profile: that suits it now.
        total: bytes of its memory, main memory where a GPU shares that; None where the driver does not tell.
        free: bytes of it that are free now.
        words: what it is and why it has this profile.
        warnings: what else a person should know about it.
    """

    device: CudaDevice
    profile: ProfileName
    total: int | None
    free: int | None
    words: str
    warnings: tuple[str, ...] = ()

    @property
    def gpu(self) -> Gpu:
        """Its card."""
        return self.device.gpu

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bfloat16; assumed where the driver does not tell its capability."""
        return self.gpu.compute_capability is None or self.gpu.compute_capability >= BF16_CAPABILITY


@dataclass(frozen=True)
class Placement:
    """Where a run may be started.

    Attributes:
        devices: what it needs by name; empty for the CPU, or with ``candidates``.
        candidates: devices of which it takes a free one when its turn comes, best first; empty with ``devices``.
        memory: bytes that must be free on it; None where nothing is known.
        notes: what to tell the person.
    """

    devices: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    memory: int | None = None
    notes: tuple[str, ...] = ()


def recommend(
    inventory: Inventory, ram: Ram, environ: Mapping[str, str] | None = None, *, gpus: str = "auto"
) -> Profile:
    """Choose a GPU and a profile for it.

    Args:
        inventory: what NVML told.
        ram: main memory; unified-memory GPUs share it.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.
        gpus: the config's setting: ``auto``, ``none``, or a number.
    """
    environ = os.environ if environ is None else environ
    candidates = ranked(inventory, ram, environ, gpus)
    warnings = _ram_warnings(ram)
    if not candidates:
        return _cpu(_why_no_gpu(inventory, environ, gpus), ram, warnings)
    best = candidates[0]
    reason = best.words + (_why_this_one(best, candidates, inventory) if len(inventory.gpus) > 1 else "")
    settings = dict(SETTINGS[best.profile])
    return Profile(best.profile, best.gpu.index, reason, settings, best.warnings + warnings, best.total, best.free)


def ranked(inventory: Inventory, ram: Ram, environ: Mapping[str, str], gpus: str = "auto") -> list[Candidate]:
    """The devices that a person may use and that answer, best first.

    The better profile comes first, then bfloat16, then more free memory, then the lower number.
    """
    visible = _selected(inventory, environ, gpus)
    largest = {one.gpu.index: largest_slice(one.gpu) for one in visible if one.mig is not None}
    found = [
        _candidate(one, ram, is_largest=one.mig == largest.get(one.gpu.index)) for one in visible if not one.gpu.lost
    ]
    return sorted(found, key=lambda one: (-_ORDER[one.profile], not one.has_bf16, -(one.free or 0), one.gpu.index))


def placement_for(config: Config, inventory: Inventory, ram: Ram, environ: Mapping[str, str]) -> Placement:
    """Find the devices on which a run may be started when its turn comes.

    The settings and the estimate were made for the best of them, as `ranked` has it. Every other one must be able to do
    the same: compute in bfloat16 if the best does, and have the memory that the estimate says, however much of it is in
    use now; without an estimate, as much memory as the best.

    Args:
        config: with its profile worked in.
        inventory: what NVML told.
        ram: main memory.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.
    """
    if config.gpus == "none":
        return Placement()
    selected = _selected(inventory, environ, config.gpus)
    if config.gpus.isdigit() and (not selected or "CUDA_VISIBLE_DEVICES" not in environ):
        return Placement((PREFIX + config.gpus,))  # a number means that card, whatever is known of it
    candidates = ranked(inventory, ram, environ, config.gpus)
    if not candidates:
        # Without any GPU the run trains on the CPU. A lost one is named, so that the run fails in words instead.
        return Placement(tuple(one.name for one in selected[:1]))
    best, need = candidates[0], _estimate(config)
    suitable = [best, *(one for one in candidates[1:] if _does_as_well(one, best, need))]
    names = tuple(one.device.name for one in suitable)
    if len(names) == 1:
        return Placement(names)
    memory = need if need is not None and best.total is not None and need <= best.total else None
    left_out = [one.device.name for one in candidates if one not in suitable]
    note = f"GPU: whichever of {', '.join(names)} is free when the run's turn comes; the estimate is for {names[0]}"
    if left_out:
        note += f"; {', '.join(left_out)} cannot run these settings"
    return Placement((), names, memory, (f"{note}.",))


def _selected(inventory: Inventory, environ: Mapping[str, str], gpus: str) -> list[CudaDevice]:
    """The visible devices that a config's ``gpus`` leaves."""
    if gpus == "none":
        return []
    return [one for one in visible_devices(inventory.gpus, environ) if gpus == "auto" or one.gpu.index == int(gpus)]


def _does_as_well(one: Candidate, best: Candidate, need: int | None) -> bool:
    if best.has_bf16 and not one.has_bf16:
        return False
    if one.total is None or best.total is None:
        return one.total is None and best.total is None
    return one.total >= (_LIKE * best.total if need is None else min(need, _LIKE * best.total))


def _estimate(config: Config) -> int | None:
    try:
        architecture = architecture_of(config.model_name, config.model_revision)
    except ConfigError:
        return None
    return estimate(config, architecture, device="cuda").total


_ORDER: dict[ProfileName, int] = {"cpu": 0, "reduced": 1, "mid-range": 2, "high-end": 3}


def _candidate(device: CudaDevice, ram: Ram, *, is_largest: bool) -> Candidate:
    gpu = device.gpu
    warnings: list[str] = []
    total, free, label = device.memory_total, device.memory_free, gpu.name
    if gpu.mig:
        if largest_slice(gpu) is not None:
            whole = device.mig is None
            label = f"{gpu.name} ({'largest ' if whole or is_largest else ''}MIG slice)"
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
        return Candidate(device, "reduced", None, None, words, tuple(warnings))
    figures = f"{_short(label)}, {gb(total)}, {free / GB:.1f} free"
    held = _who_holds(gpu)
    name, because = classify(total, free)
    if name == "reduced":
        warnings.append(NOT_ADVISED if total < MID_RANGE_GB * GB else f"Too little is free for DPO now{held or ''}.")
    words = f"{figures}{held if held and name != classify(total, total)[0] else ''} → {name}{because}"
    return Candidate(device, name, total, free, words, tuple(warnings))


def _why_this_one(best: Candidate, candidates: list[Candidate], inventory: Inventory) -> str:
    others = [candidate for candidate in candidates if candidate.gpu.index != best.gpu.index]
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


def _why_no_gpu(inventory: Inventory, environ: Mapping[str, str], gpus: str) -> str:
    if gpus == "none":
        return 'no GPU: gpus = "none"'
    if inventory.fault is not None:
        return f"no GPU: {inventory.fault.reason}"
    if not inventory.gpus:
        return "no GPU: the driver lists none"
    lost = _selected(inventory, environ, gpus)
    if lost:
        return f"no GPU: {lost[0].gpu.name} is lost; only a reset or a reboot brings it back"
    if gpus != "auto" and int(gpus) not in [gpu.index for gpu in inventory.gpus]:
        return f"no GPU: the driver lists no GPU {gpus}"
    return f"no GPU: CUDA_VISIBLE_DEVICES hides {'all of them' if gpus == 'auto' else f'GPU {gpus}'}"


def _ram_warnings(ram: Ram) -> tuple[str, ...]:
    if ram.total >= MINIMUM_RAM_GB * GB:
        return ()
    return (f"{gb(ram.total)} of main memory: 16 GB is the minimum, loading a 7B model may be killed.",)


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")
