"""Doctor checks of Python, torch, the versions of the training stack, and the environment of the provider unsloth."""

import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from dpo_tui.hardware.cuda_devices import visible_gpus
from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.hardware.doctor.torch_install import REQUIREMENT, torch_install
from dpo_tui.processes import unsloth_environment
from dpo_tui.processes.install_command import install_command, uses_pip

Version = tuple[int, ...]
_PYTHON = (3, 11)


@dataclass(frozen=True)
class VersionRange:
    """Supported versions: from ``low``, below ``high``, except ``broken``."""

    low: Version
    high: Version
    broken: tuple[Version, ...] = ()


# The ranges of pyproject.toml. TRL 1.15.0 needs Triton and fails on a CPU.
SUPPORTED_VERSIONS = {
    "torch": VersionRange((2, 6), (3,)),
    "transformers": VersionRange((5,), (6,)),
    "trl": VersionRange((1, 14), (2,), ((1, 15, 0),)),
    "peft": VersionRange((0, 18), (1,)),
    "datasets": VersionRange((4,), (6,)),
    "accelerate": VersionRange((1, 4), (2,)),
    "bitsandbytes": VersionRange((0, 48), (1,)),
}


def parse_version(text: str) -> Version:
    """Return the leading numbers of a version: (2, 13, 0) for "2.13.0+cu128"."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group(0).split(".")) if match else ()


def requirement_of(package: str) -> str:
    """The requirement of a package, as pip takes it: ``trl>=1.14,<2,!=1.15.0``."""
    allowed = SUPPORTED_VERSIONS[package]
    low, high, *broken = (".".join(map(str, version)) for version in (allowed.low, allowed.high, *allowed.broken))
    return ",".join([f"{package}>={low}", f"<{high}", *(f"!={version}" for version in broken)])


def problem_of(package: str, found: str) -> str | None:
    """Return why a package's version is not supported; None where it is."""
    allowed, number = SUPPORTED_VERSIONS[package], parse_version(found)
    if number[: len(allowed.high)] >= allowed.high:
        return f"{package} {found} is newer than this version of dpo-tui knows"
    if number < allowed.low:
        return f"{package} {found} is too old"
    return f"{package} {found} is known to fail" if number in allowed.broken else None


@check
def python(facts: MachineFacts) -> DoctorFinding:
    """Whether Python is new enough."""
    shown = platform.python_version()
    if sys.version_info[:2] < _PYTHON:
        return DoctorFinding(
            "python", "fail", f"Python {shown}; 3.11 is the oldest that works.", "install Python 3.11 or newer"
        )
    return DoctorFinding("python", "ok", f"Python {shown}")


@check
def packages(facts: MachineFacts) -> DoctorFinding:
    """Whether the packages of the training stack are installed in supported versions."""
    problems, shown = [], []
    for package in SUPPORTED_VERSIONS:
        try:
            found = version(package)
        except PackageNotFoundError:
            problems.append(f"{package} is missing")
            continue
        shown.append(f"{package} {found}")
        problem = problem_of(package, found)
        problems += [problem] if problem else []
    if problems:
        # Only what is wrong: the others may be builds that suit this machine, as torch's must.
        wrong = [name for name in SUPPORTED_VERSIONS if any(one.startswith(f"{name} ") for one in problems)]
        others = [requirement_of(name) for name in wrong if name != "torch"]
        commands = [_torch_install(facts)] if "torch" in wrong else []
        fix = " && ".join(commands + ([install_command(*others)] if others else []))
        return DoctorFinding("packages", "fail", "; ".join(problems), fix)
    return DoctorFinding("packages", "ok", ", ".join(shown))


@check
def torch(facts: MachineFacts) -> DoctorFinding:
    """Whether torch can be imported, and its CUDA build suits the driver."""
    if facts.stack_fault:
        return DoctorFinding(
            "torch", "warn", facts.stack_fault, f"{sys.executable} -m dpo_tui.train.tools.stack_report"
        )
    if error := facts.stack.get("torch_error"):
        return DoctorFinding("torch", "fail", f"torch cannot be imported: {error}", _torch_install(facts))
    shown, build = f"torch {facts.stack.get('torch')}", facts.stack.get("cuda_build")
    gpus = facts.inventory.gpus
    if not gpus:
        kind = f"built for CUDA {build}" if build else "a CPU build"
        return DoctorFinding("torch", "ok", f"{shown}, {kind}; there is no GPU here")
    driver, cuda = gpus[0].driver or "?", gpus[0].cuda or "?"
    if not build:
        message = f"{shown} is a CPU build, so it cannot use {gpus[0].name}."
        return DoctorFinding("torch", "fail", message, _torch_install(facts))
    if parse_version(cuda) and parse_version(cuda)[0] < parse_version(build)[0]:
        message = f"{shown} is built for CUDA {build}; driver {driver} supports CUDA up to {cuda}."
        return DoctorFinding("torch", "fail", message, f"{_torch_install(facts)}   (or update the NVIDIA driver)")
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
    """Whether the torch build has code for the compute capability of every GPU."""
    unsupported = []
    codes = [str(code) for code in facts.stack.get("architectures", ())]
    for device in facts.stack.get("devices", ()):
        major, minor = device["capability"]
        # A cubin runs on its own major version from its minor on; PTX (compute_XY) runs on everything newer.
        usable = [code for code in codes if _runs_on(code, major, minor)]
        if codes and not usable:
            unsupported.append(f"{device['name']} (sm_{major}{minor})")
    if not facts.stack.get("devices"):
        return None
    if unsupported:
        message = f"this torch build has no code for {', '.join(unsupported)}; it has {', '.join(codes)}"
        return DoctorFinding("device-support", "fail", message, _torch_install(facts))
    return DoctorFinding("device-support", "ok", "torch has code for every visible GPU")


@check
def bitsandbytes(facts: MachineFacts) -> DoctorFinding | None:
    """Whether bitsandbytes' binary for this CUDA version loads, which 4-bit weights need."""
    if facts.stack_fault or "torch" not in facts.stack:
        return None
    if "bitsandbytes" not in facts.stack and "bitsandbytes_error" not in facts.stack:
        message = "bitsandbytes was not imported in time"
        return DoctorFinding("bitsandbytes", "warn", message, f"{sys.executable} -m dpo_tui.train.tools.stack_report")
    again = ("--force-reinstall",) if uses_pip() else ("--reinstall-package", "bitsandbytes")
    reinstall = install_command(*again, "--no-deps", "bitsandbytes")
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
    """Whether the environment of the provider unsloth is complete, when that is the planned provider."""
    if facts.options.provider != "unsloth":
        return None
    found = unsloth_environment.obstacle(has_gpu=bool(visible_gpus(facts.inventory.gpus, facts.environ)))
    if found is not None:
        return DoctorFinding("unsloth", "fail", f"The provider unsloth: {found.message}.", found.fix)
    return DoctorFinding("unsloth", "ok", unsloth_environment.versions())


def _runs_on(code: str, major: int, minor: int) -> bool:
    """Whether code of a torch build (``sm_86``, ``compute_90``) runs on a device of a compute capability."""
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", code)
    if match is None:
        return False
    kind, code_major, code_minor = match.group(1), int(match.group(2)), int(match.group(3))
    if kind == "compute":
        return (code_major, code_minor) <= (major, minor)
    return code_major == major and code_minor <= minor


def _torch_install(facts: MachineFacts) -> str:
    """The command that installs the build of torch for this machine; the plain one where there is no GPU."""
    gpus = facts.inventory.gpus
    if not gpus:
        return install_command(REQUIREMENT)
    capabilities = tuple(gpu.compute_capability for gpu in gpus if gpu.compute_capability is not None)
    return torch_install(parse_version(gpus[0].cuda or ""), capabilities)
