"""The progress bar of a run, and what it shows beside it."""

from math import nan

import pytest

from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.widgets.step_bar import StepBar, bar
from dpo_tui.widgets.title_row import TitleRow
from tests.support.widget_stage import Stage, shown


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
