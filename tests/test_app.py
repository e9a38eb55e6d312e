"""The app on a screen, by keyboard, over real run folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.guide_screen import GuideScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.chart import LineChart
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.dialogs import ConfirmDialog, MessageDialog
from dpo_tui.widgets.list_dialogs import MultipleChoiceDialog
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import ended_run, screen_text, until
from tests.support.fake_run import write_history

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


def app(feed=None) -> DpoTui:
    return DpoTui(feed, settings=UserSettings(theme="dark"))


def text_of(widget) -> str:
    return "\n".join("".join(s.text for s in widget.render_line(y)) for y in range(widget.size.height))


async def test_a_first_start_without_runs_says_what_to_press_and_enter_leads_to_the_first_run():
    """The first thing that a first-timer presses must be the right thing."""
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert isinstance(pilot.app.screen, RunsScreen)
        assert "enter  a guided start" in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))


async def test_the_home_screen_shows_status_progress_and_the_reason_of_a_failure(home):
    ended_run(home, "20261101-101010-aaaa", "demo")
    ended_run(home, "20261101-101011-aaaa", "tone-test", "failed", reason="out of memory at step 41")
    async with app().run_test(size=(80, 24)) as pilot:
        table = pilot.app.screen.query_one(RunTable)
        await until(pilot, lambda: len(table.runs) == 2)
        await pilot.pause()
        rows = text_of(table).splitlines()
        assert rows[0].split() == ["status", "name", "done", "train", "held-out"]
        assert "✗ failed" in rows[1] and "out of memory at step 41 → r resumes" in rows[1]
        assert "✓ done" in rows[2] and "100 %" in rows[2] and "acc" in rows[2]


async def test_enter_opens_the_monitor_with_loss_accuracy_margin_and_kl_and_escape_goes_back(home):
    ended_run(home, "20261101-101010-aaaa", "demo")
    async with app().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(pilot.app.screen.query_one(RunTable).runs))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen))
        await until(pilot, lambda: len(pilot.app.screen.query_one(ChartGrid).charts) > 4)
        shown = [chart.plot_style.title for chart in pilot.app.screen.query_one(ChartGrid).charts if chart.display]
        assert shown == ["loss", "preference accuracy", "reward margin", "KL (estimate)"]
        text = screen_text(pilot)
        assert "✓ done" in text and "step 120/120" in text
        await until(pilot, lambda: "Done. Loss 0." in screen_text(pilot))
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_a_new_metric_appears_while_the_run_is_watched(home):
    """Metrics stream into live panels."""
    folder = ended_run(home, "20261101-101010-aaaa", "demo", steps=20)
    async with app(RunFeed(folder)).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "loss" in screen_text(pilot))
        grid = pilot.app.screen.query_one(ChartGrid)
        await until(pilot, lambda: any(chart.sources for chart in grid.charts))
        with folder.metrics.open("a") as stream:
            stream.write('{"t": 1, "step": 21, "loss": 0.1234567, "novel/metric": 7}\n')
        await until(pilot, lambda: any(chart.plot_style.title == "novel/metric" for chart in grid.charts))
        await until(pilot, lambda: "0.123" in screen_text(pilot))


async def test_the_views_show_samples_events_log_settings_and_receipt_as_plain_text(home):
    folder = ended_run(home, "20261101-101010-aaaa", "[red]x[/red]")
    folder.train_log.write_text("a line [bold]not bold[/bold] \x1b[31mnot red\n")
    folder.samples.write_text(
        '{"step": 0, "prompt": "Hi [b]", "answer": "No."}\n{"step": 9, "prompt": "Hi [b]", "answer": "Yes!"}\n'
    )
    folder.receipt.write_text('{"torch": "2.13.0"}')
    folder.events.write_text('{"t": 1, "kind": "warning", "message": "12 rows [/] dropped"}\n')
    async with app(RunFeed(folder)).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "[red]x[/red]" in screen_text(pilot))
        for wanted in (
            "before training",
            "12 rows [/] dropped",
            "[bold]not bold[/bold] not red",
            "learning_rate",
            "2.13.0",
        ):
            await pilot.press("t")
            await until(pilot, lambda wanted=wanted: wanted in screen_text(pilot))
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MonitorScreen), "escape goes to the charts first"


async def test_stopping_asks_first_and_writes_the_request(home):
    folder = RunFolder(home / "runs" / "20261101-101010-aaaa")
    process = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "support" / "fake_run.py"),
            str(folder.path),
            "--steps",
            "100000",
            "--seconds",
            "0.2",
        ],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    try:
        async with app(RunFeed(folder)).run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "● training" in screen_text(pilot))
            await pilot.press("c")
            await until(pilot, lambda: "Saved a checkpoint" in folder.events.read_text())
            await pilot.press("s")
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
            await pilot.press("n")
            await pilot.pause()
            assert not (folder.control / "stop").exists()
            await pilot.press("s")
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
            await pilot.press("enter")
            await until(pilot, lambda: "stopped" in screen_text(pilot))
    finally:
        process.kill()
        process.wait()


async def test_other_runs_can_be_drawn_over_the_one_shown(home):
    ended_run(home, "20261101-101010-aaaa", "older")
    folder = ended_run(home, "20261101-101011-aaaa", "newer")
    async with app(RunFeed(folder)).run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: len(pilot.app.run_list.summaries) == 2)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, MultipleChoiceDialog))
        await pilot.press("space", "enter")
        await until(pilot, lambda: "older" in screen_text(pilot))


async def test_focus_stays_where_it_is_when_news_arrive(home):
    """harlequin#506: no focus theft."""
    folder = ended_run(home, "20261101-101010-aaaa", "demo", steps=20)
    async with app(RunFeed(folder)).run_test(size=(80, 24)) as pilot:
        grid = pilot.app.screen.query_one(ChartGrid)
        await until(pilot, lambda: len(grid.charts) > 4)
        grid.charts[2].focus()
        await pilot.pause()
        write_history(folder, 21, 30, 30)
        await until(pilot, lambda: "30" in text_of(grid.charts[2]).splitlines()[-1])
        assert pilot.app.focused is grid.charts[2]


async def test_the_filter_narrows_charts_and_escape_undoes_it(home):
    folder = ended_run(home, "20261101-101010-aaaa", "demo")
    async with app(RunFeed(folder)).run_test(size=(80, 24)) as pilot:
        grid = pilot.app.screen.query_one(ChartGrid)
        await until(pilot, lambda: len(grid.charts) > 4)
        await pilot.press("slash", *"grad", "enter")
        await pilot.pause()
        assert [chart.plot_style.title for chart in grid.charts if chart.display] == ["gradient norm"]
        await pilot.press("escape")
        await pilot.pause()
        assert sum(chart.display for chart in grid.charts) == 4
        assert isinstance(pilot.app.focused, LineChart)


async def test_a_home_that_cannot_be_read_is_told_in_a_dialog(home):
    (home / "runs").write_text("not a folder")
    async with app().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        await until(pilot, lambda: "cannot read the runs" in screen_text(pilot))


async def test_keys_can_be_remapped_in_the_settings(home):
    """posting#95"""
    settings = UserSettings(theme="dark", keys={"app.guide": "f2"})
    async with DpoTui(settings=settings).run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await pilot.pause()
        assert isinstance(pilot.app.screen, RunsScreen)
        await pilot.press("f2")
        await pilot.pause()
        assert isinstance(pilot.app.screen, GuideScreen)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "settings.toml has f2 Guide" in screen_text(pilot)


async def test_the_guide_walks_to_a_method():
    async with app().run_test(size=(100, 30)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, GuideScreen))
        assert "When DPO is the right tool" in screen_text(pilot)
        await pilot.press("w")
        for answer in ("y", "y", "y", "n"):
            await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
            await pilot.press(answer)
            await pilot.pause()
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "DPO" in screen_text(pilot)


async def test_help_explains_the_place_and_the_focused_widget(home):
    folder = ended_run(home, "20261101-101010-aaaa", "demo")
    async with app(RunFeed(folder)).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss" in screen_text(pilot))
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "smoothing" in screen_text(pilot)


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 12), (20, 6), (300, 90)])
async def test_resizing_at_any_moment_breaks_nothing(home, size):
    folder = ended_run(home, "20261101-101010-aaaa", "demo")
    async with app(RunFeed(folder)).run_test(size=(100, 30)) as pilot:
        for _ in range(3):
            await pilot.resize_terminal(*size)
            await pilot.resize_terminal(81, 25)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert len(screen_text(pilot).splitlines()) == size[1]


def test_the_first_paint_imports_nothing_heavy(home):
    """No numpy, pyarrow, torch, transformers, datasets, trl or peft before the first full paint."""
    ended_run(home, "20261101-101010-aaaa", "demo", steps=5)
    program = """
import asyncio, sys
from dpo_tui.app import DpoTui
async def main():
    async with DpoTui().run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.5)
asyncio.run(main())
heavy = {"numpy", "pyarrow", "torch", "transformers", "datasets", "trl", "peft"} & set(sys.modules)
print(sorted(heavy))
"""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm"}])
def test_without_a_terminal_the_app_names_the_command_that_works(home, environment):
    """One line that names `dpo-tui runs`, exit 2."""
    done = subprocess.run(
        [sys.executable, "-c", "from dpo_tui.cli import main; main()"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment, "PYTHONPATH": str(HERE.parent)},
        check=False,
    )
    assert done.returncode == 2
    assert "dpo-tui runs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_keys_that_no_binding_takes_and_keys_of_two_are_named(home):
    keys = {"app.guid": "f2", "app.guide": "q", "chart.log": "ctrl+y"}
    settings = UserSettings(theme="drak", keys=keys)
    async with DpoTui(settings=settings).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: len(pilot.app._notifications) == 3)
        told = [notification.message for notification in pilot.app._notifications]
        assert told[0].endswith("theme: there is no 'drak'; Settings lists all")
        assert told[1] == "keys: there is no binding 'app.guid': did you mean 'app.guide'?"
        assert "q is for 'app.guide' and for 'app.quit'" in told[2]


async def test_the_settings_list_the_bindings_of_every_screen_and_their_keys(home):
    settings = UserSettings(theme="dark", keys={"judge.tie": "f3"})
    async with DpoTui(settings=settings).run_test(size=(100, 200)) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: "judge.tie" in screen_text(pilot))
        rows = {row.split()[-2]: row.split()[-1] for row in screen_text(pilot).splitlines() if len(row.split()) > 1}
        assert rows["judge.tie"] == "f3"
        assert rows["data.drop"] == "d"
        assert rows["monitor.overlay"] == "o"
