"""The demo's improvement, end to end: the toy model, programs as judges, real trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_state import read_improvement_state
from tests.support.improvements import lines

pytestmark = pytest.mark.slow
_PATIENCE = 1800.0
COMMAND = [str(Path(sys.executable).with_name("dpo-tui"))]


def _folder(home: Path) -> ImprovementFolder:
    (path,) = (home / "improvements").glob("2*")
    return ImprovementFolder(path)


def test_the_demo_improves_on_questions_alone_and_a_second_judge_agrees(home: Path) -> None:
    result = subprocess.run(
        [*COMMAND, "demo", "--improve", "--no-tui"], capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    folder = _folder(home)
    assert result.stdout.splitlines()[-1] == str(folder.report)
    figures = json.loads(folder.report_figures.read_text())
    last = figures["rounds"][-1]["wins"]
    # The first judge sees 24 characters of each answer, and so not how long it is.
    assert last["judge"]["start"]["rate"] > 0.8 and last["judge"]["start"]["interval"][0] > 0.5
    assert last["second"]["start"]["rate"] > 0.5
    assert figures["prompts"]["shared"] == 0
    held_out = {one["id"] for one in lines(folder.prompts) if one["held_out"]}
    for one in figures["rounds"]:
        files = folder.round(one["number"])
        assert held_out.isdisjoint(line["id"] for line in lines(files.answers))
        texts = {json.dumps(line["prompt"], sort_keys=True) for line in lines(files.pairs)}
        out = {json.dumps(line["messages"], sort_keys=True) for line in lines(folder.prompts) if line["held_out"]}
        assert texts.isdisjoint(out)


@pytest.mark.parametrize("kill_at", ["sampling answers", "training", "answers the held-out prompts"])
def test_a_killed_driver_is_resumed_and_nothing_is_asked_twice(home: Path, kill_at: str) -> None:
    process = subprocess.Popen([*COMMAND, "demo", "--improve", "--no-tui"], stdout=subprocess.PIPE, text=True)
    state = _until_step(home, kill_at)
    os.kill(int(state["driver_pid"]), signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    folder = _folder(home)
    result = subprocess.run(
        [*COMMAND, "resume", folder.id], capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    deadline = time.monotonic() + _PATIENCE
    while read_improvement_state(folder).status not in ("done", "failed", "stopped"):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert read_improvement_state(folder).status == "done", read_improvement_state(folder).reason
    for number in range(1, 4):
        files = folder.round(number)
        if files.answers.exists():
            answers = [(line["id"], line["number"]) for line in lines(files.answers)]
            assert len(answers) == len(set(answers))
            judged = [(line["id"], line["answer"]) for line in lines(files.judgements)]
            assert len(judged) == len(set(judged))
    assert len(list((home / "groups").glob("2*"))) == len(list(folder.path.glob("rounds/*/result.json")))


def _until_step(home: Path, step: str) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        assert time.monotonic() < deadline
        for path in (home / "improvements").glob("2*/state.json"):
            state: dict[str, Any] = json.loads(path.read_text())
            if step in state["step"] and state["round"] == 1:
                return state
        time.sleep(0.2)
