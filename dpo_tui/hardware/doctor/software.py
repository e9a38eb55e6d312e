"""Doctor: Python, the training stack's versions, and the environment of the provider unsloth."""

import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from dpo_tui.hardware.cuda_devices import visible_gpus
from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.processes import unsloth_environment

Version = tuple[int, ...]
_PYTHON = (3, 11)


@dataclass(frozen=True)
class Range:
    """Versions that work: from ``low``, below ``high``, except ``broken``."""

    low: Version
    high: Version
    broken: tuple[Version, ...] = ()


# As in pyproject.toml; TRL 1.15.0 needs Triton and fails on a CPU.
_RANGES = {
    "torch": Range((2, 6), (3,)),
    "transformers": Range((5,), (6,)),
    "trl": Range((1, 14), (2,), ((1, 15, 0),)),
    "peft": Range((0, 18), (1,)),
    "datasets": Range((4,), (6,)),
    "accelerate": Range((1, 4), (2,)),
    "bitsandbytes": Range((0, 48), (1,)),
}


def parsed(text: str) -> Version:
    """The leading numbers of a version: "2.13.0+cu128" is (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group(0).split(".")) if match else ()


def problem_of(package: str, found: str) -> str | None:
    """Why a package's version does not suit; None where it does."""
    allowed, number = _RANGES[package], parsed(found)
    if number[: len(allowed.high)] >= allowed.high:
        return f"{package} {found} is newer than this version of dpo-tui knows"
    if number < allowed.low:
        return f"{package} {found} is too old"
    return f"{package} {found} is known to fail" if number in allowed.broken else None


@check
def python(facts: MachineFacts) -> DoctorFinding:
    """Python itself."""
    shown = platform.python_version()
    if sys.version_info[:2] < _PYTHON:
        return DoctorFinding(
            "python", "fail", f"Python {shown}; 3.11 is the oldest that works.", "install Python 3.11 or newer"
        )
    return DoctorFinding("python", "ok", f"Python {shown}")


@check
def packages(facts: MachineFacts) -> DoctorFinding:
    """The versions of the training stack."""
    problems, shown = [], []
    for package in _RANGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            problems.append(f"{package} is missing")
            continue
        shown.append(f"{package} {found}")
        problem = problem_of(package, found)
        problems += [problem] if problem else []
    if problems:
        fix = f"{sys.executable} -m pip install --upgrade --upgrade-strategy only-if-needed dpo-tui"
        return DoctorFinding("packages", "fail", "; ".join(problems), fix)
    return DoctorFinding("packages", "ok", ", ".join(shown))


@check
def torch(facts: MachineFacts) -> DoctorFinding:
    """Whether torch can be imported, and its build suits the driver."""
    if facts.stack_fault:
        return DoctorFinding(
            "torch", "warn", facts.stack_fault, f"{sys.executable} -m dpo_tui.train.tools.stack_report"
        )
    if error := facts.stack.get("torch_error"):
        fix = f"{sys.executable} -m pip install --force-reinstall torch"
        return DoctorFinding("torch", "fail", f"torch cannot be imported: {error}", fix)
    shown, build = f"torch {facts.stack.get('torch')}", facts.stack.get("cuda_build")
    gpus = facts.inventory.gpus
    if not gpus:
        kind = f"built for CUDA {build}" if build else "a CPU build"
        return DoctorFinding("torch", "ok", f"{shown}, {kind}; there is no GPU here")
    driver, cuda = gpus[0].driver or "?", gpus[0].cuda or "?"
    if not build:
        message = f"{shown} is a CPU build, so it cannot use {gpus[0].name}."
        return DoctorFinding("torch", "fail", message, _cuda_install(cuda))
    if parsed(cuda) and parsed(cuda)[0] < parsed(build)[0]:
        message = f"{shown} is built for CUDA {build}; driver {driver} supports CUDA up to {cuda}."
        return DoctorFinding("torch", "fail", message, f"update the NVIDIA driver, or {_cuda_install(cuda)}")
    if not facts.stack.get("available"):
        if facts.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
            return DoctorFinding(
                "torch", "warn", f"{shown}: CUDA_VISIBLE_DEVICES hides every GPU.", "unset CUDA_VISIBLE_DEVICES"
            )
        message = f"{shown}, built for CUDA {build}, sees no GPU although the driver ({driver}) does."
        return DoctorFinding("torch", "fail", message, "nvidia-smi; then restart the container or reload the driver")
    return DoctorFinding("torch", "ok", f"{shown}, built for CUDA {build}; driver {driver} supports up to {cuda}")


@check
def device_support(facts: MachineFacts) -> DoctorFinding | None:
    """Whether the torch build has code for the device (its sm level)."""
    lacking = []
    codes = [str(code) for code in facts.stack.get("architectures", ())]
    for device in facts.stack.get("devices", ()):
        major, minor = device["capability"]
        # A cubin runs on its own major version from its minor on; PTX (compute_XY) runs on everything newer.
        usable = [code for code in codes if _covers(code, major, minor)]
        if codes and not usable:
            lacking.append(f"{device['name']} (sm_{major}{minor})")
    if not facts.stack.get("devices"):
        return None
    if lacking:
        message = f"this torch build has no code for {', '.join(lacking)}; it has {', '.join(codes)}"
        return DoctorFinding(
            "device-support", "fail", message, "install a newer torch build: pytorch.org/get-started shows the command"
        )
    return DoctorFinding("device-support", "ok", "torch has code for every visible GPU")


@check
def bitsandbytes(facts: MachineFacts) -> DoctorFinding | None:
    """Whether bitsandbytes' binary loads; 4-bit needs it."""
    if facts.stack_fault or "torch" not in facts.stack:
        return None
    if "bitsandbytes" not in facts.stack and "bitsandbytes_error" not in facts.stack:
        message = "bitsandbytes was not imported in time"
        return DoctorFinding("bitsandbytes", "warn", message, f"{sys.executable} -m dpo_tui.train.tools.stack_report")
    reinstall = f"{sys.executable} -m pip install --force-reinstall --no-deps bitsandbytes"
    if error := facts.stack.get("bitsandbytes_error"):
        return DoctorFinding(
            "bitsandbytes", "fail", f"bitsandbytes cannot be imported, so no 4-bit: {error}", reinstall
        )
    shown = f"bitsandbytes {facts.stack.get('bitsandbytes')}"
    if facts.stack.get("available") and not facts.stack.get("bitsandbytes_cuda"):
        message = f"{shown} has no binary for CUDA {facts.stack.get('cuda_build')}, so no 4-bit on the GPU."
        return DoctorFinding("bitsandbytes", "fail", message, reinstall)
    return DoctorFinding("bitsandbytes", "ok", shown)


@check
def unsloth(facts: MachineFacts) -> DoctorFinding | None:
    """The environment of the provider unsloth, when that is the provider."""
    if facts.options.provider != "unsloth":
        return None
    found = unsloth_environment.obstacle(has_gpu=bool(visible_gpus(facts.inventory.gpus, facts.environ)))
    if found is not None:
        return DoctorFinding("unsloth", "fail", f"The provider unsloth: {found.message}.", found.fix)
    return DoctorFinding("unsloth", "ok", unsloth_environment.versions())


def _covers(code: str, major: int, minor: int) -> bool:
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", code)
    if match is None:
        return False
    kind, code_major, code_minor = match.group(1), int(match.group(2)), int(match.group(3))
    if kind == "compute":
        return (code_major, code_minor) <= (major, minor)
    return code_major == major and code_minor <= minor


def _cuda_install(cuda: str) -> str:
    return f"install a torch build for CUDA {cuda} or older: pytorch.org/get-started shows the command"
