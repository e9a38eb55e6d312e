"""Runs: the table while the home folder is being read."""

import threading

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.views.run_list import RunList
from dpo_tui.views.user_settings import UserSettings
from tests.support.app import ended_run, screen_text, until


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The first reading of the runs waits for this event."""
    event = threading.Event()
    real = RunList.poll

    def poll(self: RunList, now: float) -> bool:
        event.wait(10)
        return real(self, now)

    monkeypatch.setattr(RunList, "poll", poll)
    return event


async def test_nothing_is_said_of_the_runs_and_enter_starts_nothing_before_they_are_read(home, held_back):
    ended_run(home, "20261101-101010-aaaa", "helpful")
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Reading the runs" in screen_text(pilot))
        assert "No runs yet" not in screen_text(pilot)
        await pilot.press("enter")
        held_back.set()
        await until(pilot, lambda: "helpful" in screen_text(pilot))
        assert isinstance(pilot.app.screen, RunsScreen)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen))


async def test_an_empty_home_offers_the_first_steps_once_it_is_read(home, held_back):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        held_back.set()
        await until(pilot, lambda: "No runs yet" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
