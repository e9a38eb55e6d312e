"""Profiles: presets of settings for sizes of GPU memory.

From 12 GB mid-range, from 16 GB high-end, below that reduced; in decimal gigabytes (``bytes / 1e9``), because that is
how cards are sold: 12,282 MiB are 12.88 GB and 16,376 MiB are 17.17. A card of 12.88 GB with 11.8 free beside a desktop
counts as a 12 GB card; one on which another process trains counts as large as what is left.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.fit import smaller_batches
from dpo_tui.hardware.memory.memory_estimate import GB, DeviceKind, estimate
from dpo_tui.hardware.models.lookup import RecommendedModel, architecture_of, recommended_models

ProfileName = Literal["mid-range", "high-end", "reduced", "cpu"]

MID_RANGE_GB, HIGH_END_GB = 12, 16
DESKTOP_GB = 1.2
"""What a desktop, the driver and a few small programs take on a card that is otherwise idle."""
MINIMUM_RAM_GB = 15.0
"""16 GB are required; machines with 16 GiB report a little less than 16.0, since the firmware takes a share."""
_MOST_PARAMETERS: dict[str, float] = {"cpu": 1.0, "reduced": 5.0}
"""Billions of weights up to which models are recommended: larger ones fit into a CPU's memory and would take days."""
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
    """A profile recommended for a GPU, or for the CPU.

    Attributes:
        name: of the preset.
        gpu: NVML index of the GPU to use; None for the CPU.
        reason: a sentence on why.
        settings: config fields and their values.
        warnings: sentences about limits of the machine.
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
        """The kind of device that it trains on."""
        return "cpu" if self.gpu is None else "cuda"


@dataclass(frozen=True)
class Ram:
    """The machine's main memory, in bytes; within a container, what the container may use."""

    total: int
    free: int


def fitting_models(profile: Profile) -> list[RecommendedModel]:
    """The recommended models that fit into the profile's device by the estimate, largest first."""
    if profile.free is None:
        return []
    fitting = []
    for model in reversed(recommended_models()):
        config = preset(profile.name, model.name)
        if model.parameters > _MOST_PARAMETERS.get(profile.name, math.inf):
            continue
        if smallest_size(config, profile.device) <= profile.free:
            fitting.append(model)
    return fitting


def preset(name: ProfileName, model_name: str = REFERENCE_MODEL) -> Config:
    """A config with the settings of a profile, and no dataset."""
    return from_values({"model_name": model_name, "dataset": "-", **SETTINGS[name]})


def smallest_size(config: Config, device: DeviceKind) -> int:
    """Bytes that a config takes with the smallest micro-batch that keeps its effective batch."""
    arch = architecture_of(config.model_name)
    for values, _ in smaller_batches(config):
        config = from_values({**config.model_dump(), **values})
    return estimate(config, arch, device=device).total


def main_memory() -> Ram:
    """Read the main memory of the machine; in a container, within its limit (cgroup v2, then v1)."""
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


def format_gb(size: float) -> str:
    """Bytes as decimal gigabytes with one digit and unit."""
    return f"{size / GB:.1f} GB"


def profile_for_memory(total: int, free: int) -> tuple[ProfileName, str]:
    """Choose a profile by a GPU's memory in bytes; return it with an explanation to append, or an empty text.

    The size decides, unless other processes hold more of it than a desktop does.
    """
    usable = min(total, free + int(DESKTOP_GB * GB))
    if usable >= HIGH_END_GB * GB:
        need = smallest_size(preset("high-end"), "cuda")
        if need <= free:
            return "high-end", _launch_note(free)
        return "mid-range", f" (the high-end preset needs {format_gb(need)})"
    if usable >= MID_RANGE_GB * GB:
        need = smallest_size(preset("mid-range"), "cuda")
        if need <= free:
            return "mid-range", ""
    return "reduced", ""


def _launch_note(free: int) -> str:
    """With which micro-batch the high-end preset starts an 8B model, where its own does not fit; else empty."""
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


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):  # no such cgroup version, or "max"
        return None
