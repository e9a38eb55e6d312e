"""Which of this machine's GPUs a config asks for: counted for ``gpus = "all"``, refused where they are not there."""

import os
from collections.abc import Mapping

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.cuda_devices import PREFIX, CudaDevice, visible_devices
from dpo_tui.hardware.nvml import Inventory

DRIVERS = ("/dev/kfd", "/dev/nvidiactl", "/dev/dxg")
"""Devices of drivers whose GPUs torch may see although NVML lists none: AMD's, NVIDIA's without its library, WSL's."""


def selected_devices(inventory: Inventory, environ: Mapping[str, str], gpus: str) -> list[CudaDevice]:
    """The visible devices that a config's ``gpus`` leaves, lost ones included."""
    if gpus == "none":
        return []
    visible = visible_devices(inventory.gpus, environ)
    if gpus in ("auto", "all"):
        return visible
    return [one for one in visible if any(_names(entry, one) for entry in gpus.split(","))]


def with_counted_gpus(config: Config, inventory: Inventory, environ: Mapping[str, str] | None = None) -> Config:
    """Return the config with ``gpu_count`` set where ``gpus`` is ``all``; others come back unchanged.

    Args:
        config: as loaded.
        inventory: the GPUs.
        environ: the environment, for ``CUDA_VISIBLE_DEVICES``.

    Raises:
        ConfigError: it names a GPU that this machine does not have, one of them twice, more of them than there are, or
            several that cannot train together.
    """
    environ = os.environ if environ is None else environ
    if config.gpus == "none" or (config.gpus == "auto" and config.node_processes == 1):
        return config
    devices = [one for one in selected_devices(inventory, environ, config.gpus) if not one.gpu.lost]
    if config.named_gpus:
        _require_named(config, inventory, environ)
    elif config.gpus == "all":
        if not devices:
            raise ConfigError(f'gpus = "all": {_none_here(inventory)}', hint='gpus = "none" trains on the CPU')
        if config.gpu_count not in (None, len(devices)):
            raise ConfigError(
                f'gpus = "all" with gpu_count = {config.gpu_count}: there are {len(devices)}',
                hint='leave gpu_count out, or set gpus = "auto"',
            )
        config = from_values({**config.model_dump(), "gpu_count": len(devices)})
    elif len(devices) < config.node_processes:
        found = f"{len(devices)} can be used here" if devices else _none_here(inventory)
        raise ConfigError(
            f"gpu_count = {config.gpu_count}: {found}",
            hint='lower gpu_count; gpus = "none" with ranks trains on the CPU',
        )
    slices = [one for one in devices if one.mig is not None or one.gpu.mig]
    if config.node_processes > 1 and len(devices) - len(slices) < config.node_processes:
        raise ConfigError(
            f"{config.node_processes} processes cannot train together on slices of a GPU: with MIG a process sees one",
            hint="use whole GPUs, or one slice",
        )
    return config


def _require_named(config: Config, inventory: Inventory, environ: Mapping[str, str]) -> None:
    found: dict[int, str] = {}
    for entry in config.named_gpus:
        matching = selected_devices(inventory, environ, entry)
        if not matching and _is_certain(inventory, environ):
            raise ConfigError(
                f"gpus = {config.gpus}: {_missing(entry, inventory)}", hint="`dpo-tui hardware` lists the GPUs"
            )
        for device in matching[:1]:
            if config.node_processes > 1 and device.gpu.index in found:
                raise ConfigError(
                    f"gpus = {config.gpus}: {entry} and {found[device.gpu.index]} are the same GPU",
                    hint="each process needs a GPU of its own",
                )
            found[device.gpu.index] = entry


def _is_certain(inventory: Inventory, environ: Mapping[str, str]) -> bool:
    """Whether a GPU that NVML does not list is not there: not where the driver is silent, or hides slices by name."""
    if "CUDA_VISIBLE_DEVICES" in environ or (not inventory.gpus and any(map(os.path.exists, DRIVERS))):
        return False
    return bool(inventory.gpus) or inventory.fault is None or inventory.fault.kind == "no-library"


def _names(entry: str, device: CudaDevice) -> bool:
    if entry.isdigit():
        return device.gpu.index == int(entry)
    return device.name == PREFIX + entry or bool(device.gpu.uuid and device.gpu.uuid.startswith(entry))


def _missing(entry: str, inventory: Inventory) -> str:
    if not inventory.gpus:
        return f"{_none_here(inventory)}, so no GPU {entry}"
    listed = ", ".join(str(gpu.index) for gpu in inventory.gpus)
    return f"there is no GPU {entry}; the driver lists {listed}"


def _none_here(inventory: Inventory) -> str:
    reason = inventory.fault.reason if inventory.fault else "the driver lists none"
    return f"this machine has no GPU that can be used ({reason})"
