"""Widgets on a screen, by keyboard, asserting on messages and on what is shown."""

from pathlib import Path

import pytest

from dpo_tui.runs.statuses import GLYPHS
from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.views.advice_sentence import AdviceSentence
from dpo_tui.views.gpu_text import GpuHistory, compact
from dpo_tui.views.plot import PlotLine, PlotStyle
from dpo_tui.views.series import Series
from dpo_tui.views.status_labels import STATUS_LABELS, status_label
from dpo_tui.widgets.advice_line import AdviceLine
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid, arrangement
from dpo_tui.widgets.gpu_panel import GpuPanel
from dpo_tui.widgets.log_view import LogPane, LogView
from dpo_tui.widgets.rows_widget import changed_span
from dpo_tui.widgets.step_bar import StepBar
from dpo_tui.widgets.title_row import TitleRow
from tests.support.widget_stage import Stage, sample, shown


@pytest.fixture(autouse=True)
def colourful(monkeypatch):
    """A terminal that can show every theme."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def rising(count: int = 100) -> Series:
    series = Series()
    series.extend(range(count + 1), [step / count for step in range(count + 1)])
    return series


def refreshed_cells(widget) -> list[int]:
    """From now on, the number of cells of every region that the widget asks to repaint."""
    asked: list[int] = []
    original = widget.refresh

    def note(*regions, **options):
        asked.extend([region.area for region in regions] or [widget.size.area])
        return original(*regions, **options)

    widget.refresh = note
    return asked


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


@pytest.mark.parametrize("theme", ["dark", "light", "high-contrast", "colorblind", "ansi-16", "monochrome"])
async def test_every_theme_can_paint_every_widget(theme):
    chart = LineChart(PlotStyle("loss"), [PlotLine("train", rising())])
    async with Stage(chart, AdviceLine(), StepBar(), GpuPanel(), LogView(), theme_name=theme).run_test(
        size=(80, 24)
    ) as p:
        await p.pause()
        assert shown(chart)[0].startswith("loss")


@pytest.mark.parametrize(
    ("width", "above", "beside"),
    [
        (40, "run   step 120/400   ETA 12:00", "peak 9.1 GB"),
        (60, "run   step 120/400   ETA 12:00   peak 9.1 GB", "batch 2 × 4 = 8"),
        (80, "run   step 120/400   ETA 12:00   peak 9.1 GB   batch 2 × 4 = 8", ""),
        (24, "run   step 120/400", ""),
    ],
)
async def test_what_the_title_has_no_room_for_stands_beside_the_bar(width: int, above: str, beside: str):
    parts = [[(word, "value")] for word in ("run", "step 120/400", "ETA 12:00", "peak 9.1 GB", "batch 2 × 4 = 8")]
    title, bar = TitleRow(), StepBar()
    async with Stage(title, bar).run_test(size=(width, 2)) as pilot:
        title.show(parts)
        bar.show(0.3, parts)
        await pilot.pause()
        assert shown(title)[0].rstrip() == above
        row = shown(bar)[0].rstrip()
        assert row.endswith(f"30 %   {beside}" if beside else "30 %")
        assert row.startswith("━━━━")


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


async def test_the_advice_line_wraps_and_is_never_markup():
    line = AdviceLine()
    async with Stage(line).run_test(size=(40, 4)) as pilot:
        line.show(
            AdviceSentence(
                "warn", "KL 12.4 is above 10: [bold]lower the rate[/bold] or raise beta, then look again at it."
            )
        )
        await pilot.pause()
        first, *_, last = shown(line)
        assert first.startswith("⚠ KL 12.4 is above 10: [bold]lower")
        assert last.rstrip().endswith("it.")
        await pilot.resize_terminal(20, 4)
        await pilot.pause()
        assert shown(line)[3].rstrip().endswith("…")


def test_a_gpu_in_one_row_says_it_all():
    """SCREENS, Monitor."""
    row = compact(GpuHistory(0, "NVIDIA GeForce RTX 4070", [sample(utilisation=u) for u in (10, 50, 97)]), 80)
    text = "".join(part for part, _ in row)
    assert text.startswith("GPU 0 RTX 4070")
    assert "97 %" in text
    assert " 9.1/12.9 GB" in text
    assert "188/200 W" in text
    assert text.endswith("71 °C")
    assert len(text) <= 80


def test_a_gpu_that_tells_little_shows_what_it_tells():
    silent = sample(utilisation=None, memory_used=None, power=None, temperature=88)
    row = compact(GpuHistory(0, "GB10", [silent]), 80)
    assert "".join(part for part, _ in row).endswith("88 °C")
    assert row[-1][1] == "hot"


async def test_without_a_gpu_the_panel_says_so():
    panel = GpuPanel()
    async with Stage(panel).run_test(size=(60, 4)):
        assert shown(panel)[0].startswith("no GPU here")


def test_every_status_of_the_contract_has_a_glyph_a_word_and_an_ascii_twin_of_its_own():
    """State is never colour alone."""
    named = {"queued", "starting", "running", "stalled", "stopping", "done", "failed", "stopped", "lost"}
    assert set(STATUS_LABELS) == named
    glyphs = {status.glyph for status in STATUS_LABELS.values()}
    assert len(glyphs) == len({in_ascii(glyph) for glyph in glyphs}) == len(named)
    assert all(status.text == f"{status.glyph} {status.word}" for status in STATUS_LABELS.values())
    assert {status: look.glyph for status, look in STATUS_LABELS.items()} == GLYPHS
    assert status_label("novel").word == "novel"


async def test_the_log_follows_scrolls_and_finds(tmp_path: Path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"line {index}\n" for index in range(1000)) + "CUDA out of memory\nend\n")
    view = LogView(path)
    async with Stage(view).run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        view.pane.focus()
        view.pane.poll()
        assert "end" in shown(view.pane)[10]
        with path.open("a") as stream:
            stream.write("fresh\n")
        view.pane.poll()
        assert "fresh" in shown(view.pane)[10]
        await pilot.press("g")
        assert shown(view.pane)[0].startswith("line 0")
        await pilot.press("slash")
        await pilot.press(*"memory", "enter")
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert shown(view.pane)[0].startswith("CUDA out of memory")
        assert isinstance(pilot.app.focused, LogPane)
        await pilot.press("G")
        assert "following" in shown(view.pane)[11]


def test_the_changed_part_of_a_row_counts_wide_characters_twice():
    assert changed_span([("日本", "a"), ("x", "a")], [("日本", "a"), ("y", "a")]) == (4, 5)
    assert changed_span([("ab", "a")], [("a", "a"), ("b", "a")]) is None
    assert changed_span([("ab", "a")], [("ab", "b")]) == (0, 2)
