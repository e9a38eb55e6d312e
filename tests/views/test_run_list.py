"""The list of runs reads what has changed, and of runs that are over long since looks at their folder alone."""

import os
import time
from pathlib import Path

import pytest

from dpo_tui.runs import naming, run_lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, read_state, write_state
from dpo_tui.views import run_list
from dpo_tui.views.run_list import PAUSE_PER_LIVE_RUN, SETTLED, RunList
from tests.support.app import ended_run
from tests.support.fake_run import begin, progress


@pytest.fixture
def settled(home: Path) -> RunFolder:
    folder = ended_run(home, "20261101-101010-aaaa", "tone")
    then = time.time() - 2 * SETTLED
    os.utime(folder.state, (then, then))
    return folder


def test_a_run_that_is_over_costs_one_look_at_its_folder(settled: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = RunList()
    assert runs.poll(time.time())
    looked: list[RunFolder] = []
    monkeypatch.setattr(run_list, "_file_states", lambda folder: looked.append(folder) or (0,))
    assert not runs.poll(time.time())
    assert looked == []


def test_a_rename_and_a_resume_of_a_run_that_was_over_are_seen_at_once(settled: RunFolder) -> None:
    runs = RunList()
    runs.poll(time.time())
    naming.rename(settled, "another")
    assert runs.poll(time.time())
    assert runs.summaries[0].name == "another"
    state = read_state(settled)
    assert state is not None
    write_state(settled, State(**{**state.to_dict(), "status": "queued"}))
    assert runs.poll(time.time())
    assert runs.summaries[0].status != "done"


def test_what_a_supervisor_writes_just_after_the_end_is_seen(home: Path) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "tone")
    runs = RunList()
    runs.poll(time.time())
    with folder.metrics.open("a") as stream:
        stream.write('{"t": 1, "step": 121, "eval_rewards/accuracies": 0.123}\n')
    assert runs.poll(time.time())
    assert runs.summaries[0].held_out == 0.123


def test_among_many_live_runs_progress_may_wait_and_a_change_of_state_does_not(home: Path) -> None:
    folders = [RunFolder(home / "runs" / f"20261102-1010{number:02d}-bbbb") for number in range(12)]
    for number, folder in enumerate(folders):
        begin(folder, f"live-{number}")
        run_lock.acquire(folder.lock)
    runs = RunList()
    now = time.time()
    runs.poll(now)
    assert not runs.poll(now + 0.5)
    progress(folders[0], 5, 10)
    assert not runs.poll(now + 1)
    assert runs.poll(now + 12 * PAUSE_PER_LIVE_RUN + 1)
    state = read_state(folders[1])
    assert state is not None
    write_state(folders[1], State(**{**state.to_dict(), "status": "failed", "reason": "it broke"}))
    assert runs.poll(now + 12 * PAUSE_PER_LIVE_RUN + 1.1)


def test_a_run_that_dies_is_seen_after_the_clock_was_set_back(home: Path) -> None:
    """Nothing of its files changes: whether it lives has to be asked."""
    folder = RunFolder(home / "runs" / "20261102-101010-bbbb")
    begin(folder, "live")
    run_lock.acquire(folder.lock)
    runs = RunList()
    now = time.time()
    runs.poll(now)
    run_lock.release(folder.lock)
    assert not runs.poll(now + 0.1)
    assert runs.poll(now - 3600)
    assert runs.summaries[0].status == "lost"
