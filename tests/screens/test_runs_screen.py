"""Runs: the table while the home folder is being read."""

import json
import threading
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens import run_preview
from dpo_tui.screens.run_preview import RunPreview
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.views.run_diagnosis import ThrottledDiagnosis
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.run_list import RunList
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.run_table import RunTable
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


async def test_the_first_focus_is_on_the_table_and_an_empty_one_has_nothing_to_report(home, monkeypatch):
    """The hidden filter had it for a moment: styles were computed three times over before anything was drawn."""
    focused, highlighted = [], []
    for widget in (LineInput, RunTable):
        monkeypatch.setattr(widget, "_on_focus", lambda self, event: focused.append(type(self)), raising=False)
    monkeypatch.setattr(RunsScreen, "on_run_table_highlighted", lambda self, event: highlighted.append(event), False)
    async with DpoTui(settings=UserSettings()).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.run_list.loaded)
        pilot.app.runs_changed.publish(None)
        await pilot.pause()
        assert isinstance(pilot.app.focused, RunTable)
    assert (focused, highlighted) == ([RunTable], [])


async def test_an_empty_home_offers_the_first_steps_once_it_is_read(home, held_back):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        held_back.set()
        await until(pilot, lambda: "No runs yet" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))


def evaluated(home: Path, run_id: str, name: str, accuracy: float, status: str = "done") -> None:
    folder = ended_run(home, run_id, name, status, steps=3)
    with folder.metrics.open("a") as stream:
        stream.write(json.dumps({"t": 1, "step": 3, "eval_rewards/accuracies": accuracy}) + "\n")


@pytest.fixture
def four_runs(home: Path) -> None:
    evaluated(home, "20261101-101010-aaaa", "helpful", 0.61)
    evaluated(home, "20261102-101010-aaaa", "tone", 0.83)
    evaluated(home, "20261103-101010-aaaa", "tone-long", 0.72, "stopped")
    ended_run(home, "20261104-101010-aaaa", "never evaluated", "failed", reason="out of memory", steps=3)


def names(pilot) -> list[str]:
    return [run.name for run in pilot.app.screen.query_one(RunTable).runs]


async def test_runs_show_held_out_accuracy_and_how_many_there_are_and_sort_by_it(home, four_runs):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "1–4 of 4" in screen_text(pilot))
        tone = next(line for line in screen_text(pilot).splitlines() if "tone " in line)
        assert "acc" in tone and "0.83" in tone
        await pilot.press("o", "o", "o")
        await until(pilot, lambda: "by held-out accuracy" in screen_text(pilot))
        assert names(pilot) == ["tone", "tone-long", "helpful", "never evaluated"]
        await pilot.press("o")
        assert names(pilot) == ["never evaluated", "tone-long", "tone", "helpful"]


async def test_typing_after_a_slash_lists_only_what_has_it_and_escape_lists_all_again(home, four_runs):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("slash", *"TONE done")
        await until(pilot, lambda: names(pilot) == ["tone"])
        assert "1 of 4 with “TONE done”" in screen_text(pilot)
        await pilot.press(*"x")
        await until(pilot, lambda: "No run has that" in screen_text(pilot))
        await pilot.press("enter", "enter")
        assert isinstance(pilot.app.screen, RunsScreen), "Enter on an empty result starts nothing"
        await pilot.press("escape")
        await until(pilot, lambda: len(names(pilot)) == 4)
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_selected_runs_are_deleted_together_after_they_were_named(home, four_runs):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("down", "space", "down", "space", "D")
        await until(pilot, lambda: "Delete 2 runs?" in screen_text(pilot))
        assert "tone-long" in screen_text(pilot) and "helpful" not in screen_text(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert len(names(pilot)) == 4 and "2 selected" in screen_text(pilot)
        await pilot.press("D")
        await until(pilot, lambda: "Delete 2 runs?" in screen_text(pilot))
        await pilot.press("y")
        await until(pilot, lambda: names(pilot) == ["never evaluated", "helpful"])
        await until(pilot, lambda: "selected" not in screen_text(pilot))
        assert sorted(path.name for path in (home / "runs").iterdir()) == [
            "20261101-101010-aaaa",
            "20261104-101010-aaaa",
        ]


async def test_the_preview_folds_and_the_table_takes_its_rows(home, four_runs):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await until(pilot, lambda: "reward margin" in screen_text(pilot) or "accuracy" in screen_text(pilot))
        table = pilot.app.screen.query_one(RunTable)
        before = table.size.height
        await pilot.press("p")
        await until(pilot, lambda: table.size.height > before + 8)
        await pilot.press("p")
        await until(pilot, lambda: table.size.height == before)


async def test_a_key_held_down_reads_and_diagnoses_one_run_at_a_time(home, monkeypatch):
    """Each row that the cursor passed had a read and a diagnosis of its own waiting for a thread, with its history."""
    for number in range(12):
        ended_run(home, f"20261101-{number:06}-aaaa", f"run-{number}", steps=20)
    open_now, most = dict.fromkeys(("read", "diagnosis"), 0), dict.fromkeys(("read", "diagnosis"), 0)
    lock, go_on = threading.Lock(), threading.Event()

    def counted(kind: str, real):
        def call(*arguments):
            with lock:
                open_now[kind] += 1
                most[kind] = max(most[kind], open_now[kind])
            go_on.wait(30)
            try:
                return real(*arguments)
            finally:
                with lock:
                    open_now[kind] -= 1

        return call

    monkeypatch.setattr(RunFeed, "read", counted("read", RunFeed.read))
    monkeypatch.setattr(ThrottledDiagnosis, "update", counted("diagnosis", ThrottledDiagnosis.update))
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "run-11" in screen_text(pilot) and open_now["read"] == 1)
        for _ in range(11):
            await pilot.press("down")
        go_on.set()
        preview = pilot.app.screen.query_one(RunPreview)
        await until(pilot, lambda: preview.reader.feed.folder.id == "20261101-000000-aaaa")
        await until(pilot, lambda: "loss" in preview.reader.feed.series and preview.diagnosis.advice != ())
        assert most == {"read": 1, "diagnosis": 1}


async def test_runs_that_the_cursor_passes_with_a_key_held_down_are_not_read(home, monkeypatch):
    """Each has its history, and with runs of many steps holding a key down kept two thirds of a core busy."""
    for number in range(6):
        ended_run(home, f"20261101-{number:06}-aaaa", f"run-{number}", steps=20)
    read: list[str] = []
    real = RunFeed.read

    def noted(feed, now):
        read.append(feed.folder.id[9:15])
        return real(feed, now)

    monkeypatch.setattr(RunFeed, "read", noted)
    monkeypatch.setattr(run_preview, "POLL", 100.0)
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        preview = pilot.app.screen.query_one(RunPreview)
        await until(pilot, lambda: preview.reader is not None and "loss" in preview.reader.feed.series)
        assert set(read) == {"000005"}
        monkeypatch.setattr(run_preview, "KEY_REPEAT", 100.0)
        await pilot.press(*["down"] * 4)
        await until(pilot, lambda: preview.reader.feed.folder.id[9:15] == "000001")
        assert set(read) == {"000005"}
        monkeypatch.setattr(run_preview, "KEY_REPEAT", 0.0)
        await pilot.press("down")
        await until(pilot, lambda: "loss" in preview.reader.feed.series)
        assert set(read) == {"000005", "000000"}
