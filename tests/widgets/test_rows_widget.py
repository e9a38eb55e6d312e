"""Widgets made of rows: they repaint only what changed, and follow the theme."""

import pytest

from dpo_tui.views.plot import PlotLine, PlotStyle
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.gpu_panel import GpuPanel
from dpo_tui.widgets.log_view import LogView
from dpo_tui.widgets.rows_widget import changed_span
from dpo_tui.widgets.step_bar import StepBar
from tests.support.widget_stage import Stage, refreshed_cells, rising, shown


async def test_a_new_point_repaints_a_few_cells_and_no_news_repaints_none():
    """Only changed rows are resent."""
    series = rising()
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", series)])
    app = Stage(chart)
    async with app.run_test(size=(80, 12)) as pilot:
        await pilot.pause()
        asked = refreshed_cells(chart)
        chart.redraw()
        assert asked == []
        series.add(101, 0.5)
        chart.redraw()
        assert 0 < sum(asked) < 80


@pytest.mark.parametrize("theme", ["dark", "light", "high-contrast", "colorblind", "ansi-16", "monochrome"])
async def test_every_theme_can_paint_every_widget(theme):
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", rising())])
    async with Stage(chart, AdviceLine(), StepBar(), GpuPanel(), LogView(), theme_name=theme).run_test(
        size=(80, 24)
    ) as p:
        await p.pause()
        assert shown(chart)[0].startswith("loss")


async def test_another_theme_recolours_what_is_drawn_already():
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", rising())])
    async with Stage(chart).run_test(size=(80, 12)) as pilot:
        await pilot.pause()
        dark = {segment.style.color for segment in chart.render_line(0) if segment.style}
        pilot.app.theme = "light"
        await pilot.pause()
        light = {segment.style.color for segment in chart.render_line(0) if segment.style}
        assert dark and light and not dark & light


async def test_monochrome_sends_no_colour():
    """NO_COLOR means none, greys included."""
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", rising())])
    async with Stage(chart, theme_name="monochrome").run_test(size=(80, 12)):
        styles = [segment.style for y in range(12) for segment in chart.render_line(y) if segment.style]
        assert styles
        assert all(style.color is None or style.color.is_default for style in styles)


def test_the_changed_part_of_a_row_counts_wide_characters_twice():
    assert changed_span([("日本", "a"), ("x", "a")], [("日本", "a"), ("y", "a")]) == (4, 5)
    assert changed_span([("ab", "a")], [("a", "a"), ("b", "a")]) is None
    assert changed_span([("ab", "a")], [("ab", "b")]) == (0, 2)
