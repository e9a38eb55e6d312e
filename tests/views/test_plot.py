"""What charts draw, as text."""

from math import nan

from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.views.plot import COLOURS, SAMPLES, PlotLine, PlotStyle, PlotWindow, draw
from dpo_tui.views.series import Series
from dpo_tui.views.smoothing import SmoothedSeries


def series_of(*points: tuple[float, float]) -> Series:
    series = Series()
    series.extend([step for step, _ in points], [value for _, value in points])
    return series


def text_of(rows) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def roles_of(rows) -> set[str]:
    return {role for row in rows for text, role in row if text.strip()}


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


def test_the_axis_of_a_run_that_has_ended_ends_at_its_last_step():
    lines = [PlotLine("x", series_of(*((step, step) for step in range(1, 51))))]
    assert text_of(draw(lines, PlotStyle("x"), PlotWindow(), 40, 8))[-1].endswith(" 52")
    assert text_of(draw(lines, PlotStyle("x"), PlotWindow(complete=True), 40, 8))[-1].endswith(" 50")


def test_with_few_colours_each_line_has_its_own_dashes_and_its_sample_beside_the_name():
    flat = [PlotLine(f"run{n}", series_of((0, 1.0 + n), (100, 1.0 + n)), colour=n + 1) for n in range(COLOURS)]
    style = PlotStyle("loss", dashed=True)
    patterns = set()
    for line in flat:
        rows = text_of(draw([line], style, PlotWindow(), 60, 10))
        # The dots alone, in whatever row of a cell the line is.
        drawn = max((row for row in rows if any("\u2800" <= sign <= "\u28ff" for sign in row)), key=len)
        patterns.add(
            "".join("." if "\u2800" < sign <= "\u28ff" else " " for sign in drawn.partition("│")[2]) + drawn[-9:]
        )
    assert len(patterns) == COLOURS
    header = text_of(draw(flat[:3], style, PlotWindow(), 100, 10))[0]
    assert all(f"{sample} " in header for sample in SAMPLES[:3])
    assert len(set(SAMPLES)) == len({in_ascii(sample) for sample in SAMPLES}) == COLOURS


def test_a_spike_of_one_step_is_drawn_in_a_gap_too():
    for at in range(0, 100, 3):
        points = [(step, 10.0 if step == at else 1.0) for step in range(100)]
        rows = text_of(
            draw([PlotLine("a", series_of(*points), colour=5)], PlotStyle("x", dashed=True), PlotWindow(), 60, 12)
        )
        assert any("\u2800" < sign <= "\u28ff" for sign in rows[2].partition("│")[2] + rows[1]), at
