"""The advice line wraps its sentence and keeps the remedy in view."""

from dpo_tui.views.advice_sentence import AdviceSentence
from dpo_tui.widgets.advice_line import AdviceLine
from tests.support.widget_stage import Stage, shown


async def test_advice_is_read_whole_and_its_remedy_stays_when_it_cannot_be():
    line = AdviceLine()
    line.remedy_key = "a"
    async with Stage(line).run_test(size=(40, 12)) as pilot:
        line.show(AdviceSentence("warn", "word " * 18, "beta 0.2"))
        await pilot.pause()
        assert line.size.height == 4
        assert "a tries beta 0.2" in shown(line)[3]
        line.show(AdviceSentence("good", "Fine."))
        await pilot.pause()
        assert line.size.height == 2


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
