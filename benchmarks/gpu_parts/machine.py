"""The machine and the versions that a benchmark ran with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpo_tui.hardware import nvml

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "huggingface-hub",
    "nvidia-ml-py",
)


def describe() -> dict[str, Any]:
    """Return GPUs, processor and versions, without loading torch."""
    inventory = nvml.read()
    gpus = [f"{gpu.name}, {(gpu.memory_total or 0) / 1e9:.1f} GB, driver {gpu.driver}" for gpu in inventory.gpus]
    return {
        "gpus": gpus or [f"none ({inventory.fault.reason if inventory.fault else 'the driver lists none'})"],
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: installed(package) for package in PACKAGES},
    }


def installed(package: str) -> str:
    """Return a package's version, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
