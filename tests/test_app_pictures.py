"""Pictures of the screens (SVG snapshots) at the sizes and themes of DESIGN 7. New ones: pytest --snapshot-update."""

import json
import random
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.live.feed import RunFeed
from dpo_tui.live.preferences import Preferences
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from dpo_tui.screens.guide import GuideScreen
from tests.fake_run import begin, progress, write_history
from tests.test_app import screen_text, until

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
LOOKS = [
    ("80x24", "dark"),
    ("80x24", "light"),
    ("80x24", "ansi-16"),
    ("120x40", "dark"),
    ("120x40", "light"),
    ("120x40", "ansi-16"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Two ended runs whose numbers are always the same, and no GPU whatever the machine has."""
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dpo_tui.live.gpus.GpuWatch.start", lambda self: setattr(self, "absence", "no GPU here"))
    random.seed(7)
    for run_id, name, status, reason in (
        ("20261101-101010-aaaa", "helpful-8b", "done", ""),
        ("20261030-090000-bbbb", "tone-test [b]", "failed", "out of memory at step 41"),
    ):
        folder = RunFolder(tmp_path / "runs" / run_id)
        state = begin(folder, name)
        write_history(folder, 1, 400, 400)
        progress(folder, 400 if status == "done" else 41, 400)
        write_state(folder, State(**{**state.to_dict(), "status": status, "reason": reason}))
    return tmp_path


def app(theme: str, feed=None) -> DpoTui:
    return DpoTui(feed, preferences=Preferences(theme=theme))


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_runs(snap_compare, size, theme):
    async def settled(pilot):
        await until(pilot, lambda: "tone-test" in screen_text(pilot) and "Done. Loss" in screen_text(pilot))
        await until(pilot, lambda: "no GPU here" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_monitor(snap_compare, home, size, theme):
    feed = RunFeed(RunFolder(home / "runs" / "20261101-101010-aaaa"))

    async def settled(pilot):
        await until(pilot, lambda: "Done. Loss" in screen_text(pilot) and "400/400" in screen_text(pilot))
        await until(pilot, lambda: "no GPU here" in screen_text(pilot))
        await until(pilot, lambda: pilot.app.focused is not None)

    assert snap_compare(app(theme, feed), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_guide(snap_compare, size, theme):
    async def settled(pilot):
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, GuideScreen) and "When DPO" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_compare(snap_compare, size, theme):
    async def settled(pilot):
        await until(pilot, lambda: "tone-test" in screen_text(pilot))
        await pilot.press("space", "down", "space", "v")
        await until(pilot, lambda: "━━ helpful-8b" in screen_text(pilot) and "reward margin" in screen_text(pilot))
        await until(pilot, lambda: pilot.app.focused is not None)

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_pairs(snap_compare, home, size, theme):
    rows = [{"prompt": "What is 2+2?", "chosen": "The answer is 4.", "rejected": "2+2 equals 4."}] * 3
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    async def settled(pilot):
        await pilot.press("3")
        await until(pilot, lambda: "pairs.jsonl" in screen_text(pilot))
        pilot.app.screen.open_data("pairs.jsonl")
        await until(pilot, lambda: pilot.app.screen._dataset is not None, 60)
        await pilot.press("t")
        await until(pilot, lambda: "What is 2+2?" in screen_text(pilot) and "too-similar" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)
