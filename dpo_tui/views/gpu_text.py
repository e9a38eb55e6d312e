"""GPUs as styled text: four rows (`tall`), one (`compact`) or 24 cells (`brief`) for one, a row for all (`gpu_row`).

A column of a history stands for `SPAN` seconds and not for one reading: it then shifts every few seconds and not with
each reading. Shifting repaints the whole history, which is most of the traffic of a GPU panel.
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
"""°C from which a temperature is marked: NVIDIA's slowdown thresholds begin around here."""
SPAN = 5.0
"""Seconds in one column of a history."""
LONGEST = 120
"""Columns of a history at most: ten minutes."""
TALL_ROWS = 4
_SHORTEST_NAME = 8
"""Cells that a compact row leaves to the GPU's name."""
_NAME, _LABEL, _VALUE, _GAP = 22, 12, 16, 2
"""Cells of the columns of a tall GPU."""


class GpuSample(Protocol):
    """One reading of a GPU, such as `dpo_tui.hardware.gpu_sampler.Sample`; None where the driver gives no value."""

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
        """Why a value is missing, by its name."""


@dataclass(frozen=True, slots=True)
class GpuHistory:
    """One GPU and its recent readings.

    Args:
        index: its number in NVML.
        name: its name in NVML.
        samples: readings, oldest first; the last one is the current one.
    """

    index: int
    name: str
    samples: Sequence[GpuSample] = ()

    @property
    def short_name(self) -> str:
        """The name without ``NVIDIA`` and ``GeForce``."""
        return printable(self.name, single_line=True).removeprefix("NVIDIA ").removeprefix("GeForce ")


def failure_reason(sample: GpuSample) -> str:
    """Why the driver gives no value of a GPU at all; empty while it gives one."""
    values = (sample.utilisation, sample.memory_used, sample.power, sample.temperature)
    if any(value is not None for value in values) or not sample.faults:
        return ""
    faults = sorted(sample.faults.values(), key=lambda fault: fault.kind not in ("lost", "no-answer"))
    return faults[0].reason


def _failure_word(sample: GpuSample) -> str:
    """`failure_reason` in a word or two: ``lost``, ``no answer``, ``silent``."""
    kinds = {fault.kind for fault in sample.faults.values()}
    return next((kind.replace("-", " ") for kind in ("lost", "no-answer") if kind in kinds), "silent")


def brief(gpu: GpuHistory) -> StyledRow:
    """One GPU in 24 cells: its number, utilisation, memory and temperature."""
    row: StyledRow = [(f"{gpu.index:<2}", "label")]
    now = gpu.samples[-1] if gpu.samples else None
    if now is None:
        return [*row, (gpu.short_name[:20], "name")]
    if failure_reason(now):
        return [*row, (_failure_word(now), "hot")]
    row.append((f"{_percent(now):>5} ", "value"))
    row.append((f"{(memory_text(now) or '').replace(' GB', 'GB'):>11} ", "value"))
    if now.temperature is not None:
        row.append((f"{now.temperature}°C", "hot" if now.temperature >= HOT else "value"))
    return row


def _percent(now: GpuSample) -> str:
    return "" if now.utilisation is None else f"{now.utilisation} %"


def compact(gpu: GpuHistory, width: int) -> StyledRow:
    """One GPU in one row.

    Args:
        gpu: the GPU.
        width: cells of the row. Where they do not suffice, the name is cut first; then the last parts are left out.
    """
    row: StyledRow = [(f"GPU {gpu.index} ", "label"), (gpu.short_name[:24], "name")]
    now = gpu.samples[-1] if gpu.samples else None
    if now is None:
        return row
    if reason := failure_reason(now):
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
    row[1] = (gpu.short_name[: max(min(len(gpu.short_name), 24) - max(over, 0), _SHORTEST_NAME)], "name")
    for part in parts:
        if row_width(row) + gap + row_width(part) <= width:
            row += [(" " * gap, "label"), *part]
    return row


def memory_text(now: GpuSample) -> str | None:
    """Used and total memory in decimal gigabytes, as on the box of a card; None without a reading."""
    if now.memory_used is None or not now.memory_total:
        return None
    total = f"{now.memory_total / 1e9:.1f}"
    return f"{now.memory_used / 1e9:>{len(total)}.1f}/{total} GB"


def power_text(now: GpuSample) -> str | None:
    """Power in watts, and the power limit where the driver gives one; None without a reading."""
    if now.power is None:
        return None
    return f"{now.power:>3.0f}/{now.power_limit:.0f} W" if now.power_limit else f"{now.power:>3.0f} W"


def _fraction(value: float | None, whole: float | None) -> float:
    """``value`` of ``whole``; NaN where one is missing."""
    return value / whole if value is not None and whole else nan


_QUANTITIES: dict[str, Callable[[GpuSample], float]] = {  # each as a fraction of its full scale
    "util": lambda sample: _fraction(sample.utilisation, 100),
    "VRAM": lambda sample: _fraction(sample.memory_used, sample.memory_total),
    "power": lambda sample: _fraction(sample.power, sample.power_limit),
    "temperature": lambda sample: _fraction(sample.temperature, 100),
}


def columns(samples: Sequence[GpuSample], quantity: Callable[[GpuSample], float], room: int) -> list[float]:
    """The history of a quantity.

    Args:
        samples: readings, oldest first.
        quantity: a fraction of full scale from one reading, or NaN.
        room: how many columns to fill.

    Returns:
        The mean of each of the last ``room`` spans of `SPAN` seconds, the current one last; NaN without a reading.
    """
    if not samples:
        return [nan] * room
    last = int(samples[-1].t // SPAN)
    sums, counts = [0.0] * room, [0] * room
    for sample in reversed(samples):
        column = room - 1 - (last - int(sample.t // SPAN))
        if column < 0:
            break
        value = quantity(sample)
        if value == value:  # noqa: PLR0124 - NaN is not itself
            sums[column] += value
            counts[column] += 1
    return [total / count if count else nan for total, count in zip(sums, counts, strict=True)]


def tall(gpu: GpuHistory, width: int) -> list[StyledRow]:
    """One GPU in four rows: utilisation, memory, power and temperature, each with its history.

    Args:
        gpu: the GPU.
        width: cells of a row; they limit the length of the histories.
    """
    names = [f"GPU {gpu.index}", gpu.short_name, "", ""]
    now = gpu.samples[-1] if gpu.samples else None
    left: list[StyledRow] = [[(f"{name[: _NAME - 1]:<{_NAME}}", "name" if name else "label")] for name in names]
    if now is None:
        return left
    if reason := failure_reason(now):
        left[0].append((reason[: width - _NAME], "hot"))
        return left
    spans = int(now.t // SPAN) - int(gpu.samples[0].t // SPAN) + 1
    room = min(max(width - _NAME - _LABEL - _VALUE - _GAP, 4), LONGEST, spans)
    temperature = None if now.temperature is None else f"{now.temperature} °C"
    values = {
        "util": _percent(now) or None, "VRAM": memory_text(now), "power": power_text(now), "temperature": temperature
    }  # fmt: skip
    hot = (now.temperature or 0) >= HOT
    for row, (label, quantity) in zip(left, _QUANTITIES.items(), strict=True):
        role = "hot" if label == "temperature" and hot else "value"
        value = values[label] or _missing_text(now, label)
        history = blocks(columns(gpu.samples, quantity, room))
        row += [(f"{label:<{_LABEL}}", "label"), (f"{value:>{_VALUE}}  ", role), (history, "history")]
    return left


def _missing_text(now: GpuSample, label: str) -> str:
    """Why a quantity has no value, in two words."""
    fault = now.faults.get({"util": "utilisation", "VRAM": "memory"}.get(label, label))
    return fault.kind.replace("-", " ") if fault is not None else "no value"


def gpu_row(gpus: list[GpuHistory], absence: str) -> StyledRow:
    """Name, load and memory of the first two GPUs, for the right end of the title row.

    Args:
        gpus: the GPUs.
        absence: why there are none; only what comes before a colon is shown.
    """
    if not gpus:
        return [(absence.partition(":")[0], "muted")]
    row: StyledRow = []
    for gpu in gpus[:2]:
        name = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
        row += [("  " if row else "", "muted"), (f"GPU {gpu.index} {name}  ", "muted")]
        if gpu.samples:
            sample = gpu.samples[-1]
            if failure_reason(sample):
                row.append((_failure_word(sample), "bad"))
                continue
            load = "idle" if sample.utilisation == 0 else _percent(sample)
            row.append(("  ".join(part for part in (load, memory_text(sample)) if part), "value"))
    if len(gpus) > 2:  # noqa: PLR2004 - the title row has room for two
        row.append((f"  +{len(gpus) - 2}", "muted"))
    return row
