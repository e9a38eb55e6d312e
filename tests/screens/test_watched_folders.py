"""Folders of other trainers in the monitor."""

import json
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.open_feed import open_feed
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.chart_grid import MetricChartGrid
from tests.support.app import screen_text, until
from tests.support.fake_run import begin, progress


@pytest.fixture(autouse=True)
def terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def app(feed: Feed) -> DpoTui:
    return DpoTui(feed, settings=UserSettings(theme="dark"))


def log_lines(*steps: int) -> str:
    return "".join(
        json.dumps({"current_steps": step, "total_steps": 80, "loss": 2.5 - step / 50, "lr": 1e-5, "epoch": step / 40})
        + "\n"
        for step in steps
    )


async def test_llama_factorys_sft_shows_its_charts_and_progress_and_no_empty_ones(tmp_path):
    folder = tmp_path / "saves"
    folder.mkdir()
    (folder / "trainer_log.jsonl").write_text(log_lines(10))
    async with app(open_feed(folder)).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "step 10/80" in screen_text(pilot))
        with (folder / "trainer_log.jsonl").open("a") as stream:
            stream.write(log_lines(20, 30))
        await until(pilot, lambda: "step 30/80" in screen_text(pilot))
        text = screen_text(pilot)
        assert "learning rate" in text
        assert "no values yet" not in text
        assert "KL (estimate)" not in text


async def test_a_torn_state_is_said_on_the_screen(tmp_path):
    checkpoint = tmp_path / "out" / "checkpoint-20"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 20, "log_hi')
    async with app(open_feed(tmp_path / "out")).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "trainer_state.json is torn" in screen_text(pilot))
        assert "worker" not in screen_text(pilot)


async def test_charts_that_stay_empty_go_once_a_run_of_another_kind_logs(home):
    """A run that has logged nothing shows those of preference pairs; an enlarged or focused one may be among them."""
    folder = RunFolder(home / "runs" / "20261101-101010-aaaa")
    begin(folder, "sft")
    async with app(RunFeed(folder)).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "KL (estimate)" in screen_text(pilot))
        grid = pilot.app.screen.query_one(MetricChartGrid)
        grid.charts[2].focus()
        await pilot.press("enter")
        await until(pilot, lambda: grid.enlarged is not None)
        line = {"t": 1.0, "step": 1, "loss": 2.5, "grad_norm": 1.0, "learning_rate": 1e-5, "mean_token_accuracy": 0.5}
        folder.metrics.write_text(json.dumps(line) + "\n")
        progress(folder, 1, 10)
        await until(pilot, lambda: "token accuracy" in screen_text(pilot))
        titles = [chart.plot_style.title for chart in grid.charts]
        assert titles == ["loss", "token accuracy", "learning rate", "gradient norm"]
        await until(pilot, lambda: [child for child in grid.children if child.display] == grid.charts)
        await until(pilot, lambda: pilot.app.focused in grid.charts)
        await until(pilot, lambda: "no values yet" not in screen_text(pilot))
