"""Two threads, or two screens, that want to read one feed at once: every point arrives once, in order."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from dpo_tui.screens import run_preview
from dpo_tui.screens.compare_screen import CompareScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.feed_reader import FeedReader
from dpo_tui.views.run_feed import FeedChange, RunFeed
from dpo_tui.views.series import Series
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import until
from tests.support.fake_run import begin, progress

LINES = 150_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


def long_run(home: Path, run_id: str, lines: int = LINES) -> RunFolder:
    """An ended run with a history of many chunks."""
    folder = RunFolder(home / "runs" / run_id)
    state = begin(folder, run_id[-4:])
    pad = "x" * 40  # text is no metric, but makes the file as long as a real one of this many lines
    with folder.metrics.open("w") as stream:
        for step in range(1, lines + 1):
            stream.write(f'{{"t": 1.0, "step": {step}, "loss": 0.5, "rewards/accuracies": 0.7, "note": "{pad}"}}\n')
    progress(folder, lines, lines)
    write_state(folder, State(**{**state.to_dict(), "status": "done", "ended_at": time.time()}))
    return folder


def counts(series: Series) -> tuple[int, int]:
    """What a lost or repeated line changes."""
    return series.count, series.rewinds


def test_two_threads_that_poll_one_reader_lose_no_point_and_see_no_rewind(home: Path) -> None:
    reader = FeedReader(RunFeed(long_run(home, "20261101-101010-aaaa")))
    start = Barrier(2)
    failures: list[BaseException] = []

    def poll() -> None:
        start.wait()
        try:
            while reader.feed.catching_up:
                reader.poll(time.time())
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {name: counts(series) for name, series in reader.feed.series.items()} == {
        "loss": (LINES, 0),
        "rewards/accuracies": (LINES, 0),
    }


def test_no_read_begins_before_the_last_one_is_taken_and_a_failed_one_makes_way(home: Path) -> None:
    reader = FeedReader(RunFeed(long_run(home, "20261101-101010-aaaa", 20_000)))
    assert reader.begin(0.0)
    assert not reader.begin(0.0)
    assert not reader.poll(0.0)
    change = reader.read(time.time())
    assert not reader.begin(0.0), "what was read waits to be taken"
    assert reader.feed.series == {}, "reading alone changes nothing that is drawn"
    assert reader.take(change)
    assert reader.feed.series["loss"].count > 0

    broken = FeedReader(Broken(reader.feed.folder))
    assert broken.begin(0.0)
    with pytest.raises(ValueError, match="no run"):
        broken.read(0.0)
    assert broken.begin(0.0)


class Broken(RunFeed):
    """A feed that cannot be read."""

    def read(self, now: float) -> FeedChange:
        raise ValueError("no run")


def test_a_long_history_is_drawn_at_once_then_now_and_then_and_at_its_end(home: Path) -> None:
    reader = FeedReader(RunFeed(long_run(home, "20261101-101010-aaaa", 60_000)), pause=1e9)
    drawn = list(polls(reader))
    assert len(drawn) > 4
    assert drawn == [True, *[False] * (len(drawn) - 2), True]


def polls(reader: FeedReader[RunFeed]) -> Iterator[bool]:
    while reader.feed.catching_up:
        yield reader.poll(time.time())


def test_another_log_in_place_of_the_old_one_replaces_the_series(home: Path) -> None:
    folder = long_run(home, "20261101-101010-aaaa", 100)
    feed = RunFeed(folder)
    feed.poll(time.time())
    drawn_before = feed.series
    folder.metrics.write_text(json.dumps({"step": 1, "loss": 0.1}) + "\n")
    feed.poll(time.time() + 10)
    assert counts(feed.series["loss"]) == (1, 0)
    assert set(feed.latest) == {"loss"}
    assert counts(drawn_before["loss"]) == (100, 0), "a thread that still walks through them is not disturbed"


async def test_runs_laid_over_a_run_whose_history_is_being_read_leave_it_whole(home: Path) -> None:
    feed = RunFeed(long_run(home, "20261101-101010-aaaa"))
    other = long_run(home, "20261101-101011-bbbb", 40_000)
    async with DpoTui(feed, settings=UserSettings(theme="dark")).run_test(size=(100, 30)) as pilot:
        screen = pilot.app.screen
        assert isinstance(screen, MonitorScreen)
        while feed.catching_up:
            screen.overlay([other])
            await asyncio.sleep(0.01)
            screen.overlay([])
            await asyncio.sleep(0.01)
        screen.overlay([other])
        chart = screen.query_one(ChartGrid).charts[0]
        await until(pilot, lambda: len(chart.sources) == 2 and chart.sources[1].count == 40_000, 60)
        assert counts(feed.series["loss"]) == (LINES, 0)
        assert counts(feed.series["rewards/accuracies"]) == (LINES, 0)
        assert [counts(series) for series in chart.sources] == [(LINES, 0), (40_000, 0)]


async def test_moving_the_cursor_while_histories_are_being_read_leaves_them_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_preview, "POLL", 0.02)  # many looks for news while a history is being read
    long_run(home, "20261101-101010-aaaa")
    long_run(home, "20261101-101011-bbbb", 60_000)  # under the cursor first, and read before the other one is
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 30)) as pilot:
        screen = pilot.app.screen
        await until(pilot, lambda: len(screen.query_one(RunTable).runs) == 2)
        await pilot.press("j")
        chart = screen.query_one(ChartGrid).charts[0]
        await until(pilot, lambda: bool(chart.sources) and chart.sources[0].last_step == LINES, 60)
        assert counts(chart.sources[0]) == (LINES, 0)


async def test_compared_runs_are_read_whole_and_drawn_after_another_screen_was_in_front(home: Path) -> None:
    folders = [long_run(home, f"20261101-10101{index}-aaaa", 30_000) for index in range(3)]
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 30)) as pilot:
        screen = CompareScreen(folders)
        pilot.app.add_mode("compared", lambda: screen)
        await pilot.app.switch_mode("compared")
        await pilot.press("1", "5")
        await asyncio.sleep(0.5)
        await pilot.app.switch_mode("compared")
        await until(pilot, lambda: bool(screen.query_one(ChartGrid).charts))
        chart = screen.query_one(ChartGrid).charts[0]
        await until(pilot, lambda: [counts(series) for series in chart.sources] == [(30_000, 0)] * 3, 60)
