"""Periodic GPU readings for live panels: a thread that reads every GPU once a second into ring buffers.

Only values that change from second to second are read. Without NVML the thread ends at once.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from dpo_tui.hardware.nvml import ANSWER_DEADLINE, NO_ANSWER, NvmlFault, NvmlQueries, session

_STOP_WAIT = 0.5
"""Seconds that `Sampler.stop` waits for a reading to end; it takes milliseconds, or for ever with a GPU in trouble."""


@dataclass(frozen=True)
class Sample:
    """Readings of one GPU at one time; None where the driver does not report a value, with the reason in ``faults``.

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
        history: readings kept per GPU; older ones are dropped.
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
        self._asking_since: float | None = None

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._ready.clear()
            self._thread = threading.Thread(target=self._run, name="gpu-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the history can still be read. A thread whose driver does not answer is left behind."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_WAIT)
            self._thread = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the first reading or the fault; return whether one of them is there.

        Args:
            timeout: seconds; None waits without limit.
        """
        return self._ready.wait(timeout)

    @property
    def gpus(self) -> list[int]:
        """The indices of the GPUs seen so far."""
        with self._lock:
            return sorted(self._rings)

    def history(self, gpu: int) -> list[Sample]:
        """All kept readings of one GPU, oldest first.

        While the driver does not answer, the last one has no values but `NO_ANSWER`: what was read before is not now.
        """
        with self._lock:
            readings = list(self._rings.get(gpu, ()))
            since = self._asking_since
        if since is not None and time.monotonic() - since > ANSWER_DEADLINE:
            readings.append(Sample(t=time.time(), gpu=gpu, faults={"driver": NO_ANSWER}))
        return readings

    def latest(self, gpu: int) -> Sample | None:
        """The newest reading of one GPU, as `history` has it."""
        readings = self.history(gpu)
        return readings[-1] if readings else None

    def _run(self) -> None:
        self._asking_since = time.monotonic()
        self._read_on()
        self._asking_since = None

    def _read_on(self) -> None:
        # NVML handles are valid within a session, so one session lasts as long as the thread.
        with session() as (binding, fault):
            if binding is None:
                self.fault = fault
                self._ready.set()
                return
            queries = NvmlQueries()
            count = queries.ask("count", lambda: int(binding.nvmlDeviceGetCount()))
            if count is None:
                self.fault = queries.faults["count"]
                self._ready.set()
                return
            handles: dict[int, Any] = {}
            power_limits: dict[int, int | None] = {}
            while not self._stop.is_set():
                self._asking_since = time.monotonic()
                for index in range(count):
                    sample = _sample(binding, index, handles, power_limits)
                    with self._lock:
                        self._rings.setdefault(index, deque(maxlen=self._history)).append(sample)
                self._asking_since = None
                self._ready.set()
                self._stop.wait(self.interval)


def _sample(binding: ModuleType, index: int, handles: dict[int, Any], power_limits: dict[int, int | None]) -> Sample:
    queries = NvmlQueries()
    handle = handles.get(index) or queries.ask("handle", lambda: binding.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return Sample(t=time.time(), gpu=index, faults=queries.faults)
    handles[index] = handle
    if index not in power_limits:  # constant, so it is read once; a fault is not reported with every sample
        power_limits[index] = NvmlQueries().ask("limit", lambda: binding.nvmlDeviceGetEnforcedPowerLimit(handle))
    memory = queries.ask("memory", lambda: binding.nvmlDeviceGetMemoryInfo(handle))
    busy = queries.ask("utilisation", lambda: binding.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = queries.ask("power", lambda: binding.nvmlDeviceGetPowerUsage(handle))
    limit = power_limits[index]
    return Sample(
        t=time.time(),
        gpu=index,
        utilisation=int(busy.gpu) if busy is not None else None,
        memory_used=int(memory.used) if memory is not None else None,
        memory_total=int(memory.total) if memory is not None else None,
        power=milliwatts / 1000 if milliwatts is not None else None,
        power_limit=limit / 1000 if limit is not None else None,
        temperature=queries.ask(
            "temperature", lambda: int(binding.nvmlDeviceGetTemperature(handle, binding.NVML_TEMPERATURE_GPU))
        ),
        clock_sm=queries.ask("clock_sm", lambda: int(binding.nvmlDeviceGetClockInfo(handle, binding.NVML_CLOCK_SM))),
        faults=queries.faults,
    )
