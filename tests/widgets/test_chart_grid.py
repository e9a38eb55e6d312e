"""Pages of charts, by keyboard and at every size."""

import pytest

from dpo_tui.views.plot import PlotLine, PlotStyle
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid, arrangement
from tests.support.widget_stage import Stage, refreshed_cells, rising


def grid_of(*titles: str) -> ChartGrid:
    return ChartGrid([LineChart(PlotStyle(title), [PlotLine("x", rising())]) for title in titles])


TITLES = (
    "loss",
    "accuracy",
    "margin",
    "KL",
    "rewards",
    "rate",
    "norm",
    "speed",
    "memory",
    "entropy",
    "tokens",
    "logits",
)


async def test_the_first_page_at_80_by_24_is_loss_accuracy_margin_and_kl():
    grid = grid_of(*TITLES)
    async with Stage(grid).run_test(size=(80, 16)) as pilot:
        await pilot.pause()
        assert [chart.plot_style.title for chart in grid.charts if chart.display] == [
            "loss",
            "accuracy",
            "margin",
            "KL",
        ]


async def test_hidden_charts_are_not_drawn():
    grid = grid_of(*TITLES)
    async with Stage(grid).run_test(size=(80, 16)) as pilot:
        await pilot.pause()
        hidden = grid.charts[-1]
        asked = refreshed_cells(hidden)
        hidden.lines[0].series.add(101, 5.0)
        grid.redraw()
        assert asked == []
        assert hidden._drawn is None


async def test_pages_filter_and_focus_by_keyboard():
    grid = grid_of(*TITLES)
    app = Stage(grid)
    async with app.run_test(size=(80, 16)) as pilot:
        await pilot.pause()
        grid.charts[0].focus()
        await pilot.press("pagedown")
        await pilot.pause()
        assert [chart.plot_style.title for chart in grid.charts if chart.display] == list(TITLES[4:8])
        assert app.focused is grid.charts[4]
        await pilot.press("j")
        assert app.focused is grid.charts[5]
        grid.filter("lo")
        await pilot.pause()
        assert [chart.plot_style.title for chart in grid.charts if chart.display] == ["loss", "logits"]


async def test_enter_enlarges_a_chart_and_enter_brings_it_back():
    grid = grid_of(*TITLES)
    app = Stage(grid)
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.pause()
        grid.charts[1].focus()
        await pilot.press("enter")
        await pilot.pause()
        assert [chart.display for chart in grid.charts].count(True) == 1
        assert grid.charts[1].size.height == 20
        await pilot.press("enter")
        await pilot.pause()
        assert [chart.display for chart in grid.charts].count(True) == 4
    assert [message.chart for message in app.seen] == [grid.charts[1], None]


@pytest.mark.parametrize(
    ("size", "least"), [((80, 16), 4), ((200, 42), 8), ((120, 30), 6), ((40, 10), 2), ((20, 5), 1)]
)
def test_charts_stay_legible_at_every_size(size, least):
    columns, rows = arrangement(12, *size)
    assert columns * rows >= least
    assert columns == 1 or size[0] // columns >= 34
    assert rows == 1 or size[1] // rows >= 5
