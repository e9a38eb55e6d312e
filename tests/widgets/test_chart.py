"""A chart on a screen, by keyboard."""

from dpo_tui.views.plot import PlotLine, PlotStyle
from dpo_tui.widgets.chart import LineChart
from tests.support.widget_stage import Stage, rising, shown


async def test_a_chart_follows_its_keys():
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", rising())])
    app = Stage(chart)
    async with app.run_test(size=(80, 12)) as pilot:
        chart.focus()
        await pilot.press("left")
        assert "step" in shown(chart)[0]
        await pilot.press("plus")
        assert chart.chart_window.stop is not None
        start = chart.chart_window.start
        await pilot.press("left_square_bracket")
        assert chart.chart_window.start < start
        await pilot.press("0")
        assert chart.chart_window.stop is None
        await pilot.press("y")
        assert chart.chart_window.log
        assert chart.lines[0].smooth is not None, "100 points and more are smoothed by themselves"
        await pilot.press("m")
        assert chart.lines[0].smooth is None
        await pilot.press("m")
        assert chart.lines[0].smooth is not None
        await pilot.press("enter")
    assert [type(message) for message in app.seen] == [LineChart.Enlarge]


async def test_a_chart_title_in_markup_is_shown_as_it_is():
    chart = LineChart(PlotStyle("[red]loss[/red] [/]"), [PlotLine("train", rising())])
    async with Stage(chart).run_test(size=(80, 8)):
        assert shown(chart)[0].startswith("[red]loss[/red] [/]")
