"""An improvement in the app: its row, its screen, a person's verdicts, and a start from prompts alone."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.improve import improvement_control
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import read_plan
from dpo_tui.improve.improvement_state import ImprovementState, read_improvement_state
from dpo_tui.improve.improvement_store import all_improvements
from dpo_tui.improve.person_verdicts import asked_pairs
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.screens.compare_screen import CompareScreen
from dpo_tui.screens.improvement_screen import ImprovementScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.screens.verdicts_screen import VerdictsScreen
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.improve_dialog import ImproveDialog
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import ended_run, screen_text, until
from tests.support.improvements import Staged, lines, program, round_group, staged


@pytest.fixture(autouse=True)
def _here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    """An improvement of two rounds that has ended, each with a group of one run, beside a run of its own."""
    stage = staged(tmp_path, monkeypatch, rounds=2, target=0.99, prompts="prompts.txt")
    assert stage.drive().status == "done"
    for number in (1, 2):
        run = str(json.loads(stage.folder.round(number).result.read_text())["run"])
        round_group(stage.folder, number, run)
    ended_run(home, "20261001-101010-aaaa", "alone")
    return stage


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staged]:
    """An improvement whose driver waits in this process for 12 verdicts of a person."""
    stage = staged(tmp_path, monkeypatch, judge=JudgeChoice("person"), rounds=1, answers=2)
    assert run_lock.acquire(stage.folder.lock)
    driving = threading.Thread(target=stage.drive)
    driving.start()
    yield stage
    stage.folder.control.joinpath("stop").touch()
    driving.join(60)
    run_lock.release(stage.folder.lock)


def app() -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark"))


def names(pilot: Any) -> list[str]:
    screen = pilot.app.screen
    return [run.name for run in screen.query_one(RunTable).runs] if isinstance(screen, RunsScreen) else []


def row(pilot: Any, name: str) -> str:
    return next((line for line in screen_text(pilot).splitlines() if name in line), "")


async def open_improvement(pilot: Any, name: str = "▸ better") -> ImprovementScreen:
    await until(pilot, lambda: name in names(pilot))
    pilot.app.screen.query_one(RunTable).cursor = all_improvements()[0].id
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, ImprovementScreen) and bool(pilot.app.screen.view.name))
    await pilot.pause()
    return pilot.app.screen


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_an_improvement_is_one_row_over_the_runs_of_its_rounds(finished: Staged, size: tuple[int, int]) -> None:
    async with app().run_test(size=size) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ better", "alone"])
        assert "✓ done" in row(pilot, "▸ better") and "of 2 rounds · wins 100%" in row(pilot, "▸ better")
        await pilot.press("f")
        await until(pilot, lambda: names(pilot) == ["▾ better", "└ better-r1-1", "└ better-r2-1", "alone"])


async def test_rounds_of_an_improvement_that_is_gone_are_rows_of_their_own(finished: Staged) -> None:
    finished.folder.path.rename(finished.folder.path.with_name("gone"))
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: sorted(names(pilot)) == ["alone", "▸ better-r1", "▸ better-r2"])


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_the_screen_shows_the_rounds_the_reason_and_the_answers(finished: Staged, size: tuple[int, int]) -> None:
    async with app().run_test(size=size) as pilot:
        await open_improvement(pilot)
        text = screen_text(pilot)
        assert "round 1" in text and "▸round 2" in text
        assert "100% (72% to 100%)" in row(pilot, "wins over start")
        assert row(pilot, "pairs ").split()[1:3] == ["12", "12"]
        assert "1.00" in row(pilot, "KL, nats")
        assert "Done: all 2 rounds are done" in text
        await pilot.press("end")
        assert "now:" in screen_text(pilot) and "help" in screen_text(pilot)
        assert not pilot.app.screen.check_action("stop", ()) and not pilot.app.screen.check_action("resume", ())


async def test_enter_opens_the_run_of_the_round_and_escape_leads_back_to_the_improvement(finished: Staged) -> None:
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_improvement(pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen) and "better-r1-1" in screen_text(pilot))
        assert "round:" not in screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("f", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_a_round_of_several_runs_opens_their_ranking(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.drive()
    result = json.loads(stage.folder.round(1).result.read_text())
    other = ended_run(home, "20261001-101010-aaaa", "other").id
    group = round_group(stage.folder, 1, result["run"], other)
    write_json_atomic(stage.folder.round(1).result, result | {"runs": [result["run"], other], "group": group.id})
    async with app().run_test(size=(100, 30)) as pilot:
        await open_improvement(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and "Ranking" in screen_text(pilot))


async def test_an_improvement_is_deleted_with_its_runs_after_a_question(home: Path, finished: Staged) -> None:
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ better", "alone"])
        await pilot.press("D")
        await until(pilot, lambda: "Delete the improvement better and its 2 runs?" in screen_text(pilot))
        await pilot.press("y")
        await until(pilot, lambda: names(pilot) == ["alone"])
    assert not list((home / "groups").glob("2*")) and len(list((home / "runs").glob("2*"))) == 1
    assert not all_improvements()


async def test_a_stopped_improvement_is_resumed_from_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.folder.control.joinpath("stop").touch()
    assert stage.drive().status == "stopped"
    started: list[ImprovementFolder] = []
    monkeypatch.setattr(improvement_control, "start_improvement", started.append)
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ better"])
        assert "■ stopped" in row(pilot, "better") and "stopped as asked" in row(pilot, "better")
        await pilot.press("r")
        await until(pilot, lambda: started == [stage.folder])
    assert not stage.folder.control.joinpath("stop").exists()


async def test_what_waits_for_the_person_is_said_and_judged_blind_while_the_driver_works(waiting: Staged) -> None:
    async with app().run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "● working" in row(pilot, "better") and "12 waiting for you" in row(pilot, "better"))
        assert "round 1 of 1" in row(pilot, "better")
        screen = await open_improvement(pilot)
        await until(pilot, lambda: "12 waiting for you: v shows" in screen_text(pilot))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(pilot.app.screen, VerdictsScreen) and pilot.app.screen.asked is not None)
        judged = pilot.app.screen
        await until(pilot, lambda: "12 waiting" in screen_text(pilot) and "A  left" in screen_text(pilot))
        first = judged.asked
        judged.action_vote("left")
        judged.action_vote("right")  # as by a key that comes before the next pair: it judges nothing
        await until(pilot, lambda: "11 waiting" in screen_text(pilot) and judged.asked not in (None, first))
        assert [line["verdict"] for line in lines(waiting.folder.person_verdicts)] == ["left"]
        assert lines(waiting.folder.person_verdicts)[0]["key"] == first.key
        for left in range(10, -1, -1):
            await pilot.press("t")
            await until(pilot, lambda left=left: len(lines(waiting.folder.person_verdicts)) == 12 - left)
            await until(pilot, lambda left=left: left == 0 or judged.asked is not None)
        # Twelve ties make no pairs: the round says so and ends, and the screen with it.
        await until(pilot, lambda: "Nothing waits for your verdict now." in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        await until(pilot, lambda: read_improvement_state(waiting.folder).stop == "too-few-pairs")


async def test_a_step_with_a_long_name_is_shown_whole_in_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=3)
    step = "round 1: the new model answers the held-out prompts"
    state = ImprovementState("running", driver_pid=1, round=1, step=step, done=13, total=200)
    write_json_atomic(stage.folder.state, state.to_dict())
    assert run_lock.acquire(stage.folder.lock)
    try:
        async with app().run_test(size=(80, 24)) as pilot:
            await open_improvement(pilot)
            shown = "round 1 of 3 · the new model answers the held-out prompts 13 of 200"
            await until(pilot, lambda: shown in screen_text(pilot) and "6 %" in screen_text(pilot))
    finally:
        run_lock.release(stage.folder.lock)


async def test_a_working_improvement_is_stopped_from_its_screen(waiting: Staged) -> None:
    async with app().run_test(size=(100, 30)) as pilot:
        await open_improvement(pilot)
        await until(pilot, lambda: "12 waiting for you" in screen_text(pilot))
        await pilot.press("s")
        await until(pilot, lambda: "Stop the improvement better?" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: read_improvement_state(waiting.folder).status == "stopped")


async def test_verdicts_beside_a_judge_are_in_the_screen_and_the_report(finished: Staged) -> None:
    asked = len(asked_pairs(finished.folder, read_plan(finished.folder)))
    async with app().run_test(size=(100, 30)) as pilot:
        await open_improvement(pilot)
        await until(pilot, lambda: f"blind ({asked} left)" in " ".join(screen_text(pilot).split()))
        await pilot.press("v")
        await until(pilot, lambda: getattr(pilot.app.screen, "asked", None) is not None)
        await pilot.press("t")
        await until(pilot, lambda: f"{asked - 1} waiting" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "The judge agrees with the person on 0 of 1 pairs" in screen_text(pilot))
    assert "agrees with the person on 0 of 1 pairs" in finished.folder.report.read_text()


async def test_an_improvement_deleted_meanwhile_is_said_in_its_screen(finished: Staged) -> None:
    async with app().run_test(size=(100, 30)) as pilot:
        await open_improvement(pilot)
        finished.folder.path.rename(finished.folder.path.with_name("gone"))
        await until(pilot, lambda: "is missing or torn" in screen_text(pilot))


async def test_new_starts_an_improvement_from_prompts_alone(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry of the data step asks, says what is wrong in words and keeps what was typed, then starts it."""
    monkeypatch.setattr("dpo_tui.views.gpu_watch.GpuWatch.start", lambda self: None)
    started: list[ImprovementFolder] = []
    monkeypatch.setattr(improvement_control, "start_improvement", started.append)
    (tmp_path / "few.txt").write_text("one\n")
    (tmp_path / "prompts.txt").write_text("".join(f"question {number}\n" for number in range(40)))
    async with app().run_test(size=(100, 30)) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and pilot.app.focused is not None)
        pilot.app.screen.go(2)
        await until(pilot, lambda: "I have only prompts" in screen_text(pilot))
        await pilot.press("down")
        await until(pilot, lambda: "Enter asks for the prompts" in " ".join(screen_text(pilot).split()))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ImproveDialog))
        judge = program(tmp_path, "len(one['answer'])").target
        for name, text in (("model", str(tiny_model)), ("prompts", "few.txt"), ("judge", judge)):
            pilot.app.screen.query_one(f"#{name}").value = text
        await pilot.press("enter")
        await until(pilot, lambda: "different prompts are too few" in " ".join(screen_text(pilot).split()), 60)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ImproveDialog))
        assert pilot.app.screen.query_one("#model").value == str(tiny_model)
        pilot.app.screen.query_one("#prompts").value = "prompts.txt"
        await pilot.press("enter")
        await until(pilot, lambda: "Start improve?" in screen_text(pilot), 60)
        assert "30 prompts to train on, 10 held out" in screen_text(pilot)
        assert "(120 a round)" in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ImprovementScreen))
    (folder,) = all_improvements()
    plan = read_plan(folder)
    assert started == [folder]
    assert (plan.model, plan.rounds, plan.judge["kind"]) == (str(tiny_model), 3, "program")
    assert "dataset" not in folder.config.read_text()
