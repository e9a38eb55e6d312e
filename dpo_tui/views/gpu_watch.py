"""The GPUs of this machine while somebody looks: names once, readings every second or two."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpo_tui.hardware.gpu_sampler import Sample, Sampler


HISTORY = 300
"""Readings kept: ten minutes at one every two seconds."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU and its recent readings, oldest first."""

    index: int
    name: str
    samples: "tuple[Sample, ...]"


class GpuWatch:
    """Samples every GPU in the background; on a machine without one it costs nothing after the first look.

    Args:
        interval: seconds between readings.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self._interval = interval
        self._sampler: Sampler | None = None
        self._names: dict[int, str] = {}
        self.absence = "looking for GPUs"

    def start(self) -> None:
        """Find the GPUs and begin to sample; slow (a driver call), so call it from a thread."""
        # NVML's binding and psutil are not needed before the first paint.
        from dpo_tui.hardware.gpu_sampler import Sampler
        from dpo_tui.hardware.nvml import read

        found = read()
        self._names = {gpu.index: gpu.name for gpu in found.gpus}
        if found.gpus:
            self._sampler = Sampler(interval=self._interval, history=HISTORY)
            self._sampler.start()
            return
        reason = found.fault.reason.partition(" (")[0] if found.fault is not None else "none found"
        self.absence = f"no GPU: {reason}; training runs on the CPU"

    def stop(self) -> None:
        """End the sampling."""
        if self._sampler is not None:
            self._sampler.stop()

    def now(self) -> list[GpuReading]:
        """Every GPU with what was read so far."""
        sampler = self._sampler
        if sampler is None:
            return []
        return [GpuReading(index, name, tuple(sampler.history(index))) for index, name in sorted(self._names.items())]
