"""The app on labelled answers: the Data screen says what they are for, and New offers the strategy that takes them."""

import json
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.screens.data_screen import DataScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.views.run_plan import with_values
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.repair_dialog import RepairDialog
from dpo_tui.widgets.settings_form import SchemaForm
from tests.support.app import screen_text, until
from tests.support.repository import ROOT

ROWS = [
    {"prompt": f"Explain number {n}", "completion": f"{'Patiently' if n % 2 else 'No'}, {n}.", "label": bool(n % 2)}
    for n in range(8)
]


@pytest.fixture(autouse=True)
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a scan is a process of its own
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


async def test_the_data_screen_shows_labelled_answers_and_their_strategy(here: Path) -> None:
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 40)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
        screen = pilot.app.screen
        assert isinstance(screen, DataScreen)
        screen.open_data("answers.jsonl")
        await until(pilot, lambda: "usable labelled answers" in screen_text(pilot), 60)
        assert 'strategy = "kto"' in " ".join(screen_text(pilot).split())
        await pilot.press("t")
        await until(pilot, lambda: "No, 0." in screen_text(pilot), 30)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RepairDialog), 30)
        await pilot.press("enter")
        copy = here / "answers.repaired.jsonl"
        await until(pilot, copy.exists, 30)
        assert [json.loads(line)["label"] for line in copy.read_text().splitlines()] == [row["label"] for row in ROWS]


async def test_new_offers_kto_and_plans_a_run_on_such_data(here: Path) -> None:
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        screen = pilot.app.screen
        assert isinstance(screen, NewScreen)
        data = str(here / "answers.jsonl")
        screen.set_plan(with_values(screen.plan, {"model_name": "Qwen/Qwen3-0.6B", "dataset": data}))
        screen.go(3)
        await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
        form = screen.query_one(SchemaForm)
        await pilot.press("a")
        while form.current.name != "strategy":
            await pilot.press("down")
        assert screen.plan.config.per_device_train_batch_size == 1, "the profile of a machine without a GPU"
        while screen.plan.config.strategy != "kto" and not screen.plan.problems:
            await pilot.press("right")
            await pilot.pause()
        assert screen.plan.config.strategy == "kto"
        config = screen.plan.config
        assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (2, 4), "KTO needs two"
        await until(pilot, lambda: "8 labelled answers" in " ".join(screen_text(pilot).split()), 30)
