"""`dpo-tui hardware`: the GPUs of this machine, who uses them, and the profile that suits it."""

import textwrap
from collections.abc import Mapping
from typing import Any

import click

from dpo_tui.cli.output import print_json
from dpo_tui.hardware import nvml
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.memory.fit import in_gigabytes
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.nvml import Gpu, Inventory
from dpo_tui.hardware.process_description import GpuProcess
from dpo_tui.hardware.profiles import Profile, Ram, fitting_models, main_memory

_WIDTH = 80
_MOST_MODELS = 6


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def hardware(as_json: bool) -> None:
    """Show the GPUs of this machine, who uses them, and the profile that suits it."""
    inventory, ram = nvml.read(), main_memory()
    profile = recommend(inventory, ram)
    if as_json:
        print_json(_document(inventory, ram, profile))
    else:
        click.echo("\n".join(_text_lines(inventory, ram, profile)))


def _document(inventory: Inventory, ram: Ram, profile: Profile) -> Mapping[str, Any]:
    return {
        "gpus": [_gpu_document(gpu) for gpu in inventory.gpus],
        "ram_gb": in_gigabytes(ram.total),
        "profile": {
            "name": profile.name,
            "gpu": profile.gpu,
            "reason": " ".join([profile.reason + ".", *profile.warnings]),
            "settings": profile.settings,
        },
    }


def _gpu_document(gpu: Gpu) -> Mapping[str, Any]:
    capability = gpu.compute_capability
    return {
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "memory_total_gb": in_gigabytes(gpu.memory_total),
        "memory_used_gb": in_gigabytes(gpu.memory_used),
        "memory_free_gb": in_gigabytes(gpu.memory_free),
        "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
        "driver": gpu.driver,
        "cuda": gpu.cuda,
        "utilisation_percent": gpu.utilisation,
        "memory_utilisation_percent": gpu.memory_utilisation,
        "power_w": gpu.power,
        "power_limit_w": gpu.power_limit,
        "temperature_c": gpu.temperature,
        "fan_percent": gpu.fan,
        "clock_sm_mhz": gpu.clock_sm,
        "clock_memory_mhz": gpu.clock_memory,
        "ecc": gpu.ecc,
        "ecc_errors": gpu.ecc_errors,
        "mig": gpu.mig,
        "mig_instances": [
            {
                "uuid": one.uuid,
                "memory_total_gb": in_gigabytes(one.memory_total),
                "memory_free_gb": in_gigabytes(one.memory_free),
            }
            for one in gpu.mig_instances
        ],
        "processes": [
            {
                "pid": one.pid,
                "memory_gb": in_gigabytes(one.memory),
                "user": one.user,
                "command": one.command,
                "reason": one.reason,
            }
            for one in gpu.holders
        ],
        "faults": {name: fault.reason for name, fault in gpu.faults.items()},
    }


def _text_lines(inventory: Inventory, ram: Ram, profile: Profile) -> list[str]:
    lines: list[str] = []
    for gpu in inventory.gpus:
        lines += [*_gpu_lines(gpu, chosen=gpu.index == profile.gpu), ""]
    if not inventory.gpus:
        reason = inventory.fault.reason if inventory.fault else "the driver lists none"
        lines += [f"No GPU: {reason}", ""]
    lines.append(f"Main memory  {ram.total / GB:.1f} GB, {ram.free / GB:.1f} free")
    lines += _wrapped(f"Profile      {profile.name}: {profile.reason}")
    lines += _wrapped("             " + _settings(profile.settings))
    for warning in profile.warnings:
        lines += _wrapped(f"! {warning}", hanging="  ")
    return lines + _models(profile)


def _gpu_lines(gpu: Gpu, *, chosen: bool) -> list[str]:
    mark = "  ← chosen" if chosen else ""
    lines = [f"GPU {gpu.index}  {gpu.name}{mark}"]
    if gpu.lost:
        return [*lines, "       lost: it stopped answering; a reset or a reboot brings it back"]
    if gpu.memory_total is not None and gpu.memory_free is not None:
        memory = f"{gpu.memory_total / GB:.1f} GB, {gpu.memory_free / GB:.1f} free"
    elif gpu.unified:
        memory = "shared with the CPU"
    else:
        memory = f"unknown: {gpu.faults['memory'].reason}" if "memory" in gpu.faults else "unknown"
    capability = f"{gpu.compute_capability[0]}.{gpu.compute_capability[1]}" if gpu.compute_capability else "?"
    lines += _wrapped(f"       memory {memory}")
    lines += _wrapped(
        f"       compute capability {capability} · driver {gpu.driver or '?'} · CUDA up to {gpu.cuda or '?'}"
    )
    if readings := _readings(gpu):
        lines += _wrapped("       " + " · ".join(readings))
    for piece in gpu.mig_instances:
        size = f"{piece.memory_total / GB:.1f} GB" if piece.memory_total is not None else "memory unknown"
        lines += _wrapped(f"       MIG slice {piece.uuid or '?'}, {size}")
    return lines + [line for holder in gpu.holders for line in _holder_lines(holder)]


def _readings(gpu: Gpu) -> list[str]:
    limit = f" of {gpu.power_limit:.0f}" if gpu.power_limit is not None else ""
    readings = [
        f"{gpu.utilisation} % busy" if gpu.utilisation is not None else None,
        f"{gpu.power:.0f}{limit} W" if gpu.power is not None else None,
        f"{gpu.temperature} °C" if gpu.temperature is not None else None,
        f"fan {gpu.fan} %" if gpu.fan is not None else None,
        f"{gpu.clock_sm} MHz" if gpu.clock_sm is not None else None,
        "MIG on" if gpu.mig else None,
        f"{gpu.ecc_errors} uncorrected memory errors" if gpu.ecc_errors else None,
    ]
    return [reading for reading in readings if reading is not None]


def _holder_lines(holder: GpuProcess) -> list[str]:
    size = f"{holder.memory / GB:.1f} GB" if holder.memory is not None else "size unknown"
    who = f"{holder.user or 'unknown user'}: {holder.command}" if holder.command else holder.reason or "unknown"
    line = f"       held: {size}, pid {holder.pid}, {who}"
    return [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"]


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()
    )


def _models(profile: Profile) -> list[str]:
    models = fitting_models(profile)
    if not models:
        return []
    lines = ["", "Models that the estimate lets run here with this profile:"]
    for model in models[:_MOST_MODELS]:
        asks = "  hub token" if model.gated else ""
        lines.append(f"  {model.name:<37} {model.parameters:6.2f} B  {model.licence:<19}{asks}".rstrip())
    if len(models) > _MOST_MODELS:
        lines.append(f"  and {len(models) - _MOST_MODELS} smaller ones")
    return lines


def _wrapped(text: str, hanging: str = "             ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=hanging, break_on_hyphens=False, drop_whitespace=True)
