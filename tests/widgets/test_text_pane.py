"""A page that is longer than its pane says so, and how much is below."""

from dpo_tui.widgets.text_pane import TextPane
from tests.support.widget_stage import Stage, shown


async def test_what_is_below_the_last_row_is_counted_until_it_is_shown():
    pane = TextPane([(f"line {number}", "text") for number in range(1, 31)])
    async with Stage(pane).run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        assert [row.strip() for row in shown(pane)][-2:] == ["line 9", "↓ 21 more"]
        pane.focus()
        await pilot.press("down")
        assert [row.strip() for row in shown(pane)][-2:] == ["line 10", "↓ 20 more"]
        await pilot.press("G")
        assert [row.strip() for row in shown(pane)][-2:] == ["line 29", "line 30"]


async def test_a_page_that_fits_has_no_such_row():
    pane = TextPane([(f"line {number}", "text") for number in range(1, 11)])
    async with Stage(pane).run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        assert [row.strip() for row in shown(pane)][-1] == "line 10"
