"""The first five minutes at 80×24, by keyboard alone, with the keys counted."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.screens.data_screen import DataScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.views.user_settings import UserSettings
from tests.support.app import screen_text, until
from tests.support.repository import ROOT

SIZE = (80, 24)
GOOD = [{"prompt": f"What is 2+{n}?", "chosen": f"It is {n + 2}, of course.", "rejected": "No idea."} for n in range(9)]
MISTAKES = [
    '{"prompt": "a", "chosen": "b"',
    '{"prompt": "a", "chosen": "b"}',
    '{"prompt": "a", "chosen": "", "rejected": "c"}',
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Person:
    """Somebody who reads the screen and presses keys.

    Attributes:
        keys: how many were pressed.
    """

    def __init__(self, pilot) -> None:
        self.pilot = pilot
        self.keys = 0

    async def press(self, *keys: str) -> None:
        self.keys += len(keys)
        await self.pilot.press(*keys)

    def reads(self) -> str:
        return " ".join(screen_text(self.pilot).split())

    async def sees(self, *words: str, seconds: float = 30) -> None:
        await until(self.pilot, lambda: all(one in self.reads() for one in words), seconds)


@asynccontextmanager
async def person() -> AsyncIterator[Person]:
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=SIZE) as pilot:
        yield Person(pilot)


async def test_four_enters_from_an_empty_home_to_a_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_tui.runs.start_run.default_worker_argv", lambda folder, python="": ["/bin/true"])
    async with person() as one:
        await one.sees("enter")
        await until(one.pilot, lambda: "No runs yet" in one.reads() or "first" in one.reads())
        await one.press("enter")
        await until(
            one.pilot, lambda: isinstance(one.pilot.app.screen, NewScreen) and one.pilot.app.screen.plan.profile
        )
        await one.press("enter")
        await one.sees("toy model and pairs")
        await one.press("enter")
        await one.sees("Ready: enter starts the run")
        await one.press("enter")
        await until(one.pilot, lambda: isinstance(one.pilot.app.screen, MonitorScreen), 30)
        assert one.keys == 4
        run = next((home / "home/runs").glob("2*/state.json"))
        await until(
            one.pilot, lambda: json.loads(run.read_text())["status"] not in ("queued", "starting", "running"), 30
        )


async def test_an_own_file_with_three_mistakes_is_explained_and_repaired_with_five_keys(home: Path) -> None:
    lines = [*map(json.dumps, GOOD[:5]), *MISTAKES, *map(json.dumps, GOOD[5:])]
    (home / "own.jsonl").write_text("\n".join(lines) + "\n")
    async with person() as one:
        await one.press("3")
        await until(one.pilot, lambda: isinstance(one.pilot.app.screen, DataScreen) and "own.jsonl" in one.reads())
        await one.press("down", "enter")
        await one.sees("12 rows, 9 usable pairs", "rows 6", "t and c show them", seconds=60)
        assert "--" not in one.reads()
        await until(one.pilot, lambda: one.pilot.app.screen.dataset is not None)
        await one.press("w")
        await one.sees("9 of 12 rows stay; left out: 3 as they cannot be used.")
        await one.press("enter")
        await until(one.pilot, (home / "own.repaired.jsonl").exists)
        assert one.keys == 5
    assert [json.loads(line)["prompt"] for line in (home / "own.repaired.jsonl").read_text().splitlines()] == [
        pair["prompt"] for pair in GOOD
    ]


async def test_a_missing_folder_is_refused_at_once_and_its_step_says_so(home: Path) -> None:
    async with person() as one:
        await one.press("2")
        await until(
            one.pilot, lambda: isinstance(one.pilot.app.screen, NewScreen) and one.pilot.app.screen.plan.profile
        )
        await one.press("enter")
        await one.sees("toy model and pairs")
        await one.press(*"/models/none", "enter")
        await one.sees("[2 Model ✗]", "no such folder", "check the path")
        assert one.keys == 2 + len("/models/none") + 1


async def test_without_a_network_the_check_says_that_and_what_to_do(home: Path) -> None:
    async with person() as one:
        await one.press("2")
        await until(
            one.pilot, lambda: isinstance(one.pilot.app.screen, NewScreen) and one.pilot.app.screen.plan.profile
        )
        await one.press("enter")
        await one.sees("toy model and pairs")
        await one.press(*"Qwen/Qwen3-0.6B")
        await one.sees("Listed is what this machine has and knows")
        await one.press("enter", "enter")  # the shipped pairs
        await one.press("ctrl+n")
        await one.sees("is not on this machine and the hub cannot be reached", "copy the folder here")
        assert one.keys == 2 + len("Qwen/Qwen3-0.6B") + 3
