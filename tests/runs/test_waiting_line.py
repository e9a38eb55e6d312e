"""What a user asks of the queue: real supervisors follow it, and files of it that are wrong harm nobody."""

import json
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import start_run, waiting_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.queue_place import place_of
from dpo_tui.runs.status import status_of
from tests.support.command_line import CommandLine, command_line
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    ended,
    fresh_home,
    go,
    has_status,
    holding,
    make,
    state_of,
    waits,
    worker,
)

GPU = ["gpu:0"]


@pytest.fixture(name="dpo_tui")
def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def line(home: Path) -> tuple[RunFolder, RunFolder, RunFolder]:
    """One run that holds the GPU at its first step, and two that wait for it."""
    first = begin("--hold-at", 1, name="first", devices=GPU)
    holding(first, 1)
    second, third = begin("--hold-at", 1, name="second", devices=GPU), begin(name="third", devices=GPU)
    for run in (second, third):
        waits(run, "gpu:0")
    return first, second, third


def order(home: Path) -> list[str]:
    return [run.state.name for run in waiting_line.waiting_runs(home / "runs")]


def test_a_run_that_is_moved_up_gets_the_device_first(
    line: tuple[RunFolder, RunFolder, RunFolder], home: Path, dpo_tui: CommandLine
) -> None:
    first, second, third = line
    assert order(home) == ["second", "third"]
    assert dpo_tui("queue", "up", "third")[0] == 0
    assert order(home) == ["third", "second"]
    go(first)
    assert ended(third).status == "done"
    holding(second, 1)
    go(second)
    ended(second)
    assert (state_of(third).started_at or 0) < (state_of(second).started_at or 0)


def test_a_run_that_is_moved_down_waits_for_those_before_it_but_not_for_later_ones(
    line: tuple[RunFolder, RunFolder, RunFolder], home: Path, dpo_tui: CommandLine
) -> None:
    first, second, third = line
    assert dpo_tui("queue", "down", second.id)[0] == 0
    late = make("late", devices=GPU)
    start_run.start(late, worker(late))
    waits(late, "gpu:0")
    assert order(home) == ["third", "second", "late"]
    go(first)
    assert ended(third).status == "done"
    go(second)
    assert [ended(run).status for run in (second, late)] == ["done", "done"]


def test_a_paused_run_is_overtaken_and_starts_when_it_is_unpaused(
    line: tuple[RunFolder, RunFolder, RunFolder], dpo_tui: CommandLine
) -> None:
    first, second, third = line
    assert dpo_tui("queue", "pause", "second")[0] == 0
    assert f"dpo-tui queue unpause {second.id}" in waits(second, "paused")
    go(first)
    assert ended(third).status == "done", "it does not wait for the paused one, which was before it"
    assert status_of(second).status == "queued"
    listed = json.loads(dpo_tui("queue", "--json")[1])
    assert [(run["name"], run["paused"], run["place"]) for run in listed["waiting"]] == [("second", True, 1)]
    assert dpo_tui("queue", "unpause", "second")[0] == 0
    holding(second, 1)
    listed = json.loads(dpo_tui("queue", "--json")[1])
    assert listed == {"waiting": [], "in_use": [{"device": "gpu:0", "id": second.id, "name": "second"}]}
    go(second)
    assert ended(second).status == "done"


def test_a_dropped_run_never_starts_and_is_queued_again_by_a_resume(
    line: tuple[RunFolder, RunFolder, RunFolder], dpo_tui: CommandLine
) -> None:
    first, second, third = line
    dpo_tui("queue", "pause", "second")
    assert dpo_tui("queue", "drop", "second", third.id)[0] == 0
    assert (ended(second).status, ended(third).attempt) == ("stopped", 0)
    assert "dropped from the queue" in status_of(second).reason
    start_run.resume(second, worker(second))
    waits(second, "gpu:0")
    go(first)
    assert ended(second).status == "done", "neither pause nor stop is left from before"


def test_what_does_not_wait_is_refused_in_words(
    line: tuple[RunFolder, RunFolder, RunFolder], dpo_tui: CommandLine
) -> None:
    first, _, _ = line
    for command in ("up", "down", "pause", "drop"):
        code, _, err = dpo_tui("queue", command, "first")
        assert code == 1 and f"run {first.id} is running: only a run that waits can be" in err
    code, _, err = dpo_tui("queue", "unpause", "first")
    assert code == 0 and "was not paused" in err
    assert dpo_tui("queue", "up", "nothing")[0] == 3


def test_the_table_names_what_is_waited_for(line: tuple[RunFolder, RunFolder, RunFolder], dpo_tui: CommandLine) -> None:
    first, second, third = line
    code, out, _ = dpo_tui("queue")
    assert code == 0
    held, one, two = out.splitlines()
    assert held.startswith(f"gpu:0 in use by run {first.id} first")
    assert one.startswith(f"1   {second.id} second") and "waits for gpu:0" in one
    assert two.startswith(f"2   {third.id} third")
    assert all(len(row) <= 80 for row in out.splitlines())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"queued_at": 5, "place": 1}', '{"queued_at": "x", "place": []}'])
def test_a_wrong_or_an_old_place_counts_for_nothing(home: Path, text: str) -> None:
    run = make(devices=GPU)
    run.queue_place.write_text(text)
    state = state_of(run)
    assert place_of(run, state) == (state.queued_at, run.id)
    run.queue_place.write_text(json.dumps({"queued_at": state.queued_at, "place": True}))
    assert place_of(run, state) == (state.queued_at, run.id)


def test_a_job_is_left_to_slurm(home: Path) -> None:
    run = make()
    edit_state(run, launcher="slurm")
    with pytest.raises(RunError, match="waits in Slurm's queue"):
        waiting_line.move(run, "first")
    has_status(run, "queued")
