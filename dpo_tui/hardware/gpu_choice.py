"""Choice of the GPU for a run: the one rule for recommending, estimating and starting.

`ranked` orders the visible devices; `recommend` takes the first of them and names the profile that suits it;
`placement_for` names those on which a run may be started. Among these the run's supervisor chooses when the run leaves
the queue (`dpo_tui.runs.queue`), so that a run takes a device that no other run holds by then.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.cuda_devices import PREFIX, CudaDevice, largest_slice
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
    format_gb,
    profile_for_memory,
)
from dpo_tui.hardware.requested_gpus import selected_devices

_NOTABLE_GB = 0.3
BF16_CAPABILITY = (8, 0)  # NVIDIA Ampere
_SAME_SIZE = 0.97
"""Share of the best device's memory from which on another counts as large: ECC and firmware take a few percent."""


@dataclass(frozen=True)
class Candidate:
    """A device on which a run could train.

    Attributes:
        device: the GPU, or the slice of one.
        profile: that suits its memory now.
        total: bytes of its memory, of main memory for a GPU that shares it; None where the driver does not report it.
        free: bytes of it that are free now.
        description: the device, its memory, and why it has this profile.
        warnings: sentences about its limits.
    """

    device: CudaDevice
    profile: ProfileName
    total: int | None
    free: int | None
    description: str
    warnings: tuple[str, ...] = ()

    @property
    def gpu(self) -> Gpu:
        """The GPU that it is or belongs to."""
        return self.device.gpu

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bfloat16; assumed where the driver does not report its compute capability."""
        return self.gpu.compute_capability is None or self.gpu.compute_capability >= BF16_CAPABILITY


@dataclass(frozen=True)
class Placement:
    """The devices on which a run may be started.

    Attributes:
        devices: names of devices that it must have; empty for the CPU, or with ``candidates``.
        candidates: names of devices of which it takes free ones when it leaves the queue, best first; empty with
            ``devices``.
        memory: bytes that must be free on the candidate; None where no estimate is known.
        notes: sentences for the user.
        count: how many of the candidates it takes.
    """

    devices: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    memory: int | None = None
    notes: tuple[str, ...] = ()
    count: int = 1


def recommend(
    inventory: Inventory, ram: Ram, environ: Mapping[str, str] | None = None, *, gpus: str = "auto", count: int = 1
) -> Profile:
    """Choose a GPU and a profile for it.

    Args:
        inventory: the GPUs.
        ram: main memory; unified-memory GPUs share it.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.
        gpus: the config's setting: ``auto``, ``none``, ``all``, or names.
        count: how many GPUs train together: the last of the best so many decides, since all get the same settings.
    """
    environ = os.environ if environ is None else environ
    candidates = ranked(inventory, ram, environ, gpus)
    warnings = _ram_warnings(ram)
    if not candidates:
        return _cpu_profile(_no_gpu_reason(inventory, environ, gpus), ram, warnings)
    best = candidates[min(count, len(candidates)) - 1]
    reason = best.description + (_choice_reason(best, candidates, inventory) if len(inventory.gpus) > 1 else "")
    settings = dict(SETTINGS[best.profile])
    return Profile(best.profile, best.gpu.index, reason, settings, best.warnings + warnings, best.total, best.free)


def ranked(inventory: Inventory, ram: Ram, environ: Mapping[str, str], gpus: str = "auto") -> list[Candidate]:
    """The visible devices that respond, best first.

    The better profile comes first, then bfloat16, then more free memory, then the lower NVML index.
    """
    visible = selected_devices(inventory, environ, gpus)
    largest = {one.gpu.index: largest_slice(one.gpu) for one in visible if one.mig is not None}
    candidates = [
        _candidate(one, ram, is_largest=one.mig == largest.get(one.gpu.index)) for one in visible if not one.gpu.lost
    ]
    return sorted(candidates, key=lambda one: (-_RANKS[one.profile], not one.has_bf16, -(one.free or 0), one.gpu.index))


def placement_for(config: Config, inventory: Inventory, ram: Ram, environ: Mapping[str, str]) -> Placement:
    """Find the devices on which a run may be started when it leaves the queue.

    The settings and the estimate were made for the first that `ranked` returns. Any other must be able to replace it:
    compute in bfloat16 if the first does, and have the memory that the estimate says in all, although it may be in use
    now; without an estimate, as much memory as the first.

    Args:
        config: with its profile applied.
        inventory: the GPUs.
        ram: main memory.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.
    """
    if config.gpus == "none":
        return Placement()
    selected = selected_devices(inventory, environ, config.gpus)
    if len(config.named_gpus) > 1:
        return Placement(tuple(PREFIX + entry for entry in config.named_gpus))
    if config.gpus == "all":
        return Placement(tuple(one.name for one in selected if not one.gpu.lost))
    if config.gpus.isdigit() and (not selected or "CUDA_VISIBLE_DEVICES" not in environ):
        return Placement((PREFIX + config.gpus,))  # a number means that GPU, even if NVML does not list it
    candidates = ranked(inventory, ram, environ, config.gpus)
    if not candidates:
        # Without any GPU the run trains on the CPU. A lost GPU is named instead, so that the run fails with its reason.
        return Placement(tuple(one.name for one in selected[:1]))
    count = config.node_processes
    best, need = candidates[min(count, len(candidates)) - 1], _estimate(config)
    suitable = [*candidates[:count], *(one for one in candidates[count:] if _can_replace(one, best, need))]
    names = tuple(one.device.name for one in suitable)
    if len(names) == count:
        return Placement(names)
    memory = need if need is not None and best.total is not None and need <= best.total else None
    left_out = [one.device.name for one in candidates if one not in suitable]
    which = "whichever" if count == 1 else f"whichever {count}"
    verb = "is" if count == 1 else "are"
    note = f"GPU: {which} of {', '.join(names)} {verb} free when the run's turn comes; "
    note += f"the estimate is for {best.device.name}"
    if left_out:
        note += f"; {', '.join(left_out)} cannot run these settings"
    return Placement((), names, memory, (f"{note}.",), count)


def _can_replace(one: Candidate, best: Candidate, need: int | None) -> bool:
    """Whether a run that was planned for ``best``, and takes ``need`` bytes, can run on another device."""
    if best.has_bf16 and not one.has_bf16:
        return False
    if one.total is None or best.total is None:
        return one.total is None and best.total is None
    return one.total >= (_SAME_SIZE * best.total if need is None else min(need, _SAME_SIZE * best.total))


def _estimate(config: Config) -> int | None:
    """Bytes that a run takes; None where the model's dimensions are unknown."""
    try:
        architecture = architecture_of(config.model_name, config.model_revision)
    except ConfigError:
        return None
    return estimate(config, architecture, device="cuda").total


_RANKS: dict[ProfileName, int] = {"cpu": 0, "reduced": 1, "mid-range": 2, "high-end": 3}


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
        description = f"{label}, memory unknown ({why}) → reduced, to be safe"
        return Candidate(device, "reduced", None, None, description, tuple(warnings))
    figures = f"{_short_name(label)}, {format_gb(total)}, {free / GB:.1f} free"
    held = _holders_text(gpu)
    name, because = profile_for_memory(total, free)
    if name == "reduced":
        warnings.append(NOT_ADVISED if total < MID_RANGE_GB * GB else f"Too little is free for DPO now{held or ''}.")
    description = f"{figures}{held if held and name != profile_for_memory(total, total)[0] else ''} → {name}{because}"
    return Candidate(device, name, total, free, description, tuple(warnings))


def _choice_reason(best: Candidate, candidates: list[Candidate], inventory: Inventory) -> str:
    others = [candidate for candidate in candidates if candidate.gpu.index != best.gpu.index]
    text = f"; GPU {best.gpu.index} of {len(inventory.gpus)}"
    if others:
        most = max(others, key=lambda other: other.free or 0)
        busy = _holders_text(most.gpu)
        free = f"{format_gb(most.free)} free" if most.free is not None else "memory unknown"
        text += f": GPU {most.gpu.index} has {free}{busy}"
    lost = [str(gpu.index) for gpu in inventory.gpus if gpu.lost]
    return text + (f"; lost: GPU {', '.join(lost)}" if lost else "")


def _holders_text(gpu: Gpu) -> str:
    """The processes that hold more GPU memory than a desktop program, in parentheses; empty without one."""
    big = [holder for holder in gpu.holders if holder.memory is None or holder.memory > _NOTABLE_GB * GB]
    if not big:
        return ""
    first = big[0]
    who = f"{first.user}'s pid {first.pid}" if first.user else f"pid {first.pid}"
    size = format_gb(first.memory) if first.memory is not None else "an unknown share"
    more = f" and {len(big) - 1} more" if len(big) > 1 else ""
    return f" ({who} holds {size}{more})"


def _cpu_profile(reason: str, ram: Ram, warnings: tuple[str, ...]) -> Profile:
    advice = "Without a GPU only the demo and tiny models train in bearable time."
    return Profile("cpu", None, f"{reason} → cpu", dict(SETTINGS["cpu"]), (advice, *warnings), ram.total, ram.free)


def _no_gpu_reason(inventory: Inventory, environ: Mapping[str, str], gpus: str) -> str:
    if gpus == "none":
        return 'no GPU: gpus = "none"'
    if inventory.fault is not None:
        return f"no GPU: {inventory.fault.reason}"
    if not inventory.gpus:
        return "no GPU: the driver lists none"
    lost = selected_devices(inventory, environ, gpus)
    if lost:
        return f"no GPU: {lost[0].gpu.name} is lost; only a reset or a reboot brings it back"
    any_gpu = gpus in ("auto", "all")
    if not any_gpu and not selected_devices(inventory, {}, gpus):
        return f"no GPU: the driver lists no GPU {gpus}"
    return f"no GPU: CUDA_VISIBLE_DEVICES hides {'all of them' if any_gpu else f'GPU {gpus}'}"


def _ram_warnings(ram: Ram) -> tuple[str, ...]:
    if ram.total >= MINIMUM_RAM_GB * GB:
        return ()
    return (f"{format_gb(ram.total)} of main memory: 16 GB is the minimum, loading a 7B model may be killed.",)


def _short_name(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")
