"""GPUs at a glance: utilisation with its history, memory, power and temperature, one row a GPU or four."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from dpo_tui.plain import printable
from dpo_tui.widgets.braille import blocks
from dpo_tui.widgets.pieces import Row
from dpo_tui.widgets.rows import RowsWidget, component_classes

ROLES = ("name", "label", "value", "history", "hot")
HOT = 85
"""°C from which data-centre and desktop GPUs start to slow down (NVIDIA's slowdown thresholds begin around here)."""


class Reading(Protocol):
    """What a sample of one GPU must tell; `dpo_tui.hardware.sampler.Sample` does. None where the driver is silent."""

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
    samples: Sequence[Reading] = ()


class GpuPanel(RowsWidget):
    """GPU rows. Compact: one row a GPU. Tall (four rows a GPU): a history for each of the four quantities."""

    DEFAULT_CSS = """
    GpuPanel {
        height: auto;
        & > .gpu--name { color: $text; }
        & > .gpu--label { color: $text-muted; }
        & > .gpu--value { color: $text; }
        & > .gpu--history { color: $chart-1; }
        & > .gpu--hot { color: $text-error; text-style: bold; }
    }
    """
    PREFIX = "gpu"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    gpus: tuple[GpuHistory, ...] = ()
    absence = "no GPU here: training runs on the CPU"
    ascii_only = False

    def show(self, gpus: Sequence[GpuHistory], *, absence: str | None = None, ascii_only: bool = False) -> None:
        """Show new readings.

        Args:
            gpus: what to show.
            absence: what to say when there is none.
            ascii_only: draw histories in ASCII.
        """
        layout = len(gpus) != len(self.gpus)
        self.gpus, self.ascii_only = tuple(gpus), ascii_only
        if absence is not None:
            self.absence = printable(absence, single_line=True)
        if layout:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """One row a GPU, and one to say that there is none."""
        return max(len(self.gpus), 1)

    def build_rows(self, width: int, height: int) -> list[Row]:
        """Compact or tall rows, by the height given."""
        if not self.gpus:
            return [[(self.absence[:width], "label")]]
        if height >= 4 * len(self.gpus) + len(self.gpus) - 1:
            return [row for gpu in self.gpus for row in [*_tall(gpu, width, self.ascii_only), []]][:-1]
        return [compact(gpu, width, ascii_only=self.ascii_only) for gpu in self.gpus]


def compact(gpu: GpuHistory, width: int, *, ascii_only: bool = False) -> Row:
    """One GPU in one row; parts are left out from the least telling on when the row is narrow."""
    name = printable(gpu.name, single_line=True).removeprefix("NVIDIA ").removeprefix("GeForce ")
    row: Row = [(f"GPU {gpu.index} ", "label"), (name[:24], "name")]
    now = gpu.samples[-1] if gpu.samples else None
    if now is None:
        return row
    history = blocks([_part(sample.utilisation, 100) for sample in gpu.samples[-8:]], ascii_only=ascii_only).rjust(8)
    parts: list[Row] = []
    if now.utilisation is not None:
        parts.append([("util ", "label"), (history, "history"), (f"{now.utilisation:>4} %", "value")])
    if (memory := memory_text(now)) is not None:
        parts.append([("VRAM ", "label"), (memory, "value")])
    if (power := power_text(now)) is not None:
        parts.append([(power, "value")])
    if now.temperature is not None:
        parts.append([(f"{now.temperature:>3} °C", "hot" if now.temperature >= HOT else "value")])
    for part in parts:
        if sum(len(text) for text, _ in row) + 3 + sum(len(text) for text, _ in part) <= width:
            row += [("   ", "label"), *part]
    return row


def memory_text(now: Reading) -> str | None:
    """Used of total in decimal gigabytes, as cards are sold."""
    if now.memory_used is None or not now.memory_total:
        return None
    total = f"{now.memory_total / 1e9:.1f}"
    return f"{now.memory_used / 1e9:>{len(total)}.1f}/{total} GB"


def power_text(now: Reading) -> str | None:
    """Watts, with the limit where the driver tells it."""
    if now.power is None:
        return None
    return f"{now.power:>3.0f}/{now.power_limit:.0f} W" if now.power_limit else f"{now.power:>3.0f} W"


def _part(value: float | None, whole: float | None) -> float:
    return value / whole if value is not None and whole else float("nan")


def _tall(gpu: GpuHistory, width: int, ascii_only: bool) -> list[Row]:
    now = gpu.samples[-1] if gpu.samples else None
    name = printable(gpu.name, single_line=True)
    if now is None:
        return [[(f"GPU {gpu.index} ", "label"), (name[: width - 6], "name")]]
    room = max(width - 28, 4)
    recent = gpu.samples[-room:]
    temperature = None if now.temperature is None else f"{now.temperature} °C"
    quantities: list[tuple[str, list[float], str | None]] = [
        (
            "util",
            [_part(s.utilisation, 100) for s in recent],
            None if now.utilisation is None else f"{now.utilisation} %",
        ),
        ("VRAM", [_part(s.memory_used, s.memory_total) for s in recent], memory_text(now)),
        ("power", [_part(s.power, s.power_limit) for s in recent], power_text(now)),
        ("temperature", [_part(s.temperature, 100) for s in recent], temperature),
    ]
    return [
        [
            (f"{label:<12}", "label"),
            (blocks(history, ascii_only=ascii_only).rjust(room), "history"),
            (
                f"{value or 'not told':>15}",
                "hot" if label == "temperature" and (now.temperature or 0) >= HOT else "value",
            ),
        ]
        for label, history, value in quantities
    ]
