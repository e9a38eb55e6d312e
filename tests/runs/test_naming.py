"""A run gets another name: by command, in the app, while it runs; every reader knows it by that name from then on."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.widgets import Input

from dpo_tui.app import DpoTui
from dpo_tui.cli import cli
from dpo_tui.errors import RunError, RunNotFoundError, UsageError
from dpo_tui.runs import naming, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state, write_state
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import ended_run, screen_text, until


@pytest.fixture(autouse=True)
def _here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def command(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_renamed_run_goes_by_its_new_name_everywhere_and_by_the_old_one_nowhere(home: Path) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "first try")
    before = folder.state.read_bytes()
    command("rename", "first try", "  the good\n one ")
    assert store.find("the good one") == folder
    with pytest.raises(RunNotFoundError):
        store.find("first try")
    assert json.loads(command("status", "last", "--json"))["name"] == "the good one"
    assert "the good one" in command("runs")
    assert folder.state.read_bytes() == before, "state.json has one writer, and it is not this command"
    assert (folder.path / "name").read_text() == "the good one\n"


def test_the_name_stays_when_the_supervisor_goes_on_writing(home: Path) -> None:
    """docs/runs.md: the supervisor knows the old name, and its file is replaced again and again."""
    folder = store.create("", name="first try", devices=[])
    theirs = read_state(folder)
    assert theirs is not None
    naming.rename(folder, "better")
    write_state(folder, theirs)
    assert store.summary(folder)["name"] == "better"


@pytest.mark.parametrize("name", ["", " \n ", "last", "x" * 65])
def test_a_name_that_cannot_work_is_refused(home: Path, name: str) -> None:
    folder = store.create("", name="run", devices=[])
    with pytest.raises(UsageError):
        naming.rename(folder, name)
    assert store.summary(folder)["name"] == "run"


def test_a_run_that_is_gone_is_not_made_again(home: Path) -> None:
    folder = RunFolder(home / "runs" / "20261101-101010-aaaa")
    with pytest.raises(RunError, match="gone"):
        naming.rename(folder, "x")
    assert not folder.path.exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe broken", b"y" * 100_000])
def test_whatever_stands_in_the_file_a_run_has_a_name(home: Path, content: bytes) -> None:
    folder = store.create("", name="run", devices=[])
    (folder.path / "name").write_bytes(content)
    name = store.summary(folder)["name"]
    assert 0 < len(name) <= naming.LONGEST
    os.unlink(folder.path / "name")
    (folder.path / "name").mkdir()
    assert store.summary(folder)["name"] == "run"


async def test_a_run_is_renamed_in_the_list_and_in_the_monitor(home: Path) -> None:
    """Runs, rename; brackets in names are no markup."""
    ended_run(home, "20261101-101010-aaaa", "first try")
    app = DpoTui(settings=UserSettings(theme="dark"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(app.screen.query_one(RunTable).runs))
        titles = {found.title for found in app.get_system_commands(app.screen)}
        assert "Rename" in titles, "the palette offers it"
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert app.focused.value == "first try"  # type: ignore[union-attr]
        await pilot.press("home", *"[b]", "enter")
        table = app.screen.query_one(RunTable)
        await until(pilot, lambda: table.runs[0].name == "[b]first try")
        await until(pilot, lambda: screen_text(pilot).count("[b]first try") >= 2)  # the row, and the preview
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press("end", *" 2", "enter")
        await until(pilot, lambda: "[b]first try 2" in screen_text(pilot).splitlines()[0])


def test_runs_of_one_name_are_numbered() -> None:
    assert naming.numbered("tone", {"helpful"}) == "tone"
    assert naming.numbered("tone", {"tone"}) == "tone-2"
    assert naming.numbered("tone", {"tone", "tone-2", "tone-4"}) == "tone-3"
    longest = "x" * naming.LONGEST
    assert naming.numbered(longest, {longest}) == "x" * (naming.LONGEST - 2) + "-2"
