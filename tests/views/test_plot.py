"""What charts draw, as text."""

from math import nan

from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.views.axes import nice_axis, step_range, tick_label, ticks
from dpo_tui.views.braille import Canvas, blocks, sparkline
from dpo_tui.views.chart_registry import charts_for
from dpo_tui.views.plot import PlotLine, PlotStyle, PlotWindow, draw
from dpo_tui.views.series import Series
from dpo_tui.views.smoothing import SmoothedSeries
from dpo_tui.widgets.step_bar import bar


def series_of(*points: tuple[float, float]) -> Series:
    series = Series()
    series.extend([step for step, _ in points], [value for _, value in points])
    return series


def text_of(rows) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def roles_of(rows) -> set[str]:
    return {role for row in rows for text, role in row if text.strip()}


def test_a_dot_sits_in_its_cell_and_corner():
    canvas = Canvas(2, 1)
    canvas.bar(0, 0, 0, 1)
    canvas.bar(3, 3, 3, 2)
    assert canvas.glyph(0, 0) == "⠁"
    assert canvas.glyph(1, 0) == "⢀"
    assert (canvas.layer(0, 0), canvas.layer(1, 0)) == (1, 2)


def test_a_falling_line_has_no_holes():
    canvas = Canvas(20, 5)
    canvas.curve([(0, 0.0, 0.0), (39, 19.0, 19.0)], 1)
    filled = {column for column in range(20) if any(canvas.glyph(column, row) != " " for row in range(5))}
    assert filled == set(range(20))


def test_what_lies_outside_the_picture_is_cut_not_wrapped():
    canvas = Canvas(4, 2)
    canvas.curve([(-1, -50.0, -50.0), (3, 4.0, 4.0), (9, 99.0, 99.0)], 1)
    assert canvas.glyph(0, 1) == " " or canvas.layer(0, 1) == 1
    assert len(canvas.bits) == 8


def test_a_gap_is_left_open():
    canvas = Canvas(10, 1)
    canvas.curve([(0, 1.0, 1.0), (1, 1.0, 1.0), (9, nan, nan), (18, 1.0, 1.0), (19, 1.0, 1.0)], 1)
    assert [canvas.glyph(column, 0) for column in range(1, 9)] == [" "] * 8


@given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(allow_nan=True, allow_infinity=True)), max_size=60),
    st.integers(8, 120),
    st.integers(3, 30),
    st.booleans(),
)
def test_any_data_draws_rows_of_exactly_the_asked_size(points, width, height, log):
    """Infinities, NaN and one-point runs must never break the screen."""
    series = series_of(*sorted(points, key=lambda point: point[0]))
    rows = draw([PlotLine("x", series)], PlotStyle("x", reference=10.0), PlotWindow(log=log), width, height)
    assert len(rows) == height
    assert {len(text) for text in text_of(rows)} == {width}


def test_the_header_names_the_chart_and_its_latest_value():
    rows = draw(
        [PlotLine("train", series_of((1, 0.5), (2, 0.71)))], PlotStyle("preference accuracy"), PlotWindow(), 38, 6
    )
    header = text_of(rows)[0]
    assert header.startswith("preference accuracy")
    assert header.endswith("0.710")


def test_the_unit_stands_after_the_value():
    rows = draw(
        [PlotLine("speed", series_of((1, 2400.0)))], PlotStyle("tokens per second", unit="tok/s"), PlotWindow(), 40, 6
    )
    assert text_of(rows)[0].endswith("2400 tok/s")


def test_an_eval_twin_is_named_beside_the_training_value():
    lines = [PlotLine("train", series_of((1, 1.0))), PlotLine("eval", series_of((1, 2.0)), 2)]
    rows = draw(lines, PlotStyle("loss"), PlotWindow(), 50, 6)
    assert text_of(rows)[0].endswith("train 1.00  eval 2.00")
    assert {"line-1", "line-2"} <= roles_of(rows)


def test_kl_has_its_line_at_ten_even_while_all_values_are_small():
    rows = draw([PlotLine("KL", series_of((1, 0.5), (2, 1.9)))], PlotStyle("KL", reference=10.0), PlotWindow(), 40, 8)
    dashed = [text for text in text_of(rows) if "┄" in text]
    assert len(dashed) == 1
    assert dashed[0].startswith("10┤")


def test_the_raw_line_stays_visible_behind_the_smoothed_one():
    series = series_of(*((step, float(step % 2)) for step in range(100)))
    rows = draw(
        [PlotLine("x", series, smooth=SmoothedSeries(series, 0.9).update())], PlotStyle("x"), PlotWindow(), 40, 8
    )
    assert {"raw", "line-1"} <= roles_of(rows)


def test_the_value_cursor_shows_step_and_value():
    series = series_of(*((step, step / 100) for step in range(0, 101)))
    rows = draw([PlotLine("x", series)], PlotStyle("loss"), PlotWindow(cursor=50), 40, 8)
    assert "step 50" in text_of(rows)[0]
    assert text_of(rows)[0].endswith("0.500")
    assert "cursor" in roles_of(rows[1:])


def test_unusable_values_are_told_in_the_header():
    rows = draw([PlotLine("x", series_of((1, 1.0), (2, nan)))], PlotStyle("loss"), PlotWindow(), 40, 6)
    assert "1 NaN/Inf" in text_of(rows)[0]


def test_a_metric_without_values_says_so():
    rows = draw([PlotLine("x", Series())], PlotStyle("KL (estimate)"), PlotWindow(), 40, 6)
    assert any("no values yet" in text for text in text_of(rows))


def test_every_glyph_of_a_chart_has_a_twin_in_ascii():
    """Without UTF-8; a glyph that has none would come out as a question mark."""
    series = series_of(*((step, (step * 7) % 13) for step in range(100)))
    rows = draw([PlotLine("x", series)], PlotStyle("x", reference=10.0), PlotWindow(cursor=50), 60, 8)
    drawn = [in_ascii(text) for text in text_of(rows)]
    assert all(text.isascii() and "?" not in text for text in drawn)
    assert [len(text) for text in drawn] == [60] * 8
    assert any("+--" in text for text in drawn), "the step axis"
    assert sum("|" in text for text in drawn) >= 4, "the value axis and the cursor"


def test_the_right_edge_moves_in_leaps_so_that_a_new_point_redraws_little():
    ends = [step_range(step)[1] for step in range(1024, 2048)]
    assert len(set(ends)) <= 9
    assert all(end >= step for end, step in zip(ends, range(1024, 2048), strict=True))


def test_the_axis_of_a_run_that_has_ended_ends_at_its_last_step():
    lines = [PlotLine("x", series_of(*((step, step) for step in range(1, 51))))]
    assert text_of(draw(lines, PlotStyle("x"), PlotWindow(), 40, 8))[-1].endswith(" 52")
    assert text_of(draw(lines, PlotStyle("x"), PlotWindow(settled=True), 40, 8))[-1].endswith(" 50")


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9), st.booleans())
def test_an_axis_holds_its_data_and_its_ticks(low, extent, log):
    axis = nice_axis(low, low + extent, log=log)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + slack
    assert axis.high >= low + extent - slack
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks(axis, 4))


def test_an_accuracy_axis_ends_at_one():
    assert nice_axis(0.55, 0.99, within=(0.0, 1.0)).high == 1.0


def test_a_logarithmic_axis_needs_positive_values():
    assert nice_axis(1e-7, 1e-2, log=True).log
    assert not nice_axis(0.0, 1e-2, log=True).log


def test_ticks_show_the_decimals_they_differ_in():
    assert [tick_label(value, 0.2) for value in (0.4, 0.6000000000000001)] == ["0.4", "0.6"]
    assert tick_label(2.5, 2.5) == "2.5"


def test_loss_accuracy_margin_and_kl_come_first_and_unknown_metrics_last():
    """The first screen is not the alphabet."""
    found = charts_for(["zeta", "alpha", "eval_loss", "loss", "learning_rate", "kl", "rewards/chosen", "t", "epoch"])
    titles = [entry.look.title for entry in found]
    assert titles[:4] == ["loss", "preference accuracy", "reward margin", "KL (estimate)"]
    assert titles[4:] == ["rewards", "learning rate", "alpha", "zeta"]


def test_hostile_metric_names_are_made_printable():
    titles = [entry.look.title for entry in charts_for(["\x1b[31mred\x07"])]
    assert titles[-1] == "red�"


def test_progress_bars_fill_from_left_to_right():
    assert bar(0.0, 10) == ("", "─" * 10)
    assert bar(0.55, 10) == ("━━━━━╸", "────")
    assert bar(1.0, 10) == ("━" * 10, "")
    assert bar(nan, 4) == ("", "────")
    assert all(len("".join(bar(k / 100, 10))) == 10 for k in range(101))


def test_in_ascii_only_a_whole_bar_looks_full():
    drawn = [in_ascii("".join(bar(k / 100, 10))) for k in range(101)]
    assert drawn[0] == "-" * 10
    assert drawn[57] == "=====>----"
    assert drawn[99] == "=========>"
    assert [k for k, text in enumerate(drawn) if text == "=" * 10] == [100]


def test_sparklines_rise_with_their_values():
    assert blocks([0.0, 0.5, 1.0]) == " ▄█"
    assert len(sparkline([1, 2, 3], 6)) == 6
    assert sparkline([], 4) == "    "
    assert in_ascii(blocks([k / 8 for k in range(9)])) == " _.-=+*#@"
