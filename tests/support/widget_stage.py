"""An app that shows single widgets, and what they draw as text."""

from typing import Any

from textual.app import ComposeResult
from textual.widget import Widget

from dpo_tui.hardware.gpu_sampler import Sample
from dpo_tui.themes.themed_app import ThemedApp
from dpo_tui.views.series import Series
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid


class Stage(ThemedApp):
    """Shows some widgets and keeps the messages they post.

    Args:
        widgets: what to show, from top to bottom.
        theme_name: one of the app's themes.
    """

    def __init__(self, *widgets: Widget, theme_name: str = "dark") -> None:
        super().__init__(theme_name)
        self.widgets = widgets
        self.seen: list[Any] = []

    def compose(self) -> ComposeResult:
        yield from self.widgets

    def on_line_chart_enlarge(self, message: LineChart.Enlarge) -> None:
        self.seen.append(message)

    def on_chart_grid_enlarged(self, message: ChartGrid.Enlarged) -> None:
        self.seen.append(message)


def shown(widget: Widget) -> list[str]:
    """The rows of a widget, without colours."""
    return ["".join(segment.text for segment in widget.render_line(y)) for y in range(widget.size.height)]


def sample(**values: Any) -> Sample:
    """One reading of a busy GPU; ``values`` replace its fields."""
    given = {"utilisation": 97, "memory_used": 9_100_000_000, "memory_total": 12_880_000_000, "power": 188.0}
    return Sample(**{"t": 0.0, "gpu": 0, **given, "power_limit": 200.0, "temperature": 71, **values})


def rising(count: int = 100) -> Series:
    """A series that rises from 0 to 1 in equal steps."""
    series = Series()
    series.extend(range(count + 1), [step / count for step in range(count + 1)])
    return series


def refreshed_cells(widget: Any) -> list[int]:
    """From now on, the number of cells of every region that the widget asks to repaint."""
    asked: list[int] = []
    original = widget.refresh

    def note(*regions: Any, **options: Any) -> Any:
        asked.extend([region.area for region in regions] or [widget.size.area])
        return original(*regions, **options)

    widget.refresh = note
    return asked
