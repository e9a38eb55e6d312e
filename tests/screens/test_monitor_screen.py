"""The monitor's documents: read away from the event loop, and only when their file has changed."""

import json
import threading
import time
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens import monitor_screen
from dpo_tui.views.monitor_text import Paragraph, samples_text
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.dialogs import MessageDialog
from tests.support.fake_run import progress
from tests.support.app import ended_run, screen_text, until


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with one sample."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    folder = ended_run(home, "20261101-101010-aaaa", "demo", steps=20)
    add_sample(folder, 0, "No.")
    return folder


def add_sample(folder: RunFolder, step: int, answer: str) -> None:
    with folder.samples.open("a") as stream:
        stream.write(json.dumps({"step": step, "prompt": "Hi", "answer": answer}) + "\n")


def app(folder: RunFolder) -> DpoTui:
    return DpoTui(RunFeed(folder), settings=UserSettings(theme="dark"))


async def test_keys_are_answered_while_the_samples_are_being_read(run, monkeypatch):
    """The file may be long, or lie on a slow network disk."""
    answered, in_time = threading.Event(), []

    def slow_samples_text(path: Path) -> list[Paragraph]:
        in_time.append(answered.wait(10))
        return samples_text(path)

    monkeypatch.setattr(monitor_screen, "samples_text", slow_samples_text)
    async with app(run).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss" in screen_text(pilot))
        await pilot.press("t", "t")
        await until(pilot, lambda: "Nothing has happened yet" in screen_text(pilot))
        answered.set()
        await pilot.press("T")
        await until(pilot, lambda: "before training" in screen_text(pilot))
    assert set(in_time) == {True}


async def test_samples_are_read_again_only_when_there_are_more(run, monkeypatch):
    """Redraws come twice a second for as long as the run trains."""
    reads: list[threading.Thread] = []

    def counted_samples_text(path: Path) -> list[Paragraph]:
        reads.append(threading.current_thread())
        return samples_text(path)

    monkeypatch.setattr(monitor_screen, "samples_text", counted_samples_text)
    async with app(run).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss" in screen_text(pilot))
        await pilot.press("t")
        await until(pilot, lambda: "before training" in screen_text(pilot))
        for last in (25, 30):
            progress(run, last, 30)
            await until(pilot, lambda last=last: f"step {last}/30" in screen_text(pilot))
        assert len(reads) == 1
        add_sample(run, 30, "Yes!")
        progress(run, 35, 35)
        await until(pilot, lambda: "Yes!" in screen_text(pilot))
        assert len(reads) == 2
    assert threading.main_thread() not in reads


async def test_samples_that_were_read_behind_a_dialog_appear_when_it_is_closed(run, monkeypatch):
    """Nothing is drawn behind a dialog, and nothing is lost by that."""
    opened, read = threading.Event(), threading.Event()

    def late_samples_text(path: Path) -> list[Paragraph]:
        opened.wait(10)
        read.set()
        return samples_text(path)

    monkeypatch.setattr(monitor_screen, "samples_text", late_samples_text)
    async with app(run).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss" in screen_text(pilot))
        await pilot.press("t", "question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        opened.set()
        await until(pilot, read.is_set)
        await pilot.press("escape")
        await until(pilot, lambda: "before training" in screen_text(pilot))


async def test_how_long_ago_a_run_ended_goes_on_being_true(run, monkeypatch):
    """Nothing new is read of a run that has ended, and yet its age changes."""
    monkeypatch.setattr(monitor_screen, "AGE_SECONDS", 0.1)
    async with app(run).run_test(size=(100, 24)) as pilot:
        await until(pilot, lambda: "0 s ago" in screen_text(pilot) or "1 s ago" in screen_text(pilot))
        later = time.time() + 600
        monkeypatch.setattr("dpo_tui.views.monitor_text.time.time", lambda: later)
        await until(pilot, lambda: "10 min ago" in screen_text(pilot))
