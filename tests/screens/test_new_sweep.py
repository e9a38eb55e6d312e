"""New: several values in a setting make a sweep, which Check shows and enter starts."""

from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.groups.group_store import all_groups
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.views import run_plan as plans
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.run_table import RunTable
from dpo_tui.widgets.settings_form import SchemaForm
from tests.support.app import screen_text, until
from tests.support.sweep_worker import stand_in
from tests.support.sweeps import kill_drivers, over


async def at_the_rate(pilot) -> NewScreen:
    """Choose the demo, go back to Settings, and put the cursor on learning_rate."""
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and pilot.app.focused is not None)
    await pilot.press("enter")
    await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "models")
    await pilot.press("enter")
    await until(pilot, lambda: "Ready: enter starts the run" in screen_text(pilot))
    await pilot.press("ctrl+b")
    await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
    form = pilot.app.screen.query_one(SchemaForm)
    while form.current.name != "learning_rate":
        await pilot.press("down")
    return pilot.app.screen


async def test_numbers_with_commas_are_a_sweep_that_is_checked_shown_and_started(home, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", stand_in(tmp_path / "site"))
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 30)) as pilot:
        screen = await at_the_rate(pilot)
        assert "several with commas: a run for each" in screen_text(pilot)
        await pilot.press("enter", *["backspace"] * 12, *"1e-3,2e-3", "enter")
        await until(pilot, lambda: screen.plan.sweep == {"learning_rate": (1e-3, 2e-3)})
        await until(pilot, lambda: "a run for each of 2 values" in screen_text(pilot))
        assert not screen.plan.problems and screen.plan.config.learning_rate == 1e-3
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "Ready: enter starts the sweep" in screen_text(pilot))
        assert "demo-2  learning_rate=0.002" in screen_text(pilot) and "2 runs" in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen), 30)
        await until(pilot, lambda: [row.name for row in pilot.app.screen.query_one(RunTable).runs] == ["▸ demo"], 30)
    try:
        (group,) = all_groups()
        assert over(group).counts == {"done": 2}
    finally:
        kill_drivers()


async def test_escape_gives_the_values_back_that_there_were(home):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 30)) as pilot:
        screen = await at_the_rate(pilot)
        await pilot.press("enter", *["backspace"] * 12, *"1e-3,2e-3", "enter")
        await until(pilot, lambda: bool(screen.plan.sweep))
        await pilot.press("enter", "backspace", "x")
        await until(pilot, lambda: bool(screen.plan.problems))
        await pilot.press("escape")
        await until(pilot, lambda: screen.plan.sweep == {"learning_rate": (1e-3, 2e-3)})
        await pilot.press("enter", *["backspace"] * 12, *"1e-4", "enter")
        await until(pilot, lambda: not screen.plan.sweep and screen.plan.config.learning_rate == 1e-4)


@pytest.mark.parametrize("text", ["0.1,", "0.1,x", "0.1,0.1", "0.1;0.2"])
def test_what_is_no_list_of_numbers_stays_a_problem(text: str) -> None:
    plan = plans.with_values(RunPlan(), {"beta": plans.parse("beta", text)})
    assert plan.problems and not plan.sweep


def test_each_value_is_checked_and_settings_that_change_nothing_take_one() -> None:
    plan = plans.with_values(RunPlan(), {"beta": plans.parse("beta", "0.1,-1")})
    assert plan.sweep and [problem.key for problem in plan.problems] == ["beta"]
    assert not plans.is_swept_here("save_steps") and not plans.is_swept_here("strategy")
    assert plans.with_values(RunPlan(), {"save_steps": plans.parse("save_steps", "5,6")}).problems
