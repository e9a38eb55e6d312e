"""What a refresh of four charts costs: CPU and bytes on the wire, by length of the run and size of the terminal.

    python benchmarks/charts.py

Each refresh adds one point to each chart, as a live run does. CPU is this process's, drawing and writing included;
bytes are what Textual hands to the terminal driver.
"""

import asyncio
import math
import random
import time

from textual.app import ComposeResult

from dpo_tui.themes.themed_app import ThemedApp
from dpo_tui.views.plot import PlotLine, PlotStyle
from dpo_tui.views.series import Series
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid

REFRESHES = 40


class Bench(ThemedApp):
    """Four charts and a count of what is written."""

    def __init__(self, points: int) -> None:
        super().__init__("dark")
        self.series = [Series(f"metric {index}") for index in range(4)]
        for series in self.series:
            series.extend((step, value(step, points)) for step in range(points))
        self.grid = ChartGrid(
            [LineChart(PlotStyle(series.name), [PlotLine("train", series)]) for series in self.series]
        )
        self.written = 0

    def compose(self) -> ComposeResult:
        """The grid alone."""
        yield self.grid

    def _display(self, screen: object, renderable: object) -> None:
        super()._display(screen, renderable)  # type: ignore[arg-type]
        if hasattr(renderable, "render_segments"):
            self.written += len(renderable.render_segments(self.console).encode())


def value(step: int, points: int) -> float:
    """A falling loss with noise."""
    return 0.3 + 0.4 * math.exp(-3 * step / points) + random.gauss(0, 0.02)


async def measure(points: int, size: tuple[int, int]) -> tuple[float, float]:
    """Milliseconds of CPU and bytes of one refresh."""
    app = Bench(points)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.3)
        app.written = 0
        started = time.process_time()
        for index in range(REFRESHES):
            for series in app.series:
                series.add(points + index, value(points, points))
            app.grid.redraw()
            await pilot.pause()
        spent = time.process_time() - started
        return 1000 * spent / REFRESHES, app.written / REFRESHES


def main() -> None:
    """Print the table."""
    print(f"{'points':>9}  {'size':>7}  {'CPU ms':>7}  {'bytes':>6}   (per refresh of four charts)")
    for points in (10_000, 100_000, 1_000_000):
        for size in ((80, 16), (200, 42)):
            spent, written = asyncio.run(measure(points, size))
            print(f"{points:>9,}  {size[0]:>3}×{size[1]:<3}  {spent:>7.1f}  {written:>6.0f}")


if __name__ == "__main__":
    main()
