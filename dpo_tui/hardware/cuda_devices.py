"""The CUDA devices of this machine: their names, and which of them ``CUDA_VISIBLE_DEVICES`` leaves.

A device's name is ``gpu:`` and what ``CUDA_VISIBLE_DEVICES`` takes for it: the GPU's number in PCI order, which is
NVML's index; its UUID; or the UUID of one MIG slice of it. Identifiers are kept as the
user wrote them in ``CUDA_VISIBLE_DEVICES``: a number in place of a slice's UUID would mean another device.

    python -P -m dpo_tui.hardware.cuda_devices

prints every device of the machine, with the memory that is free on it, as one JSON object; `dpo_tui.runs.devices` reads
it.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.hardware import nvml
from dpo_tui.hardware.nvml import Gpu, MigInstance

PREFIX = "gpu:"


@dataclass(frozen=True)
class CudaDevice:
    """A device that a CUDA program can use: a GPU, or one slice of a GPU in MIG mode.

    Attributes:
        name: ``gpu:`` and its number or UUID.
        gpu: the GPU that it is or belongs to.
        mig: the slice; None for a whole GPU.
    """

    name: str
    gpu: Gpu
    mig: MigInstance | None = None

    @property
    def memory_free(self) -> int | None:
        """Bytes free; of a GPU in MIG mode that is named as a whole, those of its largest slice."""
        source = self.mig or largest_slice(self.gpu) or self.gpu
        return source.memory_free

    @property
    def memory_total(self) -> int | None:
        """Bytes of memory in all; see `memory_free`."""
        source = self.mig or largest_slice(self.gpu) or self.gpu
        return source.memory_total


def visible_devices(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[CudaDevice]:
    """The devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order; all devices where it is not set.

    As in CUDA, entries after the first one that names no device are ignored.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [device for gpu in gpus for device in _devices_of(gpu)]
    visible: list[CudaDevice] = []
    for entry in (part.strip() for part in listed.split(",")):
        matching = list(_devices_named(entry, gpus))
        if not matching:
            break
        known = {(one.gpu.index, one.mig) for one in visible}
        visible += [device for device in matching if (device.gpu.index, device.mig) not in known]
    return visible


def visible_gpus(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs of the devices that ``CUDA_VISIBLE_DEVICES`` leaves."""
    return list({device.gpu.index: device.gpu for device in visible_devices(gpus, environ)}.values())


def largest_slice(gpu: Gpu) -> MigInstance | None:
    """The MIG slice with the most free memory; None where there is none, or none that the driver shows."""
    readable = [one for one in gpu.mig_instances if one.memory_free is not None]
    return max(readable, key=lambda one: one.memory_free or 0, default=None)


def _devices_of(gpu: Gpu) -> list[CudaDevice]:
    slices = [CudaDevice(PREFIX + one.uuid, gpu, one) for one in gpu.mig_instances if one.uuid]
    return slices or [CudaDevice(f"{PREFIX}{gpu.index}", gpu)]


def _devices_named(entry: str, gpus: Sequence[Gpu]) -> Iterator[CudaDevice]:
    """The devices that an entry of ``CUDA_VISIBLE_DEVICES`` names: by number, or by a UUID or the beginning of one."""
    if entry.isdigit():
        yield from (CudaDevice(f"{PREFIX}{gpu.index}", gpu) for gpu in gpus if gpu.index == int(entry))
    elif entry.startswith("MIG-"):
        listed = [device for gpu in gpus for device in _devices_of(gpu) if device.name.startswith(PREFIX + entry)]
        # Containers often hide slices from NVML that CUDA can use. The entry is then all that is known of the device.
        hidden = [CudaDevice(PREFIX + entry, gpu) for gpu in gpus if gpu.mig and not gpu.mig_instances]
        yield from listed or hidden[:1]
    elif len(entry) > len("GPU-"):
        yield from (CudaDevice(PREFIX + gpu.uuid, gpu) for gpu in gpus if gpu.uuid and gpu.uuid.startswith(entry))


def document(gpus: Sequence[Gpu]) -> dict[str, Any]:
    """Every device that responds, once under each of its names, as an object for JSON.

    Returns:
        ``devices``, a list of objects: ``name``; ``card``, the same number for all names and slices of a card;
        ``slice``, whether it is a part of the card; ``free``, bytes, or None where the driver does not report it.
    """
    devices = []
    for gpu in gpus:
        if gpu.lost:
            continue
        names = [CudaDevice(f"{PREFIX}{gpu.index}", gpu)]
        names += [CudaDevice(PREFIX + gpu.uuid, gpu)] if gpu.uuid else []
        names += [device for device in _devices_of(gpu) if device.mig is not None]
        devices += [
            {"name": one.name, "card": gpu.index, "slice": one.mig is not None, "free": one.memory_free}
            for one in names
        ]
    return {"devices": devices}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(nvml.read().gpus)) + "\n")
