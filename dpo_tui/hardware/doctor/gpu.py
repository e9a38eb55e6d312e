"""Doctor checks of the GPUs: memory and who holds it, bfloat16, errors, MIG, ``CUDA_VISIBLE_DEVICES``."""

from dpo_tui.hardware.cuda_devices import visible_gpus
from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.hardware.gpu_choice import BF16_CAPABILITY, recommend
from dpo_tui.hardware.nvml import Gpu
from dpo_tui.hardware.profiles import NOT_ADVISED, format_gb

_NOTABLE = 500_000_000  # bytes; a desktop takes less
_OLDEST_FOR_4BIT = (6, 0)  # bitsandbytes 0.48 and later: Pascal or newer


@check
def gpu(facts: MachineFacts) -> DoctorFinding:
    """Whether there is a GPU, and every GPU responds."""
    fault = facts.inventory.fault
    if fault is not None:
        fixes = {
            "no-library": "install the NVIDIA driver; in a container, start it with --gpus all",
            "no-driver": "sudo modprobe nvidia, or reboot after a driver update",
            "no-answer": "nvidia-smi; sudo dmesg | grep -i nvrm; reboot if neither helps",
        }
        message = f"No GPU: {fault.reason}. Training runs on the CPU, which suits the demo and tiny models."
        status = "fail" if fault.kind == "no-answer" or "version" in fault.reason else "warn"
        return DoctorFinding("gpu", status, message, fixes.get(fault.kind, ""))  # type: ignore[arg-type]
    if not facts.inventory.gpus:
        return DoctorFinding("gpu", "warn", "The driver lists no GPU. Training runs on the CPU.", "nvidia-smi -L")
    lost = [one for one in facts.inventory.gpus if one.lost]
    if lost:
        names = ", ".join(f"GPU {one.index}" for one in lost)
        return DoctorFinding("gpu", "fail", f"{names} stopped answering.", "sudo nvidia-smi --gpu-reset, or reboot")
    return DoctorFinding("gpu", "ok", ", ".join(_name_and_size(one) for one in facts.inventory.gpus))


@check
def gpu_memory(facts: MachineFacts) -> DoctorFinding | None:
    """Whether enough GPU memory is free, and which processes hold it."""
    if not any(not one.lost for one in facts.inventory.gpus):
        return None
    profile = recommend(facts.inventory, facts.ram, facts.environ)
    if profile.gpu is None:
        return None
    message = profile.reason
    if profile.name != "reduced":
        return DoctorFinding("gpu-memory", "ok", message)
    chosen = next(one for one in facts.inventory.gpus if one.index == profile.gpu)
    holders = [one for one in chosen.holders if (one.memory or 0) > _NOTABLE]
    if NOT_ADVISED in profile.warnings:
        return DoctorFinding(
            "gpu-memory", "warn", f"{message}. {NOT_ADVISED}", "choose a smaller model: dpo-tui hardware lists some"
        )
    if holders:
        owners = "; ".join(
            f"pid {one.pid}, {one.user or 'unknown user'}: {one.command or one.reason}" for one in holders
        )
        return DoctorFinding(
            "gpu-memory", "warn", f"{message}. Held by {owners}.", "wait, or ask its owner; dpo-tui runs lists your own"
        )
    return DoctorFinding("gpu-memory", "warn", message, "dpo-tui hardware")


@check
def bfloat16(facts: MachineFacts) -> DoctorFinding | None:
    """Whether the GPUs compute in bfloat16, and support 4-bit weights."""
    known = [one for one in facts.inventory.gpus if one.compute_capability is not None]
    if not known:
        return None
    old = [one for one in known if (one.compute_capability or (0, 0)) < BF16_CAPABILITY]
    ancient = [one for one in known if (one.compute_capability or (0, 0)) < _OLDEST_FOR_4BIT]
    if ancient:
        return DoctorFinding(
            "bfloat16", "fail", f"{_gpu_list(ancient)}: too old for 4-bit training.", "use another GPU"
        )
    if old:
        message = f"{_gpu_list(old)}: no bfloat16 below compute capability 8.0; runs there use fp16 and say so."
        return DoctorFinding("bfloat16", "warn", message, "nothing to do; a newer GPU is faster and steadier")
    return DoctorFinding("bfloat16", "ok", "every GPU computes in bfloat16")


@check
def gpu_errors(facts: MachineFacts) -> DoctorFinding | None:
    """Whether a GPU has uncorrected memory errors."""
    broken = [one for one in facts.inventory.gpus if one.ecc_errors]
    if not broken:
        return None
    counts = ", ".join(f"GPU {one.index}: {one.ecc_errors}" for one in broken)
    return DoctorFinding(
        "gpu-errors",
        "fail",
        f"Uncorrected memory errors ({counts}).",
        "sudo nvidia-smi --gpu-reset; then tell the provider",
    )


@check
def mig(facts: MachineFacts) -> DoctorFinding | None:
    """Whether the slices of GPUs in MIG mode can be listed."""
    sliced = [one for one in facts.inventory.gpus if one.mig]
    if not sliced:
        return None
    hidden = [one for one in sliced if not one.mig_instances]
    if hidden:
        message = f"{_gpu_list(hidden)}: MIG is on and its slices are not shown; memory is only known once CUDA runs."
        return DoctorFinding("mig", "warn", message, "nvidia-smi -L; then export CUDA_VISIBLE_DEVICES=MIG-…")
    return DoctorFinding("mig", "ok", f"{_gpu_list(sliced)}: MIG is on; CUDA sees each slice as a GPU")


@check
def visible_devices(facts: MachineFacts) -> DoctorFinding | None:
    """Which GPUs ``CUDA_VISIBLE_DEVICES`` leaves, and which of several a run would take."""
    gpus, listed = facts.inventory.gpus, facts.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return None
    if listed is not None:
        left = visible_gpus(gpus, facts.environ)
        if not left:
            message = f"CUDA_VISIBLE_DEVICES={listed!r} hides every GPU."
            return DoctorFinding("visible-devices", "warn", message, "unset CUDA_VISIBLE_DEVICES")
        return DoctorFinding(
            "visible-devices", "ok", f"CUDA_VISIBLE_DEVICES leaves GPU {', '.join(str(one.index) for one in left)}"
        )
    if len(gpus) == 1:
        return None
    best = recommend(facts.inventory, facts.ram, facts.environ).gpu
    mixed = len({one.name for one in gpus}) > 1
    order = (
        " CUDA numbers different GPUs by speed; CUDA_DEVICE_ORDER=PCI_BUS_ID makes it count as here." if mixed else ""
    )
    return DoctorFinding(
        "visible-devices", "ok", f"{len(gpus)} GPUs; a run takes one of them, now it would be GPU {best}.{order}"
    )


def _name_and_size(one: Gpu) -> str:
    size = f", {format_gb(one.memory_total)}" if one.memory_total is not None else ", memory unknown"
    return f"{one.name}{size}"


def _gpu_list(gpus: list[Gpu]) -> str:
    return ", ".join(f"GPU {one.index} ({one.name})" for one in gpus)
