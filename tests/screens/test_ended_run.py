"""What the monitor offers once a run is over, at 80×24: the row, the keys, the palette, and an export."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.errors import RunError, UsageError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.slurm_job import out_of_memory_text
from dpo_tui.runs.start_run import Resumed
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.views.export_job import ExportRequest, check_export
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets import chat_screen
from dpo_tui.widgets.ended_run_actions import NextSteps
from dpo_tui.widgets.export_dialog import ExportDialog
from tests.support.app import ended_run, screen_text, until
from tests.support.repository import ROOT
from tests.support.supervised_runs import edit_state

SIZE = (80, 24)


@pytest.fixture(autouse=True)
def terminal(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def run(home: Path, status: str = "done", *, adapter: bool = True) -> RunFolder:
    folder = ended_run(home, "20261101-101010-aaaa", "demo", status)
    if adapter:
        folder.adapter.mkdir()
    return folder


def app(folder: RunFolder, **settings) -> DpoTui:
    return DpoTui(RunFeed(folder), settings=UserSettings(theme="dark", **settings))


async def row(pilot) -> str:
    await until(pilot, lambda: "Next:" in screen_text(pilot))
    return next(line for line in screen_text(pilot).splitlines() if "Next:" in line)


async def test_a_run_with_a_result_offers_all_that_comes_next_in_one_row(home):
    async with app(run(home)).run_test(size=SIZE) as pilot:
        assert (await row(pilot)).strip() == ("Next:  4 judge  A chat  E export  C train on  e change and rerun")
        titles = {command.title for command in pilot.app.get_system_commands(pilot.app.screen)}
        assert {"Judge", "Chat with the result", "Export the result"} <= titles
        assert {"Train on from this run", "Edit & restart"} <= titles


async def test_the_row_has_the_keys_as_the_user_has_mapped_them(home):
    async with app(run(home), keys={"monitor.export": "ctrl+e"}).run_test(size=SIZE) as pilot:
        assert "ctrl+e export" in await row(pilot)


async def test_a_failed_run_offers_no_result_and_names_what_a_resume_begins_with(home):
    folder = run(home, "failed", adapter=False)
    async with app(folder).run_test(size=SIZE) as pilot:
        assert (await row(pilot)).strip() == "Next:  r train from the beginning  e change and rerun"
        await pilot.press("E")
        await pilot.pause(0.2)
        assert not isinstance(pilot.app.screen, ExportDialog)
    checkpoint = folder.checkpoints / "checkpoint-40"
    checkpoint.mkdir(parents=True)
    (checkpoint / "complete.json").write_text('{"files": {}}')
    async with app(folder).run_test(size=SIZE) as pilot:
        assert "r go on from checkpoint-40" in await row(pilot)


async def test_one_key_resubmits_a_job_that_ran_out_of_memory_with_more_of_it(home, monkeypatch):
    folder = run(home, "failed", adapter=False)
    folder.config.write_text('launcher = "slurm"\nmem = "200M"\n')
    reason = out_of_memory_text(folder, "200M")
    edit_state(folder, status="failed", launcher="slurm", reason=f"killed by signal 9 (SIGKILL): {reason}")
    asked = []
    monkeypatch.setattr(
        "dpo_tui.start.prepare.resume", lambda folder, *, changes: asked.append(changes) or Resumed(checkpoint=None)
    )
    async with app(folder).run_test(size=SIZE) as pilot:
        assert "r train from the beginning with mem = 400M" in await row(pilot)
        await pilot.press("r")
        await until(pilot, lambda: [one.message for one in pilot.app._notifications])
        assert "goes on from the beginning with mem = 400M." in [one.message for one in pilot.app._notifications][-1]
    assert asked == [{"mem": "400M"}]


async def test_training_on_opens_new_with_the_model_of_the_run(home):
    async with app(run(home)).run_test(size=SIZE) as pilot:
        await row(pilot)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and "run:20261101" in screen_text(pilot))


async def test_the_dialog_shows_the_command_and_refuses_a_folder_that_is_there(home, tmp_path):
    async with app(run(home)).run_test(size=SIZE) as pilot:
        await row(pilot)
        await pilot.press("E")
        await until(pilot, lambda: "--merge" in screen_text(pilot))
        await pilot.press("space")
        await until(pilot, lambda: "--merge" not in screen_text(pilot))
        assert "dpo-tui export 20261101-101010-aaaa --to" in screen_text(pilot)
        (tmp_path / "demo-export").mkdir()
        (tmp_path / "demo-export" / "mine").touch()
        await pilot.press("enter")
        await until(pilot, lambda: "is there already" in screen_text(pilot))
        assert isinstance(pilot.app.screen, ExportDialog)


async def test_one_form_is_ticked_at_a_time_and_the_command_says_which(home, tmp_path):
    pytest.importorskip("gguf")
    async with app(run(home)).run_test(size=SIZE) as pilot:
        await row(pilot)
        await pilot.press("E")
        await until(pilot, lambda: "--merge" in screen_text(pilot))
        await pilot.press("down", "space")
        await until(pilot, lambda: "--gguf q8_0" in screen_text(pilot))
        assert screen_text(pilot).count("[x]") == 1
        assert "--merge" not in screen_text(pilot)
        await pilot.press("down", "space")
        await until(pilot, lambda: "--gguf f16" in screen_text(pilot))
        assert screen_text(pilot).count("[x]") == 1
        await pilot.press("space")
        await until(pilot, lambda: "--gguf" not in screen_text(pilot))
        assert "[x]" not in screen_text(pilot)


async def test_an_export_runs_in_the_background_and_ends_with_the_commands_that_serve_it(home, tmp_path):
    """The real child process; a run that trained every weight has its model copied."""
    folder = run(home, adapter=False)
    folder.config.write_text(folder.config.read_text() + "[lora]\nuse_lora = false\n")
    folder.merged.mkdir()
    (folder.merged / "config.json").write_text(json.dumps({"model_type": "llama"}))
    async with app(folder).run_test(size=SIZE) as pilot:
        await row(pilot)
        await pilot.press("E")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExportDialog))
        await pilot.press("enter")
        await until(pilot, lambda: "Exporting: loading the libraries" in screen_text(pilot))
        await until(pilot, lambda: "demo is exported" in screen_text(pilot), 120)
        assert "To serve it:" in screen_text(pilot)
        assert (tmp_path / "demo-export" / "config.json").is_file()
        await pilot.press("enter")
        assert "E export" in await row(pilot)
        assert pilot.app.screen.query_one(NextSteps).busy == ""


@pytest.mark.usefixtures("tools_in_process")
async def test_an_export_that_fails_says_why(home):
    folder = run(home)
    folder.config.write_text("no toml")
    async with app(folder).run_test(size=SIZE) as pilot:
        await row(pilot)
        await pilot.press("E")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExportDialog))
        await pilot.press("enter")
        await until(pilot, lambda: "The export did not work" in screen_text(pilot), 120)


def test_what_cannot_be_exported_is_refused_before_a_process_starts(home, tmp_path, monkeypatch):
    request = ExportRequest(run(home, adapter=False), tmp_path / "there", merge=False)
    with pytest.raises(RunError, match="no result yet"):
        check_export(request.folder, request.target)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"package gguf, which is not installed\npip install 'dpo-tui\[gguf\]'"):
        check_export(request.folder, request.target, "f16")
    request.target.mkdir()
    (request.target / "file").touch()
    with pytest.raises(UsageError, match="is there already"):
        check_export(request.folder, request.target)


class Answers:
    """In place of the tool that loads models: it repeats the last question."""

    asked: ClassVar[list[dict]] = []
    closed = 0

    def __init__(self, name: str, *, environment: dict[str, str]) -> None:
        assert name == "generate"

    def ask(self, request: dict):
        self.asked.append(json.loads(json.dumps(request)))
        if request["do"] == "load-run":
            yield {"kind": "result", "device": "CPU"}
            return
        text = f"{request['who']} heard: {request['messages'][-1]['content']}"
        yield {"kind": "text", "text": text[:8]}
        yield {"kind": "result", "text": text, "stopped": True}

    def close(self) -> None:
        type(self).closed += 1


async def test_chat_asks_base_and_tuned_with_a_history_each_and_esc_leads_back_to_the_run(home, monkeypatch):
    monkeypatch.setattr(chat_screen, "TorchTool", Answers)
    Answers.asked, Answers.closed = [], 0
    async with app(run(home)).run_test(size=SIZE) as pilot:
        await row(pilot)
        monitor = pilot.app.screen
        await pilot.press("A")
        await until(pilot, lambda: "Greedy answers" in screen_text(pilot))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: "tuned heard: hello" in screen_text(pilot))
        await pilot.press(*"more", "enter")
        await until(pilot, lambda: "tuned heard: more" in screen_text(pilot))
        assert [one["content"] for one in Answers.asked[-1]["messages"]] == ["hello", "tuned heard: hello", "more"]
        await pilot.press(*"/new", "enter", *"q?", "enter")
        await until(pilot, lambda: "tuned heard: q?" in screen_text(pilot))
        assert [one["content"] for one in Answers.asked[-1]["messages"]] == ["q?"]
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is monitor)
    assert Answers.closed == 1
