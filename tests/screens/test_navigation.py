"""Data, Compare, Settings, notices and the command palette, by keyboard."""

import json
import stat
import threading
import time
import tomllib
from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from dpo_tui.app import DpoTui
from dpo_tui.runs import store as run_store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.compare_screen import CompareScreen
from dpo_tui.screens.data_screen import DataScreen
from dpo_tui.screens.guide_screen import GuideScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.screens.settings_screen import SettingsScreen
from dpo_tui.views import user_settings as store
from dpo_tui.views.comparison_table import setting_rows, table
from dpo_tui.views.dataset_browser import DatasetBrowser
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.dialogs import ConfirmDialog
from dpo_tui.widgets.pair_view import PairContent, PairView, wrap_pieces
from dpo_tui.widgets.repair_dialog import RepairDialog
from dpo_tui.widgets.run_table import RunTable
from dpo_tui.widgets.text_pane import TextPane
from tests.support.repository import ROOT
from tests.support.app import ended_run, screen_text, until

ROWS = [
    {"prompt": "What is 2+2?", "chosen": "The answer is 4.", "rejected": "2+2 equals 4."},
    {
        "prompt": "Write a polite decline",
        "chosen": "Thank you for asking; sadly I cannot come.",
        "rejected": "No thanks.",
    },
    {"prompt": "Broken [b]", "chosen": "only chosen"},
    {"prompt": "Zebra", "chosen": "A striped horse of the savanna.", "rejected": "An animal."},
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a scan is a process of its own
    monkeypatch.chdir(tmp_path)
    return tmp_path


def app(**settings) -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark", **settings))


async def open_pairs(pilot, home: Path) -> DataScreen:
    path = home / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    await pilot.press("3")
    await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
    screen = pilot.app.screen
    screen.open_data(str(path))
    await until(pilot, lambda: screen.dataset is not None, 60)
    await until(pilot, lambda: "usable" in screen_text(pilot))
    await pilot.press("t")
    await until(pilot, lambda: "What is 2+2?" in screen_text(pilot))
    return screen


async def test_data_is_recognised_and_its_pairs_are_paged_flipped_dropped_edited_and_saved(home):
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_pairs(pilot, home)
        assert "pair 1 of 4" in screen_text(pilot)
        await pilot.press("n")
        await until(pilot, lambda: "polite decline" in screen_text(pilot))
        await pilot.press("f")
        await until(pilot, lambda: "flipped" in screen_text(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "pair 3 of 4" in screen_text(pilot))
        assert "rejected" in screen_text(pilot)
        await pilot.press("d")
        await until(pilot, lambda: "dropped" in screen_text(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "Zebra" in screen_text(pilot))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.focused, TextArea))
        pilot.app.focused.text = "A zebra is a striped horse."
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "edited" in screen_text(pilot))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RepairDialog))
        await pilot.press("enter")
        out = home / "pairs.repaired.jsonl"
        await until(pilot, out.exists)
        written = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["prompt"] for row in written] == ["What is 2+2?", "Write a polite decline", "Zebra"]
        assert written[1]["chosen"] == "No thanks."
        assert written[2]["chosen"] == "A zebra is a striped horse."
        assert screen.is_front


def slow_rows(monkeypatch, **seconds: float) -> dict[int, threading.Event]:
    """Make some rows slow to read, as on a network disk; an event for each tells that it was read."""
    at, read = DatasetBrowser.at, {row: threading.Event() for row in range(1, len(ROWS) + 1)}

    def slow(self, row, decisions):
        time.sleep(seconds.get(f"row_{row}", 0.0))
        try:
            return at(self, row, decisions)
        finally:
            read[row].set()

    monkeypatch.setattr(DatasetBrowser, "at", slow)
    return read


async def test_a_key_pressed_while_the_next_pair_is_being_read_decides_about_neither(home, monkeypatch):
    async with app().run_test(size=(100, 30), notifications=True) as pilot:
        await open_pairs(pilot, home)
        slow_rows(monkeypatch, row_2=0.4)
        await pilot.press("n", "d")
        await until(pilot, lambda: "pair 2 of 4" in screen_text(pilot))
        assert "press the key again" in screen_text(pilot)
        assert "dropped" not in screen_text(pilot)
        await pilot.press("d")
        await until(pilot, lambda: "dropped" in screen_text(pilot))
        assert "pair 2 of 4" in screen_text(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "pair 1 of 4" in screen_text(pilot))
        assert "dropped" not in screen_text(pilot).splitlines()[0]


async def test_keys_in_quick_succession_add_up_and_a_slow_pair_does_not_come_back_over_a_later_one(home, monkeypatch):
    async with app().run_test(size=(100, 30)) as pilot:
        await open_pairs(pilot, home)
        read = slow_rows(monkeypatch, row_2=0.5)
        await pilot.press("n", "n", "n")
        await until(pilot, lambda: "pair 4 of 4" in screen_text(pilot))
        await until(pilot, read[2].is_set)
        await pilot.pause(0.2)
        assert "pair 4 of 4" in screen_text(pilot)
        await pilot.press("f", "d")
        await until(pilot, lambda: "dropped, flipped" in screen_text(pilot))
        assert "pair 4 of 4" in screen_text(pilot)


async def test_answers_are_edited_only_as_they_are_shown(home, monkeypatch):
    """A flip that is not shown yet would put the edited texts on the wrong sides."""
    async with app().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await open_pairs(pilot, home)
        slow_rows(monkeypatch, row_1=0.4)
        await pilot.press("f", "e")
        await until(pilot, lambda: "press the key again" in screen_text(pilot))
        assert pilot.app.screen is screen
        await until(pilot, lambda: "flipped" in screen_text(pilot))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.focused, TextArea))
        assert pilot.app.focused.text == "2+2 equals 4."


async def test_settings_opened_over_a_screen_go_back_to_it_as_it_was(home):
    run = ended_run(home / "home", "20261101-101010-aaaa", "demo")
    async with DpoTui(RunFeed(run), settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        monitor = pilot.app.screen
        assert isinstance(monitor, MonitorScreen)
        await until(pilot, lambda: "reward margin" in screen_text(pilot))
        for _ in range(2):
            await pilot.press("comma")
            await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(pilot.app.screen, SettingsScreen))
            assert pilot.app.screen is monitor
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("3", "comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_the_app_answers_while_a_run_is_being_deleted(home, monkeypatch):
    run = ended_run(home / "home", "20261101-101010-aaaa", "demo")
    answered, in_time = threading.Event(), []
    remove = run_store.remove

    def slow_remove(folder: RunFolder) -> None:
        in_time.append(answered.wait(10))
        remove(folder)

    monkeypatch.setattr(run_store, "remove", slow_remove)
    async with app().run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query_one(RunTable).runs) == 1)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await pilot.press("y")
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, GuideScreen))
        answered.set()
        await until(pilot, lambda: not run.path.exists())
        await until(pilot, lambda: "demo is deleted" in screen_text(pilot))
    assert in_time == [True]


async def test_pairs_are_found_by_words_and_by_check(home):
    """The check names the pair that is too similar."""
    async with app().run_test(size=(100, 30)) as pilot:
        await open_pairs(pilot, home)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"savanna", "enter")
        await until(pilot, lambda: "pair 4 of 4" in screen_text(pilot))
        await pilot.press("c")
        await until(pilot, lambda: "Which pairs?" in screen_text(pilot))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "only " in screen_text(pilot).splitlines()[0])


async def test_data_that_cannot_be_read_says_why(home):
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
        (home / "x.jsonl").write_text("")
        pilot.app.screen.open_data(str(home / "x.jsonl"))
        await until(pilot, lambda: "hold one pair a line" in screen_text(pilot), 60)


async def test_a_pair_stands_side_by_side_where_there_is_room_and_stacked_where_not(home):
    from tests.support.widget_stage import Stage, shown

    pair = PairContent(
        "Why [b]?", (("Because it ", False), ("rains", True)), (("Because it ", False), ("snows", True)), 3, 3
    )
    view = PairView()
    async with Stage(view).run_test(size=(100, 12)) as pilot:
        view.show(pair)
        await pilot.pause()
        lines = [line.rstrip() for line in shown(view)]
        assert lines[0] == "Why [b]?"
        assert any("Because it rains" in line and "Because it snows" in line for line in lines)
        await pilot.resize_terminal(50, 12)
        await pilot.pause()
        lines = [line.rstrip() for line in shown(view)]
        assert not any("rains" in line and "snows" in line for line in lines)
        assert {"Because it rains", "Because it snows"} <= set(lines)


def test_wrapped_pieces_lose_no_text_and_keep_to_the_width():
    pieces = [("A long 日本語 sentence with ", "same"), ("unbreakable" * 9, "chosen"), ("\nand a second line", "same")]
    rows = wrap_pieces(pieces, 20)
    text = "".join(part for row in rows for part, _ in row)
    assert text.replace(" ", "") == "".join(piece for piece, _ in pieces).replace(" ", "").replace("\n", "")
    from dpo_tui.views.styled_text import row_width

    assert max(map(row_width, rows)) <= 21  # a space may hang over


async def test_chosen_runs_are_compared_in_charts_settings_and_results(home):
    runs = home / "home"
    one = ended_run(runs, "20261101-101010-aaaa", "first")
    ended_run(runs, "20261101-101011-aaaa", "second")
    one.config.write_text(one.config.read_text().replace("5e-7", "1e-6"))
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query_one(RunTable).runs) == 2)
        await pilot.press("v")
        assert isinstance(pilot.app.screen, RunsScreen), "one needs two"
        await pilot.press("space", "down", "space", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await until(pilot, lambda: "loss" in screen_text(pilot) and "━━ first" in screen_text(pilot))
        await pilot.press("t")
        await until(pilot, lambda: "learning_rate" in screen_text(pilot))
        assert "1e-6" in screen_text(pilot)
        assert "model_name" not in screen_text(pilot)
        await pilot.press("t")
        await until(pilot, lambda: "rewards/accuracies" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_the_comparison_names_the_best_and_what_is_chance_as_the_command_does(home):
    runs = home / "home"
    folders = [ended_run(runs, f"20261101-10101{n}-aaaa", name) for n, name in enumerate(("slow", "fast"))]
    folders[0].config.write_text(folders[0].config.read_text().replace("5e-7", "1e-6"))
    for folder, accuracy in zip(folders, (0.70, 0.76), strict=True):
        folder.receipt.write_text(json.dumps({"data": {"sha256": "x", "held_out": 50}}))
        with folder.metrics.open("a") as stream:
            stream.write(json.dumps({"t": 2.0, "step": 401, "eval_rewards/accuracies": accuracy}) + "\n")
    async with app().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query_one(RunTable).runs) == 2)
        await pilot.press("space", "down", "space", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await pilot.press("t")
        await until(pilot, lambda: "held-out accuracy" in screen_text(pilot))
        text = screen_text(pilot)
        assert text.index("learning_rate") < text.index("held-out accuracy")
        (row,) = [line for line in text.splitlines() if "held-out accuracy" in line]
        assert "0.76 *" in row
        assert "0.7 *" not in row
        assert "* best of its row" in text
        assert "are the same within chance" in " ".join(text.split())


def test_only_settings_that_differ_are_listed_and_long_values_keep_their_end():
    rows = setting_rows({"b": [2, 3], "c": [None, True]})
    assert rows == [("b", ["2", "3"]), ("c", ["—", "yes"])]
    lines = table(["one", "two"], [("path", ["/a/very/long/path/to/data.jsonl", "x"])], 40)
    assert lines[1].split()[1].endswith("data.jsonl")
    assert all(len(line) <= 44 for line in lines)


async def test_settings_change_the_theme_at_once_and_are_kept(home):
    async with DpoTui(settings=UserSettings()).run_test(size=(80, 24)) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("right")
        await until(pilot, lambda: pilot.app.settings.theme is not None)
        assert pilot.app.theme == pilot.app.settings.theme
        kept = tomllib.loads((home / "home" / "settings.toml").read_text())
        assert kept["theme"] == pilot.app.settings.theme
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_a_settings_file_that_cannot_be_read_is_not_overwritten_by_a_change(home):
    path = home / "home" / "settings.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text('theme = "dark"\nbell = yes\n')
    async with DpoTui(settings=store.load(path)).run_test(size=(100, 30), notifications=True) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("right")
        await until(pilot, lambda: "It is left as it is" in screen_text(pilot))
        assert path.read_text() == 'theme = "dark"\nbell = yes\n'


async def test_a_webhook_to_which_nothing_would_be_sent_is_not_taken(home):
    async with DpoTui(settings=UserSettings()).run_test(size=(100, 40), notifications=True) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        screen = pilot.app.screen
        assert isinstance(screen, SettingsScreen)
        screen._set_webhook("http://hooks.example.com/abc")
        await until(pilot, lambda: "The webhook is not changed" in screen_text(pilot))
        assert pilot.app.settings.webhook is None
        screen._set_webhook("https://hooks.example.com/abc")
        await until(pilot, lambda: pilot.app.settings.webhook == "https://hooks.example.com/abc")


@pytest.mark.parametrize("pasted", ["hf_secret’", "hf_sec ret", "hf_\u200bsecret"])
async def test_a_pasted_text_that_is_no_token_leaves_the_old_token(home, pasted):
    token = home / "hf" / "token"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("hf_old")
    async with app().run_test(size=(100, 30), notifications=True) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("end", *["down"] * 6, "enter")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        pilot.app.focused.value = pasted
        await pilot.press("enter")
        await until(pilot, lambda: "This is no token" in screen_text(pilot))
    assert [path.name for path in token.parent.iterdir() if "token" in path.name] == ["token"]
    assert token.read_text() == "hf_old"


async def test_the_token_is_written_for_its_owner_only_and_never_shown(home):
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(pilot.app.screen, SettingsScreen))
        await pilot.press("end", *["down"] * 6, "enter")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"hf_secret")
        await pilot.pause()
        assert "hf_secret" not in screen_text(pilot)
        await pilot.press("enter")
        token = home / "hf" / "token"
        await until(pilot, token.exists)
        assert token.read_text() == "hf_secret"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert not any(b"hf_secret" in path.read_bytes() for path in (home / "home").rglob("*") if path.is_file())


async def test_the_command_palette_offers_what_the_keys_do(home):
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        titles = {command.title for command in pilot.app.get_system_commands(pilot.app.screen)}
        assert {"New", "Quit (runs go on)", "Guide", "Data", "Settings"} <= titles


async def test_what_is_shown_can_be_copied_through_the_terminal(home):
    """harlequin#950: copy over SSH (OSC 52)."""
    from tests.support.widget_stage import Stage

    pane = TextPane([("copy [b]me[/b]", "text")])
    async with Stage(pane).run_test(size=(40, 5)) as pilot:
        pane.focus()
        await pilot.press("Y")
        assert pilot.app.clipboard == "copy [b]me[/b]"
