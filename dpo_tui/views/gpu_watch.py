"""The GPUs of this machine while the app is open: their names once, their readings every other second."""

from typing import TYPE_CHECKING

from dpo_tui.views.gpu_text import GpuHistory

if TYPE_CHECKING:
    from dpo_tui.hardware.gpu_sampler import Sampler


HISTORY = 300
"""Readings kept of each GPU: ten minutes at one every two seconds."""


class GpuWatch:
    """Samples every GPU in a background thread; without a GPU there is no thread.

    Args:
        interval: seconds between readings.

    Attributes:
        absence: why there is no GPU to show, as a line for the panel.
    """

    def __init__(self, interval: float = 2.0) -> None:
        self._interval = interval
        self._sampler: Sampler | None = None
        self._names: dict[int, str] = {}
        self.absence = "looking for GPUs"

    def start(self) -> None:
        """Find the GPUs and begin to sample. Call it from a thread: the driver may take a second."""
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
        if found.notes:  # there may well be one
            self.absence = f"no answer from the GPU driver: {reason}"
            return
        self.absence = f"no GPU: {reason}; training runs on the CPU"

    def stop(self) -> None:
        """End the sampling."""
        if self._sampler is not None:
            self._sampler.stop()

    def now(self) -> list[GpuHistory]:
        """Every GPU with its readings so far, oldest first; empty while none was found."""
        sampler = self._sampler
        if sampler is None:
            return []
        return [GpuHistory(index, name, tuple(sampler.history(index))) for index, name in sorted(self._names.items())]
