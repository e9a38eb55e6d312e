"""Live GPU readings for panels: one thread, one reading a second, history in a ring.

Only the handful of calls that change from second to second are made; on a machine without NVML no thread starts.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from dpo_tui.hardware.nvml import NvmlFault, NvmlQueries, session


@dataclass(frozen=True)
class Sample:
    """One GPU at one moment; None where the driver does not tell, with the reason in ``faults``.

    Units as in :class:`dpo_tui.hardware.nvml.Gpu`; ``t`` is Unix time in seconds.
    """

    t: float
    gpu: int
    utilisation: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    clock_sm: int | None = None
    faults: dict[str, NvmlFault] = field(default_factory=dict)


class Sampler:
    """Reads every GPU once per interval in a daemon thread.

    Args:
        interval: seconds between readings.
        history: readings kept per GPU; older ones fall out.
    """

    def __init__(self, interval: float = 1.0, history: int = 600) -> None:
        self.interval = interval
        self.fault: NvmlFault | None = None
        self._history = history
        self._rings: dict[int, deque[Sample]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample; a second call does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._ready.clear()
            self._thread = threading.Thread(target=self._run, name="gpu-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the history stays readable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the first reading, or the fault, is there."""
        return self._ready.wait(timeout)

    @property
    def gpus(self) -> list[int]:
        """The indices of the GPUs seen so far."""
        with self._lock:
            return sorted(self._rings)

    def history(self, gpu: int) -> list[Sample]:
        """All kept readings of one GPU, oldest first."""
        with self._lock:
            return list(self._rings.get(gpu, ()))

    def latest(self, gpu: int) -> Sample | None:
        """The newest reading of one GPU."""
        with self._lock:
            ring = self._rings.get(gpu)
            return ring[-1] if ring else None

    def _run(self) -> None:
        with session() as (binding, fault):
            if binding is None:
                self.fault = fault
                self._ready.set()
                return
            asked = NvmlQueries()
            count = asked.ask("count", lambda: int(binding.nvmlDeviceGetCount()))
            if count is None:
                self.fault = asked.faults["count"]
                self._ready.set()
                return
            handles: dict[int, Any] = {}
            fixed: dict[int, dict[str, Any]] = {}
            while not self._stop.is_set():
                for index in range(count):
                    sample = _sample(binding, index, handles, fixed)
                    with self._lock:
                        self._rings.setdefault(index, deque(maxlen=self._history)).append(sample)
                self._ready.set()
                self._stop.wait(self.interval)


def _sample(binding: ModuleType, index: int, handles: dict[int, Any], fixed: dict[int, dict[str, Any]]) -> Sample:
    asked = NvmlQueries()
    handle = handles.get(index) or asked.ask("handle", lambda: binding.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return Sample(t=time.time(), gpu=index, faults=asked.faults)
    handles[index] = handle
    if index not in fixed:  # the limit does not change from second to second
        fixed[index] = {"limit": NvmlQueries().ask("limit", lambda: binding.nvmlDeviceGetEnforcedPowerLimit(handle))}
    memory = asked.ask("memory", lambda: binding.nvmlDeviceGetMemoryInfo(handle))
    busy = asked.ask("utilisation", lambda: binding.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = asked.ask("power", lambda: binding.nvmlDeviceGetPowerUsage(handle))
    limit = fixed[index]["limit"]
    return Sample(
        t=time.time(),
        gpu=index,
        utilisation=int(busy.gpu) if busy is not None else None,
        memory_used=int(memory.used) if memory is not None else None,
        memory_total=int(memory.total) if memory is not None else None,
        power=milliwatts / 1000 if milliwatts is not None else None,
        power_limit=limit / 1000 if limit is not None else None,
        temperature=asked.ask(
            "temperature", lambda: int(binding.nvmlDeviceGetTemperature(handle, binding.NVML_TEMPERATURE_GPU))
        ),
        clock_sm=asked.ask("clock_sm", lambda: int(binding.nvmlDeviceGetClockInfo(handle, binding.NVML_CLOCK_SM))),
        faults=asked.faults,
    )
