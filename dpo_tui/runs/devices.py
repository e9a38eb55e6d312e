"""Devices of runs: their names, which are free, and the worker's CUDA variables. Standard library only.

A name is ``gpu:`` followed by a value for ``CUDA_VISIBLE_DEVICES``: a number in PCI order, the UUID of a GPU or that of
a MIG slice. A run either names its devices or has a `DeviceRequest`, among whose candidates its supervisor chooses when
the run leaves the queue.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpo_tui.text.plain_documents import parse_json

DEVICES_VARIABLE = "DPO_TUI_DEVICES"
"""Environment variable with the worker's devices: with it, a worker that finds no GPU fails instead of training on the
CPU."""

_PREFIX = "gpu:"
_READING_MODULE = "dpo_tui.hardware.cuda_devices"
_READING_DEADLINE = 20.0
"""Seconds for the driver to answer; with a broken GPU it may never do so."""
_POLL = 0.1


@dataclass(frozen=True)
class DeviceRequest:
    """A request for devices, which are chosen when the run leaves the queue.

    Args:
        candidates: names of the suitable devices, the best first at the time when the run was created.
        count: how many of them it needs.
        memory: bytes that must be free on each; None where that is not known.

    Raises:
        ValueError: there are fewer candidates than it needs, or a field has a wrong type.
    """

    candidates: tuple[str, ...]
    count: int = 1
    memory: int | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in self.candidates) or not isinstance(self.count, int):
            raise ValueError("candidates are names, and count is a number")
        if not 0 < self.count <= len(self.candidates):
            raise ValueError(f"{self.count} of {len(self.candidates)} devices cannot be chosen")
        if self.memory is not None and not isinstance(self.memory, int):
            raise ValueError("memory is a number of bytes")

    @classmethod
    def from_document(cls, document: Any) -> "DeviceRequest | None":
        """Read what `to_document` wrote.

        Raises:
            ValueError: it is something else.
        """
        if document is None:
            return None
        try:
            if not isinstance(document["candidates"], list):
                raise TypeError("candidates are a list")
            return cls(tuple(document["candidates"]), document.get("count", 1), document.get("memory"))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a request for devices: {error}") from None

    def to_document(self) -> dict[str, Any]:
        """The object for state.json."""
        return asdict(self) | {"candidates": list(self.candidates)}

    @property
    def description(self) -> str:
        """The request as text: ``any free GPU``, ``2 free GPUs``."""
        return "any free GPU" if self.count == 1 else f"{self.count} free GPUs"


@dataclass(frozen=True)
class Device:
    """A device as the driver describes it (`dpo_tui.hardware.cuda_devices.document`).

    Attributes:
        card: index of the physical GPU.
        slice: whether it is a MIG slice of that GPU.
        free: bytes of free memory; None where the driver does not say.
    """

    card: int
    slice: bool
    free: int | None


@dataclass(frozen=True)
class Machine:
    """The machine's devices by name. A GPU has two, its number and its UUID. Empty if the driver is silent."""

    devices: Mapping[str, Device] = field(default_factory=dict)

    def same(self, one: str, other: str) -> bool:
        """Whether two names share hardware: one name, one card, or a card and a slice of it; never two slices."""
        if one == other:
            return True
        # Two MIG slices of a card have memory and processors of their own; the whole card shares both with each.
        first, second = self.devices.get(one), self.devices.get(other)
        return (
            first is not None
            and second is not None
            and first.card == second.card
            and not (first.slice and second.slice)
        )

    def free(self, request: DeviceRequest, taken: Collection[str]) -> list[str]:
        """The candidates that no run has, those with most free memory first, else in the request's order.

        Candidates that the driver does not list (a lost GPU, or another machine's) count only if too few are left.
        """
        listed = [name for name in request.candidates if name in self.devices]
        names = listed if len(listed) >= request.count else request.candidates
        free = [name for name in names if not any(self.same(name, other) for other in taken)]
        return sorted(free, key=lambda name: -(self._memory(name) or 0))

    def has_room(self, name: str, request: DeviceRequest) -> bool:
        """Whether a device has the free memory that the request needs; true where either is unknown."""
        memory = self._memory(name)
        return memory is None or request.memory is None or memory >= request.memory

    def _memory(self, name: str) -> int | None:
        device = self.devices.get(name)
        return device.free if device else None


def is_number(name: str) -> bool:
    """Whether a device is named by its number in PCI order, and not by a UUID."""
    return name.removeprefix(_PREFIX).isdigit()


def device_variables(devices: Iterable[str]) -> dict[str, str]:
    """Environment variables with which CUDA sees these devices only; empty without devices."""
    gpus = [name.removeprefix(_PREFIX) for name in devices if name.startswith(_PREFIX)]
    if not gpus:
        return {}
    # By default CUDA numbers the fastest GPU first; NVML and nvidia-smi, whose numbers users know, go by the PCI bus.
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def set_device_variables(environment: MutableMapping[str, str], devices: Collection[str]) -> None:
    """Set a worker's device variables; without devices, CUDA's variables stay as they are."""
    # Inherited where a run is started from within another one, whose devices these are not.
    environment.pop(DEVICES_VARIABLE, None)
    if variables := device_variables(devices):
        environment.update(variables, **{DEVICES_VARIABLE: ",".join(devices)})


def machine_from(document: Any) -> Machine:
    """Read `dpo_tui.hardware.cuda_devices.document`; anything else gives a machine without known devices."""
    try:
        return Machine({one["name"]: Device(one["card"], one["slice"], one["free"]) for one in document["devices"]})
    except (TypeError, KeyError):
        return Machine()


def read_machine(give_up: Callable[[], bool]) -> Machine:
    """Ask the driver which devices there are and how much memory is free on them.

    A child process asks: the driver's Python binding is not in the standard library, and a call may hang with a broken
    GPU.

    Args:
        give_up: called ten times a second; true ends the wait.

    Returns:
        A machine without known devices where the driver does not answer.
    """
    deadline = time.monotonic() + _READING_DEADLINE
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", _READING_MODULE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return Machine()
    while True:
        try:
            output, _ = child.communicate(timeout=_POLL)
        except subprocess.TimeoutExpired:
            if not give_up() and time.monotonic() < deadline:
                continue
            child.kill()  # not waited for: inside the driver it may be in uninterruptible sleep
            return Machine()
        try:
            return machine_from(parse_json(output))
        except ValueError:
            return Machine()
