"""One GPU in words and histories: in four rows, in one, or in a third of one. No Textual.

A column of a history is a span of time and not a reading, so that it moves on every few seconds and not with each
reading: over a slow line a history that shifts is what a GPU panel costs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Protocol

from dpo_tui.text.printable import printable
from dpo_tui.views.braille import blocks
from dpo_tui.views.styled_text import StyledRow, row_width

if TYPE_CHECKING:  # NVML's binding is not needed before the first paint
    from dpo_tui.hardware.nvml import NvmlFault

HOT = 85
"""°C from which data-centre and desktop GPUs start to slow down (NVIDIA's slowdown thresholds begin around here)."""
SPAN = 5.0
"""Seconds in one column of a history."""
LONGEST = 120
"""Columns of a history at most: ten minutes."""
TALL_ROWS = 4
_SHORTEST = 8
_NAME, _LABEL, _VALUE, _GAP = 22, 12, 16, 2


class GpuSample(Protocol):
    """What a sample of one GPU must tell; `dpo_tui.hardware.gpu_sampler.Sample` does. None where the driver is silent."""

    @property
    def t(self) -> float:
        """Unix time in seconds."""

    @property
    def utilisation(self) -> int | None:
        """Percent."""

    @property
    def memory_used(self) -> int | None:
        """Bytes."""

    @property
    def memory_total(self) -> int | None:
        """Bytes."""

    @property
    def power(self) -> float | None:
        """Watts."""

    @property
    def power_limit(self) -> float | None:
        """Watts."""

    @property
    def temperature(self) -> int | None:
        """°C."""

    @property
    def faults(self) -> "Mapping[str, NvmlFault]":
        """Why a value is not there, by its name."""


@dataclass(frozen=True, slots=True)
class GpuHistory:
    """One GPU and what it did lately.

    Args:
        index: its number.
        name: its name, as the driver says it.
        samples: readings, oldest first; the last one is now.
    """

    index: int
    name: str
    samples: Sequence[GpuSample] = ()

    @property
    def short_name(self) -> str:
        """Its name without the maker's."""
        return printable(self.name, single_line=True).removeprefix("NVIDIA ").removeprefix("GeForce ")


def trouble(sample: GpuSample) -> str:
    """Why a GPU tells nothing any more; empty while it tells anything."""
    told = (sample.utilisation, sample.memory_used, sample.power, sample.temperature)
    if any(value is not None for value in told) or not sample.faults:
        return ""
    faults = sorted(sample.faults.values(), key=lambda fault: fault.kind != "lost")
    return faults[0].reason


def brief(gpu: GpuHistory) -> StyledRow:
    """One GPU in 24 cells: its number, how busy and how full it is, how hot."""
    row: StyledRow = [(f"{gpu.index:<2}", "label")]
    now = gpu.samples[-1] if gpu.samples else None
    if now is None:
        return [*row, (gpu.short_name[:20], "name")]
    if trouble(now):
        return [*row, ("lost" if any(fault.kind == "lost" for fault in now.faults.values()) else "silent", "hot")]
    row.append((f"{_percent(now):>5} ", "value"))
    row.append((f"{(memory_text(now) or '').replace(' GB', 'GB'):>11} ", "value"))
    if now.temperature is not None:
        row.append((f"{now.temperature}°C", "hot" if now.temperature >= HOT else "value"))
    return row


def _percent(now: GpuSample) -> str:
    return "" if now.utilisation is None else f"{now.utilisation} %"


def compact(gpu: GpuHistory, width: int) -> StyledRow:
    """One GPU in one row; where it is narrow the name is cut first, then parts go, the least telling first."""
    row: StyledRow = [(f"GPU {gpu.index} ", "label"), (gpu.short_name[:24], "name")]
    now = gpu.samples[-1] if gpu.samples else None
    if now is None:
        return row
    if reason := trouble(now):
        return [*row, ("  ", "label"), (reason, "hot")]
    history = blocks(columns(gpu.samples, _QUANTITIES["util"], 8))
    parts: list[StyledRow] = []
    if now.utilisation is not None:
        parts.append([("util ", "label"), (history, "history"), (f"{now.utilisation:>4} %", "value")])
    if (memory := memory_text(now)) is not None:
        parts.append([("VRAM ", "label"), (memory, "value")])
    if (power := power_text(now)) is not None:
        parts.append([(power, "value")])
    if now.temperature is not None:
        parts.append([(f"{now.temperature:>3} °C", "hot" if now.temperature >= HOT else "value")])
    gap = 3 if row_width(row) + sum(3 + row_width(part) for part in parts) <= width else 2
    over = row_width(row) + sum(gap + row_width(part) for part in parts) - width
    row[1] = (gpu.short_name[: max(min(len(gpu.short_name), 24) - max(over, 0), _SHORTEST)], "name")
    for part in parts:
        if row_width(row) + gap + row_width(part) <= width:
            row += [(" " * gap, "label"), *part]
    return row


def memory_text(now: GpuSample) -> str | None:
    """Used of total in decimal gigabytes, as cards are sold."""
    if now.memory_used is None or not now.memory_total:
        return None
    total = f"{now.memory_total / 1e9:.1f}"
    return f"{now.memory_used / 1e9:>{len(total)}.1f}/{total} GB"


def power_text(now: GpuSample) -> str | None:
    """Watts, with the limit where the driver tells it."""
    if now.power is None:
        return None
    return f"{now.power:>3.0f}/{now.power_limit:.0f} W" if now.power_limit else f"{now.power:>3.0f} W"


def _part(value: float | None, whole: float | None) -> float:
    return value / whole if value is not None and whole else nan


_QUANTITIES: dict[str, Callable[[GpuSample], float]] = {
    "util": lambda sample: _part(sample.utilisation, 100),
    "VRAM": lambda sample: _part(sample.memory_used, sample.memory_total),
    "power": lambda sample: _part(sample.power, sample.power_limit),
    "temperature": lambda sample: _part(sample.temperature, 100),
}


def columns(samples: Sequence[GpuSample], quantity: Callable[[GpuSample], float], room: int) -> list[float]:
    """The mean of a quantity in each of the last ``room`` spans of time, now at the end; NaN where it is silent."""
    if not samples:
        return [nan] * room
    last = int(samples[-1].t // SPAN)
    sums, counts = [0.0] * room, [0] * room
    for sample in reversed(samples):
        place = room - 1 - (last - int(sample.t // SPAN))
        if place < 0:
            break
        value = quantity(sample)
        if value == value:  # noqa: PLR0124 - NaN is not itself
            sums[place] += value
            counts[place] += 1
    return [total / count if count else nan for total, count in zip(sums, counts, strict=True)]


def tall(gpu: GpuHistory, width: int) -> list[StyledRow]:
    """One GPU in four rows: each quantity with its history."""
    names = [f"GPU {gpu.index}", gpu.short_name, "", ""]
    now = gpu.samples[-1] if gpu.samples else None
    left: list[StyledRow] = [[(f"{name[: _NAME - 1]:<{_NAME}}", "name" if name else "label")] for name in names]
    if now is None:
        return left
    if reason := trouble(now):
        left[0].append((reason[: width - _NAME], "hot"))
        return left
    known = int(now.t // SPAN) - int(gpu.samples[0].t // SPAN) + 1
    room = min(max(width - _NAME - _LABEL - _VALUE - _GAP, 4), LONGEST, known)
    temperature = None if now.temperature is None else f"{now.temperature} °C"
    words = {"util": _percent(now) or None, "VRAM": memory_text(now), "power": power_text(now)}
    said = {**words, "temperature": temperature}
    hot = (now.temperature or 0) >= HOT
    for row, (label, quantity) in zip(left, _QUANTITIES.items(), strict=True):
        role = "hot" if label == "temperature" and hot else "value"
        value = said[label] or _silence(now, label)
        history = blocks(columns(gpu.samples, quantity, room))
        row += [(f"{label:<{_LABEL}}", "label"), (f"{value:>{_VALUE}}  ", role), (history, "history")]
    return left


def _silence(now: GpuSample, label: str) -> str:
    """Why a quantity is not told, in two words."""
    fault = now.faults.get({"util": "utilisation", "VRAM": "memory"}.get(label, label))
    return fault.kind.replace("-", " ") if fault is not None else "not told"
