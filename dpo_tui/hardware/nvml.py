"""Inventory of the GPUs through NVML; no function here raises.

Any NVML call can fail while others succeed: a container hides MIG memory, boards with unified memory have no counter,
old drivers lack functions, a GPU falls off the bus. Each failure becomes a :class:`NvmlFault` beside the values that
could be read, so that a screen shows "no permission" in place of a value.

Memory is in bytes; text shows decimal gigabytes (``bytes / 1e9``), because cards are sold in roughly those: an RTX 4070
"12 GB" reports 12,282 MiB = 12.88 GB.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, TypeVar

from dpo_tui.hardware.process_description import GpuProcess, describe
from dpo_tui.processes.timed_call import TimedCall
from dpo_tui.text.printable import printable

T = TypeVar("T")
FaultKind = Literal[
    "no-library", "no-driver", "no-answer", "no-permission", "not-supported", "lost", "missing-function", "other"
]

ANSWER_DEADLINE = 10.0
"""Seconds after which a driver counts as one that does not answer; eight GPUs without persistence mode take three."""

# NVML return codes (nvml.h, nvmlReturn_t) -> kind of fault and its explanation.
_FAULTS: dict[int, tuple[FaultKind, str]] = {
    3: ("not-supported", "not supported by this GPU"),
    4: ("no-permission", "no permission: the driver does not show this to you"),
    9: ("no-driver", "the NVIDIA driver is not loaded"),
    12: ("no-library", "no NVIDIA driver library here (libnvidia-ml.so.1)"),
    13: ("missing-function", "this driver is too old to tell"),
    15: ("lost", "the GPU is lost: it stopped answering, and only a reset or reboot brings it back"),
    16: ("lost", "the GPU needs a reset"),
    18: ("no-driver", "driver and driver library differ in version: reboot after the driver update"),
}


@dataclass(frozen=True)
class NvmlFault:
    """Why a value could not be read."""

    kind: FaultKind
    reason: str


NO_ANSWER = NvmlFault(
    "no-answer",
    f"the NVIDIA driver has not answered for {ANSWER_DEADLINE:.0f} s: see whether nvidia-smi does, and what dmesg "
    "says; mostly only a reboot helps",
)


@dataclass(frozen=True)
class MigInstance:
    """One slice of a GPU in MIG mode, which CUDA treats as a GPU. Memory in bytes."""

    uuid: str | None
    memory_total: int | None
    memory_free: int | None


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML sees it. A value that is None has its reason in ``faults`` under the same name.

    Units: memory in bytes, power in watts, temperature in °C, clocks in MHz, utilisation and fan in percent.
    """

    index: int
    name: str
    uuid: str | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    compute_capability: tuple[int, int] | None = None
    driver: str | None = None
    cuda: str | None = None
    utilisation: int | None = None
    memory_utilisation: int | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    fan: int | None = None
    clock_sm: int | None = None
    clock_memory: int | None = None
    ecc: bool | None = None
    ecc_errors: int | None = None
    mig: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    holders: tuple[GpuProcess, ...] = ()
    faults: dict[str, NvmlFault] = field(default_factory=dict)

    @property
    def unified(self) -> bool:
        """Whether GPU and CPU share one memory (GB10, Jetson): NVML then has no memory counter."""
        fault = self.faults.get("memory")
        return fault is not None and fault.kind == "not-supported"

    @property
    def lost(self) -> bool:
        """Whether the GPU has stopped responding."""
        return any(fault.kind == "lost" for fault in self.faults.values())


@dataclass(frozen=True)
class Inventory:
    """All GPUs of this machine, or the reason why none can be listed."""

    gpus: tuple[Gpu, ...] = ()
    fault: NvmlFault | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for who expects a GPU: its driver is there and does not answer."""
        if self.fault is None or self.fault.kind != "no-answer":
            return ()
        return (f"No GPU is used: {self.fault.reason}",)


def fault_of(error: BaseException) -> NvmlFault:
    """Turn an exception of the binding into a fault."""
    code = getattr(error, "value", None)
    if isinstance(code, int) and code in _FAULTS:
        return NvmlFault(*_FAULTS[code])
    message = printable(str(error), single_line=True) or type(error).__name__
    return NvmlFault("other", f"NVML failed: {message}")


@contextlib.contextmanager
def session() -> Iterator[tuple[ModuleType | None, NvmlFault | None]]:
    """Initialise NVML for a ``with`` block; yields the binding, or None and the reason.

    Sessions nest: NVML counts initialisations and shuts down after the last.
    """
    binding: ModuleType | None = None
    fault: NvmlFault | None = None
    try:
        binding = importlib.import_module("pynvml")
        binding.nvmlInit()
    except Exception as error:
        binding, fault = None, fault_of(error)
    try:
        yield binding, fault
    finally:
        if binding is not None:
            with contextlib.suppress(Exception):
                binding.nvmlShutdown()


_in_time = TimedCall("nvml", ANSWER_DEADLINE)


def read() -> Inventory:
    """Read all values of all GPUs once; where the driver does not answer, that is the fault.

    With a GPU in trouble a call into the driver may never return.
    """
    try:
        return _in_time(_read_all)
    except TimeoutError:
        return Inventory(fault=NO_ANSWER)


def _read_all() -> Inventory:
    with session() as (binding, fault):
        if binding is None:
            return Inventory(fault=fault)
        queries = NvmlQueries()
        count = queries.ask("count", binding.nvmlDeviceGetCount)
        if count is None:
            return Inventory(fault=queries.faults["count"])
        driver = queries.text("driver", binding.nvmlSystemGetDriverVersion)
        cuda = queries.ask("cuda", lambda: _cuda_version(binding))
        shared = dict(queries.faults)
        return Inventory(gpus=tuple(_read_gpu(binding, index, driver, cuda, shared) for index in range(count)))


class NvmlQueries:
    """NVML calls, of which each that fails leaves its reason in ``faults``, under the name of its value."""

    def __init__(self) -> None:
        self.faults: dict[str, NvmlFault] = {}

    def ask(self, name: str, call: Callable[[], T]) -> T | None:
        """Return the call's result, or None with the reason in ``faults[name]``."""
        try:
            return call()
        except Exception as error:
            self.faults[name] = fault_of(error)
            return None

    def text(self, name: str, call: Callable[..., Any], *arguments: Any) -> str | None:
        """Return a call's string as printable text; the binding returns str or bytes, and raises on invalid UTF-8."""

        def printable_result() -> str:
            try:
                result = call(*arguments)
            except UnicodeDecodeError as error:
                result = error.object  # the undecoded bytes
            return as_text(result)

        return self.ask(name, printable_result)


def as_text(value: str | bytes) -> str:
    """A name as printable text, whether the binding gave str or bytes."""
    return printable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value), single_line=True)


def _cuda_version(binding: ModuleType) -> str:
    version = int(binding.nvmlSystemGetCudaDriverVersion_v2())
    return f"{version // 1000}.{version % 1000 // 10}"


def _read_gpu(
    binding: ModuleType, index: int, driver: str | None, cuda: str | None, shared: dict[str, NvmlFault]
) -> Gpu:
    queries = NvmlQueries()
    queries.faults.update(shared)
    handle = queries.ask("handle", lambda: binding.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return Gpu(index=index, name=f"GPU {index}", driver=driver, cuda=cuda, faults=queries.faults)
    ask = queries.ask
    memory = ask("memory", lambda: binding.nvmlDeviceGetMemoryInfo(handle))
    busy = ask("utilisation", lambda: binding.nvmlDeviceGetUtilizationRates(handle))
    capability = ask("compute_capability", lambda: binding.nvmlDeviceGetCudaComputeCapability(handle))
    milliwatts = ask("power", lambda: binding.nvmlDeviceGetPowerUsage(handle))
    limit = ask("power_limit", lambda: binding.nvmlDeviceGetEnforcedPowerLimit(handle))
    ecc = ask("ecc", lambda: binding.nvmlDeviceGetEccMode(handle))
    mig = ask("mig", lambda: binding.nvmlDeviceGetMigMode(handle))
    return Gpu(
        index=index,
        name=queries.text("name", binding.nvmlDeviceGetName, handle) or f"GPU {index}",
        uuid=queries.text("uuid", binding.nvmlDeviceGetUUID, handle),
        memory_total=int(memory.total) if memory is not None else None,
        memory_used=int(memory.used) if memory is not None else None,
        memory_free=int(memory.free) if memory is not None else None,
        compute_capability=(int(capability[0]), int(capability[1])) if capability is not None else None,
        driver=driver,
        cuda=cuda,
        utilisation=int(busy.gpu) if busy is not None else None,
        memory_utilisation=int(busy.memory) if busy is not None else None,
        power=milliwatts / 1000 if milliwatts is not None else None,
        power_limit=limit / 1000 if limit is not None else None,
        temperature=ask(
            "temperature", lambda: int(binding.nvmlDeviceGetTemperature(handle, binding.NVML_TEMPERATURE_GPU))
        ),
        fan=ask("fan", lambda: int(binding.nvmlDeviceGetFanSpeed(handle))),
        clock_sm=ask("clock_sm", lambda: int(binding.nvmlDeviceGetClockInfo(handle, binding.NVML_CLOCK_SM))),
        clock_memory=ask("clock_memory", lambda: int(binding.nvmlDeviceGetClockInfo(handle, binding.NVML_CLOCK_MEM))),
        ecc=bool(ecc[0]) if ecc is not None else None,
        ecc_errors=_ecc_errors(binding, handle, queries) if ecc is not None and ecc[0] else None,
        mig=bool(mig[0]) if mig is not None else None,
        mig_instances=_mig_instances(binding, handle, queries) if mig is not None and mig[0] else (),
        holders=_memory_holders(binding, handle, queries),
        faults=queries.faults,
    )


def _ecc_errors(binding: ModuleType, handle: Any, queries: NvmlQueries) -> int | None:
    """Uncorrected errors since the driver was loaded; more than zero means defective memory."""
    return queries.ask(
        "ecc_errors",
        lambda: int(
            binding.nvmlDeviceGetTotalEccErrors(
                handle, binding.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, binding.NVML_VOLATILE_ECC
            )
        ),
    )


def _mig_instances(binding: ModuleType, handle: Any, queries: NvmlQueries) -> tuple[MigInstance, ...]:
    count = queries.ask("mig_instances", lambda: int(binding.nvmlDeviceGetMaxMigDeviceCount(handle)))
    instances = []
    for position in range(count or 0):
        slot = NvmlQueries()  # an empty slot fails with "not found", which is no fault of the GPU
        instance = slot.ask("handle", lambda at=position: binding.nvmlDeviceGetMigDeviceHandleByIndex(handle, at))  # type: ignore[misc]
        if instance is None:
            if slot.faults["handle"].kind == "no-permission":
                queries.faults["mig_instances"] = slot.faults["handle"]
            continue
        memory = slot.ask("memory", lambda of=instance: binding.nvmlDeviceGetMemoryInfo(of))  # type: ignore[misc]
        instances.append(
            MigInstance(
                uuid=slot.text("uuid", binding.nvmlDeviceGetUUID, instance),
                memory_total=int(memory.total) if memory is not None else None,
                memory_free=int(memory.free) if memory is not None else None,
            )
        )
    return tuple(instances)


def _memory_holders(binding: ModuleType, handle: Any, queries: NvmlQueries) -> tuple[GpuProcess, ...]:
    compute = queries.ask("holders", lambda: binding.nvmlDeviceGetComputeRunningProcesses(handle))
    graphics = NvmlQueries().ask("holders", lambda: binding.nvmlDeviceGetGraphicsRunningProcesses(handle))
    held: dict[int, int | None] = {}
    for process in [*(compute or []), *(graphics or [])]:
        # A process can be listed under compute and under graphics with the same memory: count it once.
        held[int(process.pid)] = process.usedGpuMemory if process.usedGpuMemory is None else int(process.usedGpuMemory)
    return tuple(describe(pid, memory) for pid, memory in sorted(held.items(), key=lambda item: -(item[1] or 0)))
