"""New → Settings offers GPUs, processes and nodes, and says what the effective batch becomes."""

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.settings_form import SchemaForm
from tests.screens.test_new_sweep import at_the_rate
from tests.support.app import screen_text, until

OFFERED = {
    "gpus": "GPU",
    "gpu_count": "GPUs together",
    "distributed": "distributed",
    "cpu_offload": "offload weights",
    "ranks": "CPU processes",
    "launcher": "launcher",
    "nodes": "nodes",
}


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_settings_offer_gpus_processes_and_nodes_and_two_processes_double_the_batch(home, size):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=size) as pilot:
        screen = await at_the_rate(pilot)
        form = screen.query_one(SchemaForm)
        await pilot.press("a")
        assert {row.name: row.title for row in form.form_rows if row.name in OFFERED} == OFFERED
        together = screen.plan.config.effective_batch

        async def change(name: str, text: str) -> None:
            while form.current.name != name:
                await pilot.press("down")
            await pilot.press("enter", *["backspace"] * 8, *text, "enter")

        await change("gpus", "none")
        await change("ranks", "2")
        await until(pilot, lambda: screen.plan.config.world_size == 2 and not screen.plan.problems)
        assert screen.plan.config.effective_batch == 2 * together
        await until(pilot, lambda: f"processes = {2 * together} pairs" in screen_text(pilot))
        await change("nodes", "3")
        await until(pilot, lambda: "needs launcher" in screen.plan.problem("nodes"))
        await until(pilot, lambda: "✗ needs launcher" in screen_text(pilot))
