"""The devices that runs hold: names, what is free, and the worker's CUDA variables. Standard library only.

A name is ``gpu:`` and what ``CUDA_VISIBLE_DEVICES`` takes: a number in PCI order, a GPU's UUID, or a MIG slice's. A run
names its devices, or has a `DeviceRequest`: then its supervisor chooses among the candidates when the run's turn comes.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

DEVICES_VARIABLE = "DPO_TUI_DEVICES"
"""The worker's devices by name: a worker that has some and finds no GPU must fail, not train on the CPU."""

_PREFIX = "gpu:"
_READING_MODULE = "dpo_tui.hardware.cuda_devices"
_READING_DEADLINE = 20.0
"""Seconds for the driver to answer; a sick GPU can hold it up for ever."""
_POLL = 0.1


@dataclass(frozen=True)
class DeviceRequest:
    """Devices that a run needs, to be chosen when its turn comes.

    Args:
        candidates: names of the devices that would do, the best first as of when the run was made.
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
    """What the driver says about a device; see `dpo_tui.hardware.cuda_devices.document`."""

    card: int
    slice: bool
    free: int | None


@dataclass(frozen=True)
class Machine:
    """The machine's devices by name; a GPU has two names, its number and its UUID. Empty where the driver is silent."""

    devices: Mapping[str, Device] = field(default_factory=dict)

    def same(self, one: str, other: str) -> bool:
        """Whether two names share hardware: one name, one card, or a card and a slice of it; never two slices."""
        if one == other:
            return True
        first, second = self.devices.get(one), self.devices.get(other)
        return (
            first is not None
            and second is not None
            and first.card == second.card
            and not (first.slice and second.slice)
        )

    def free(self, request: DeviceRequest, taken: Collection[str]) -> list[str]:
        """The candidates that nobody has, most free memory first; else in the request's order.

        Candidates that the driver does not list (lost, or of another machine) count only where too few others are left.
        """
        listed = [name for name in request.candidates if name in self.devices]
        names = listed if len(listed) >= request.count else request.candidates
        free = [name for name in names if not any(self.same(name, other) for other in taken)]
        return sorted(free, key=lambda name: -(self._memory(name) or 0))

    def has_room(self, name: str, request: DeviceRequest) -> bool:
        """Whether as much memory is free on a device as the request needs, as far as both are known."""
        memory = self._memory(name)
        return memory is None or request.memory is None or memory >= request.memory

    def _memory(self, name: str) -> int | None:
        device = self.devices.get(name)
        return device.free if device else None


def is_number(name: str) -> bool:
    """Whether a device is named by its number in PCI order, and not by a UUID."""
    return name.removeprefix(_PREFIX).isdigit()


def device_variables(devices: Iterable[str]) -> dict[str, str]:
    """The environment variables with which CUDA sees these devices and no other; none for none."""
    gpus = [name.removeprefix(_PREFIX) for name in devices if name.startswith(_PREFIX)]
    if not gpus:
        return {}
    # CUDA's own order is fastest first; NVML's, which people see and choose by, is the bus's.
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def give_devices(environment: MutableMapping[str, str], devices: Collection[str]) -> None:
    """Put a run's devices into its worker's environment; without any, CUDA's variables stay as they are."""
    environment.pop(DEVICES_VARIABLE, None)
    if variables := device_variables(devices):
        environment.update(variables, **{DEVICES_VARIABLE: ",".join(devices)})


def machine_from(document: Any) -> Machine:
    """Read `dpo_tui.hardware.cuda_devices.document`; anything else is a machine of which nothing is known."""
    try:
        return Machine({one["name"]: Device(one["card"], one["slice"], one["free"]) for one in document["devices"]})
    except (TypeError, KeyError):
        return Machine()


def read_machine(give_up: Callable[[], bool]) -> Machine:
    """Ask the driver which devices there are and how much memory is free on them.

    A child asks, because the driver's binding is not of the standard library, and may hang with a broken GPU.

    Args:
        give_up: asked every now and then; true ends the wait.

    Returns:
        A machine of which nothing is known where the driver does not answer.
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
            child.kill()  # not waited for: in the driver it may be beyond signals
            return Machine()
        try:
            return machine_from(json.loads(output))
        except ValueError:
            return Machine()
