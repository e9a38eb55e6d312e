"""Runs: a sweep and a chain are one row each, which folds, opens its ranking, and is stopped or deleted as a whole."""

import json
from pathlib import Path

import pytest

from dpo_tui.app import DpoTui
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupMember, GroupPlan
from dpo_tui.groups.group_state import GroupState
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.groups.group_store import create_group
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, read_state, write_state
from dpo_tui.screens.compare_screen import CompareScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.run_preview import RunPreview
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.run_table import RunTable
from tests.support.app import ended_run, screen_text, until

IDS = ("20261101-101010-aaaa", "20261101-101011-aaaa", "20261101-101012-aaaa")


def change(run: RunFolder, **fields: object) -> None:
    state = read_state(run)
    assert state is not None
    write_state(run, State.from_dict({**state.to_dict(), **fields}))


@pytest.fixture
def sweep(home: Path) -> GroupFolder:
    """A sweep over beta of which two runs are done and one failed."""
    members = [GroupMember(number, f"tiny-{number}", {"beta": number / 10}) for number in (1, 2, 3)]
    group = create_group(GroupPlan("", "tiny", settings=["beta"], members=tuple(members)), ["", "", ""])
    for member, run_id, accuracy in zip(members, IDS, (0.61, 0.92, 0.7), strict=True):
        run = ended_run(home, run_id, member.name, "failed" if member.number == 3 else "done", reason="", steps=60)
        belongs = {"id": group.id, "kind": "sweep", "member": member.number, "values": member.values}
        change(run, group=belongs)
        with run.metrics.open("a") as stream:
            stream.write(json.dumps({"t": 0.0, "step": 60, "eval_rewards/accuracies": accuracy}) + "\n")
    runs = {str(number): run_id for number, run_id in enumerate(IDS, 1)}
    write_json_atomic(
        group.state, GroupState("failed", "1 of 3 runs failed: tiny-3", driver_pid=1, ended_at=1.0, runs=runs).to_dict()
    )
    ended_run(home, "20261001-101010-aaaa", "alone")
    return group


def names(pilot) -> list[str]:
    return [run.name for run in pilot.app.screen.query_one(RunTable).runs]


def app() -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark"))


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_a_sweep_is_one_row_that_folds_and_its_runs_show_their_values(home, sweep, size):
    async with app().run_test(size=size) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        row = next(line for line in screen_text(pilot).splitlines() if "▸ tiny" in line)
        assert "failed" in row and "2 done" in row
        assert " fold " in f"{screen_text(pilot).splitlines()[-1]} "
        await pilot.press("f")
        await until(pilot, lambda: names(pilot) == ["▾ tiny", "└ tiny-1", "└ tiny-2", "└ tiny-3", "alone"])
        second = next(line for line in screen_text(pilot).splitlines() if "tiny-2" in line)
        assert "beta=0.2" in second and "0.92" in second
        await pilot.press("down", "down", "f")
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        assert pilot.app.screen.query_one(RunTable).cursor == sweep.id, "the cursor goes to the group of its run"


async def test_enter_on_a_group_ranks_its_runs(home, sweep):
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and "against the best" in screen_text(pilot)
        )
        text = screen_text(pilot)
        assert "sweep tiny over beta: 2 done · 1 failed" in text
        assert text.index("1 tiny-2") < text.index("2 tiny-3") < text.index("3 tiny-1")
        await pilot.press("t")
        await until(pilot, lambda: "held-out" in screen_text(pilot) or "loss" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])


async def test_the_monitor_names_the_group_and_the_values(home, sweep):
    async with app().run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        await pilot.press("f", "down", "enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, MonitorScreen) and "sweep: beta=0.1" in screen_text(pilot)
        )


async def test_a_group_is_deleted_with_its_runs_after_a_question(home, sweep):
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        await pilot.press("D")
        await until(pilot, lambda: "Delete the sweep tiny and its 3 runs?" in screen_text(pilot))
        await pilot.press("y")
        await until(pilot, lambda: names(pilot) == ["alone"])
        assert not sweep.path.exists() and len(list((home / "runs").glob("2*"))) == 1


async def test_a_filter_finds_runs_in_a_folded_group_and_space_selects_all_of_it(home, sweep):
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▸ tiny", "alone"])
        await pilot.press("space")
        await until(pilot, lambda: "3 selected" in screen_text(pilot))
        await pilot.press("slash", *"tiny-2", "enter")
        await until(pilot, lambda: names(pilot) == ["▾ tiny", "└ tiny-2"])


async def test_a_chain_is_one_row_and_unfolded_at_first(home):
    first = ended_run(home, IDS[0], "sft")
    second = ended_run(home, IDS[1], "dpo", "failed")
    change(second, after=first.id)
    async with app().run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: names(pilot) == ["▾ sft → dpo", "└ sft", "└ dpo"])
        row = next(line for line in screen_text(pilot).splitlines() if "sft → dpo" in line)
        assert "failed" in row
        await pilot.press("f")
        await until(pilot, lambda: names(pilot) == ["▸ sft → dpo"])


async def test_a_wrong_group_is_a_row_that_says_so(home, sweep):
    sweep.plan.write_text("[]")
    async with app().run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: any("unknown" in line for line in screen_text(pilot).splitlines()))
        assert "alone" in names(pilot)


async def test_a_group_without_a_run_has_no_preview_of_the_run_above_it(home):
    members = (GroupMember(1, "tiny-1", {"beta": 0.1}),)
    group = create_group(GroupPlan("", "tiny", settings=["beta"], members=members), [""])
    write_json_atomic(group.state, GroupState("running", "", driver_pid=1, runs={}).to_dict())
    ended_run(home, "20261001-101010-aaaa", "alone")
    async with app().run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 2)
        preview, table = pilot.app.screen.query_one(RunPreview), pilot.app.screen.query_one(RunTable)
        for _ in range(2):
            table.cursor = "20261001-101010-aaaa"
            await until(pilot, lambda: screen_text(pilot).count("alone") == 2)
            table.cursor = group.id
            await until(pilot, lambda: preview.reader is None)
            await until(pilot, lambda: screen_text(pilot).count("alone") == 1)


async def test_the_preview_of_a_group_is_of_the_run_that_is_ahead_by_now(home):
    """The cursor stays, and a run of the group starts, and then another one gets better."""
    members = tuple(GroupMember(number, f"tiny-{number}", {"beta": number / 10}) for number in (1, 2))
    group = create_group(GroupPlan("", "tiny", settings=["beta"], members=members), ["", ""])

    def started(member: GroupMember, accuracy: float) -> None:
        run = ended_run(home, IDS[member.number - 1], member.name, steps=60)
        change(run, group={"id": group.id, "kind": "sweep", "member": member.number, "values": member.values})
        with run.metrics.open("a") as stream:
            stream.write(json.dumps({"t": 0.0, "step": 60, "eval_rewards/accuracies": accuracy}) + "\n")
        runs = {str(number): IDS[number - 1] for number in range(1, member.number + 1)}
        write_json_atomic(group.state, GroupState("running", "", driver_pid=1, runs=runs).to_dict())

    async with app().run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 1)
        for member, accuracy in zip(members, (0.6, 0.9), strict=True):
            assert member.name not in screen_text(pilot)
            started(member, accuracy)
            await until(pilot, lambda name=member.name: name in screen_text(pilot))
