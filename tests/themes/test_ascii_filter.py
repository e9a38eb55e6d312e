"""ASCII mode: no glyph of ours beyond ASCII on any screen, and other people's letters only where they can be shown."""

import json
import os
from pathlib import Path

import pytest
from textual.widgets import Input

from dpo_tui.app import DpoTui
from dpo_tui.screens.compare_screen import CompareScreen
from dpo_tui.screens.data_screen import DataScreen
from dpo_tui.screens.guide_screen import GuideScreen
from dpo_tui.screens.monitor_screen import VIEWS, MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.screens.settings_screen import SettingsScreen
from dpo_tui.themes.glyphs import TWINS, in_ascii
from dpo_tui.themes.terminal_choice import charset
from dpo_tui.views.status_labels import STATUS_LABELS
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.chart_grid import ChartGrid
from dpo_tui.widgets.dialogs import ConfirmDialog, MessageDialog
from dpo_tui.widgets.list_dialogs import MultipleChoiceDialog
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import ended_run, screen_text, until
from tests.support.repository import ROOT
from tests.support.terminal import NOISE, Terminal

FOREIGN = "caf\u00e9 \u65e5\u672c \U0001f642 \u2500\u2713"
"""Letters with an accent, wide letters, an emoji, and glyphs such as ours."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in [name for name in os.environ if name.startswith(("LC_", "LANG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "C")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def two_runs(home: Path) -> None:
    for number, status in enumerate(("done", "failed")):
        folder = ended_run(home / "home", f"2026110{number + 1}-101010-aaaa", f"{FOREIGN} {number}", status)
        folder.samples.write_text(json.dumps({"step": 0, "prompt": FOREIGN, "answer": FOREIGN}) + "\n")
        folder.events.write_text(json.dumps({"t": 1, "kind": "warning", "message": FOREIGN}) + "\n")
        folder.train_log.write_text(f"{FOREIGN}\n")


async def is_ascii(pilot, *, after: str) -> None:
    """Let the screen settle; then every cell of it is ASCII."""
    await pilot.pause(0.1)
    beyond = {sign for sign in screen_text(pilot) if not sign.isascii()}
    assert not beyond, f"{after}: {beyond}\n{screen_text(pilot)}"


async def test_runs_monitor_and_compare_are_drawn_in_ascii_with_their_dialogs(home):
    """LANG=C."""
    two_runs(home)
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 34)) as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query_one(RunTable).runs) == 2)
        await until(pilot, lambda: "failed" in screen_text(pilot))
        await is_ascii(pilot, after="runs")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        await is_ascii(pilot, after="help")
        await pilot.press("escape", "space", "down", "space", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await until(pilot, lambda: "loss" in screen_text(pilot))
        for view in ("charts", "settings", "results"):
            await is_ascii(pilot, after=f"compare {view}")
            await pilot.press("t")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen))
        await until(pilot, lambda: len(pilot.app.screen.query_one(ChartGrid).charts) > 4)
        for view in VIEWS:
            await is_ascii(pilot, after=f"monitor {view}")
            await pilot.press("t")
        for keys, what in (("enter", "an enlarged chart"), ("left", "a value cursor"), ("slash", "the filter")):
            await pilot.press(keys)
            await is_ascii(pilot, after=what)
        await pilot.press("escape", "escape", "o")
        await until(pilot, lambda: isinstance(pilot.app.screen, MultipleChoiceDialog))
        await is_ascii(pilot, after="picking runs to overlay")
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        await is_ascii(pilot, after="help in the monitor")
        pilot.app.notify(FOREIGN)
        await is_ascii(pilot, after="a notice")


async def test_new_is_drawn_in_ascii_in_all_its_steps(home):
    rows = [{"prompt": FOREIGN, "chosen": f"{FOREIGN} {n}", "rejected": "no"} for n in range(20)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 34)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and pilot.app.screen.plan.profile != "")
        screen = pilot.app.screen
        await is_ascii(pilot, after="hardware")
        for step, keys in enumerate((["enter"], ["down", "enter"], ["down", "down", "enter"], ["ctrl+n"])):
            await pilot.press(*keys)
            await until(pilot, lambda step=step: screen.step == step + 1)
            await pilot.pause(0.3)
            await is_ascii(pilot, after=f"step {step + 2}")
        await until(pilot, lambda: "Reading the data" not in screen_text(pilot), 60)
        await is_ascii(pilot, after="the check")
        await pilot.press("ctrl+b", "a", "end", "enter")
        await is_ascii(pilot, after="a setting being typed")
        await pilot.press("escape", "question_mark")
        await is_ascii(pilot, after="help in New")


async def test_data_guide_settings_and_palette_are_drawn_in_ascii(home):
    rows = [{"prompt": f"{FOREIGN} {n}", "chosen": f"{FOREIGN} yes", "rejected": "no"} for n in range(4)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 34)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
        await is_ascii(pilot, after="choosing data")
        pilot.app.screen.open_data("pairs.jsonl")
        await until(pilot, lambda: pilot.app.screen.dataset is not None, 60)
        await is_ascii(pilot, after="the verdict")
        await pilot.press("t")
        await until(pilot, lambda: "pair 1 of 4" in screen_text(pilot))
        await is_ascii(pilot, after="a pair")
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, GuideScreen))
        for page in range(8):
            await is_ascii(pilot, after=f"page {page} of the guide")
            await pilot.press("down")
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await is_ascii(pilot, after="a question")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        await pilot.press("escape", "comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        for row in range(8):
            await is_ascii(pilot, after=f"row {row} of the settings")
            await pilot.press("down")
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await is_ascii(pilot, after="the command palette")


async def test_asked_for_in_the_settings_it_holds_at_once_and_keeps_letters_that_the_terminal_has(home, monkeypatch):
    monkeypatch.setenv("LANG", "C.UTF-8")
    two_runs(home)
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(100, 34)) as pilot:
        await until(pilot, lambda: "\u2717 failed" in screen_text(pilot))
        pilot.app.ascii_only = True
        # The table clips the name; the preview below it, which is drawn later, has the whole.
        await until(pilot, lambda: "caf\u00e9 \u65e5\u672c ?? -+" in screen_text(pilot))
        text = screen_text(pilot)
        assert "x failed" in text
        assert not any(sign in TWINS for sign in text if not sign.isascii())
        pilot.app.ascii_only = False
        await until(pilot, lambda: "\u2717 failed" in screen_text(pilot))


def test_without_utf8_no_byte_beyond_ascii_is_sent_by_any_step_of_new(tmp_path):
    """LANG=C, in a real terminal, with the last words on the way out."""
    terminal = Terminal([], tmp_path / "home", (80, 24), {"LANG": "C"})
    try:
        assert terminal.read(30, lambda: terminal.shows("help"))
        terminal.press("n")
        assert terminal.read(30, lambda: terminal.shows("suits this machine"))
        for keys, words in (("\r", "toy model"), ("\x0e", "completes"), ("\x0e", "effective batch"), ("?", "close")):
            terminal.press(keys)
            assert terminal.read(30, lambda words=words: terminal.shows(words)), words
        terminal.press("\x1b")
        terminal.read(0.5)
        terminal.press("q")
        assert terminal.wait(20) == 0
    finally:
        terminal.close()
    sent = NOISE.sub(b"", terminal.text)
    assert sent.isascii(), set(sent.decode("utf-8", "replace")) - set(map(chr, range(128)))


@pytest.mark.parametrize(
    ("text", "charset", "drawn"),
    [
        ("\u2713 fits \u2192 9 \u00b0C \u2026", "ascii", "+ fits > 9 oC ~"),
        ("\u2581\u2588 \u28ff\u28c0", "ascii", "_@ |."),
        ("caf\u00e9", "ascii", "caf?"),
        ("caf\u00e9", "iso8859-1", "caf\u00e9"),
        ("\u65e5", "ascii", "??"),
        ("\u65e5", "utf-8", "\u65e5"),
        ("\U0001f642", "utf-8", "??"),
        ("e\u0301", "ascii", "e"),
        ("\u2603", "utf-8", "?"),
    ],
)
def test_a_glyph_becomes_its_twin_and_a_letter_stays_where_it_can(text, charset, drawn):
    assert in_ascii(text, charset) == drawn


def test_the_linux_console_gets_the_lines_and_blocks_of_its_font_and_no_braille():
    assert in_ascii("┌─┐╭━╮█⣀✓…é日", "cp437", console=True) == "┌─┐┌─┐█.+~é??"
    assert charset({"TERM": "linux", "LANG": "en_US.UTF-8"}, "utf-8") == "cp437"
    assert charset({"TERM": "linux", "LANG": "C"}, "utf-8") == "ascii"


def test_every_twin_is_one_ascii_cell_and_every_state_has_one():
    assert all(len(twin) == 1 and twin.isascii() for twin in TWINS.values())
    assert {status.glyph for status in STATUS_LABELS.values()} <= TWINS.keys()


@pytest.mark.parametrize(
    ("environment", "written", "expected"),
    [
        ({}, "utf-8", "utf-8"), ({"LANG": "C"}, "utf-8", "ascii"), ({"LANG": "de_DE.UTF-8"}, "utf-8", "utf-8"),
        ({"LANG": "de_DE.ISO-8859-1"}, "iso-8859-1", "iso8859-1"), ({"LANG": "de_DE.ISO-8859-1"}, "utf-8", "ascii"),
        ({"LANG": "de_DE@euro"}, "utf-8", "ascii"), ({"LANG": "C", "LC_ALL": "en_US.utf8"}, "utf-8", "utf-8"),
    ],
)  # fmt: skip
def test_the_terminals_character_set_is_read_from_the_locale(environment, written, expected):
    assert charset(environment, written) == expected
