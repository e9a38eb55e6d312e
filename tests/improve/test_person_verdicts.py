"""A person judges: rounds wait for the verdicts, and beside a judge they say how far it can be trusted."""

import io
import threading
import time
from pathlib import Path

import pytest

from dpo_tui.improve.improvement_plan import read_plan
from dpo_tui.improve.improvement_state import read_improvement_state
from dpo_tui.improve.person_verdicts import asked_pairs, calibration_of, record_verdict
from dpo_tui.judging.judges.judge import JudgeChoice, Side
from dpo_tui.runs.atomic_files import read_json
from tests.support.command_line import CommandLine, command_line
from tests.support.improvements import Staged, lines, program, staged

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


def _helpfuller(left: str, right: str) -> Side:
    difference = left.count("help") - right.count("help")
    return "left" if difference > 0 else "right" if difference < 0 else "tie"


def _answer_when_asked(stage: Staged, until_done: threading.Event) -> None:
    plan = read_plan(stage.folder)
    while not until_done.is_set():
        for one in asked_pairs(stage.folder, plan):
            record_verdict(stage.folder, one, _helpfuller(one.pair.left, one.pair.right))
        time.sleep(0.05)


def test_rounds_judged_by_hand_wait_for_the_verdicts_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, judge=JudgeChoice("person"), rounds=1, answers=2)
    done = threading.Event()
    person = threading.Thread(target=_answer_when_asked, args=(stage, done))
    person.start()
    try:
        state = stage.drive()
    finally:
        done.set()
        person.join()
    assert (state.status, state.stop) == ("done", "rounds"), state.reason
    assert len(lines(stage.folder.round(1).pairs)) == 12
    verdicts = lines(stage.folder.person_verdicts)
    assert len(verdicts) == len({line["key"] for line in verdicts}) == 12 + 10
    assert "waiting for your verdicts" not in state.seconds
    assert (read_json(stage.folder.waiting) or {})["pairs"] == []
    assert "of a person" not in stage.folder.report.read_text()


def test_what_waits_is_said_and_a_stop_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, judge=JudgeChoice("person"), rounds=1, answers=2)
    driving = threading.Thread(target=stage.drive)
    driving.start()
    deadline = time.monotonic() + 60
    while not (read_json(stage.folder.waiting) or {}).get("pairs") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(asked_pairs(stage.folder, read_plan(stage.folder))) == 12
    while read_improvement_state(stage.folder).step != "round 1: waiting for your verdicts":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stage.folder.control.joinpath("stop").touch()
    driving.join(60)
    assert read_improvement_state(stage.folder).status == "stopped"


def test_verdicts_beside_a_judge_give_its_agreement_with_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: CommandLine
) -> None:
    judge = program(tmp_path, "one['answer'].count('help')")
    stage = staged(tmp_path, monkeypatch, judge=judge, rounds=2)
    stage.drive()
    plan = read_plan(stage.folder)
    assert calibration_of(stage.folder, plan) is None
    asked = asked_pairs(stage.folder, plan)
    assert len(asked) == 20  # the held-out answers of both rounds against the start's
    for one in asked[:19]:
        record_verdict(stage.folder, one, _helpfuller(one.pair.left, one.pair.right))
    found = calibration_of(stage.folder, plan)
    assert found is not None and found.kappa is None and "1 more are needed" in found.summary()
    # The last verdict comes by the command, against the judge.
    (last,) = asked_pairs(stage.folder, plan)
    key = "r" if _helpfuller(last.pair.left, last.pair.right) == "left" else "l"
    monkeypatch.setattr("sys.stdin", io.StringIO(key))
    code, out, err = call("judge", stage.folder.id)
    assert code == 0, err
    assert "The judge agrees with the person on 19 of 20 pairs: Cohen's κ" in " ".join(out.split())
    assert "The judge agrees with the person on 19 of 20 pairs" in stage.folder.report.read_text()
