"""The driver of an improvement works through its rounds, ends by a rule, and goes on after a kill at any moment."""

import json
import sys
import threading
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.improve import improvement_driver as driver_module
from dpo_tui.improve.improvement_control import resume_improvement
from dpo_tui.improve.improvement_status import improvement_status
from dpo_tui.improve.round_verdicts import win_rate
from dpo_tui.improve.rounds import run_round
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.runs import run_lock, store
from dpo_tui.runs.atomic_files import read_json
from tests.support.improvements import KilledError, NoSignals, lines, program, staged
from tests.support.supervised_runs import until

pytestmark = pytest.mark.usefixtures("home")


def test_rounds_end_when_all_are_done_and_each_result_is_judged_on_held_out_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=2, answers=3)
    state = stage.drive()
    assert (state.status, state.stop, state.reason) == ("done", "rounds", "all 2 rounds are done")
    for number in (1, 2):
        folder = stage.folder.round(number)
        result = read_json(folder.result) or {}
        assert win_rate(folder, result["run"], "start").tuned == 10  # all held-out prompts
        pairs = lines(folder.pairs)
        assert len(pairs) == 12
        assert all(
            row["chosen"][0]["content"].count("help") > row["rejected"][0]["content"].count("help") for row in pairs
        )
    counts = read_json(stage.folder.round(1).counts) or {}
    assert (counts["answers"], counts["judgements"], counts["pairs"]) == (36, 36, 12)
    training = {one["id"] for one in lines(stage.folder.prompts) if not one["held_out"]}
    asked_when_sampling = {key for (who, key, _), _n in stage.asked.items() if who.endswith("1.0")}
    assert asked_when_sampling == training


def test_the_second_round_starts_from_the_first_ones_run_and_is_judged_against_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=2)
    stage.drive()
    first, second = ((read_json(stage.folder.round(number).result) or {})["run"] for number in (1, 2))
    assert {who for (who, _, _) in stage.asked} == {
        "start-model 0.0",
        "start-model 1.0",
        *(f"run:{stage.folder.path.parents[1]}/runs/{first} {temperature}" for temperature in ("0.0", "1.0")),
        f"run:{stage.folder.path.parents[1]}/runs/{second} 0.0",
    }
    against = [line["against"] for line in lines(stage.folder.round(2).verdicts(second))]
    assert sorted(set(against)) == ["last", "start"] and len(against) == 20


@pytest.mark.parametrize("moment", [1, 3, 9, 14, 30, 60, 61, 75, 86, 100, 140, 171])
def test_killed_at_any_moment_it_goes_on_and_asks_nothing_twice(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked.jsonl"
    judge = program(tmp_path, "one['answer'].count('help')", log=log)
    stage = staged(tmp_path, monkeypatch, judge=judge, rounds=2, answers=3)
    with pytest.raises(KilledError):
        stage.drive(stop_at=moment)
    state = stage.drive()
    assert (state.status, state.stop) == ("done", "rounds")
    # The answer that had come when the kill came is written: what is not was never given to us.
    assert set(stage.asked.values()) <= {1, 2} and list(stage.asked.values()).count(2) <= 1
    answers = [line for number in (1, 2) for line in lines(stage.folder.round(number).answers)]
    assert len(answers) == len({(line["id"], line["number"], line["text"]) for line in answers}) == 72
    judged = [line for number in (1, 2) for line in lines(stage.folder.round(number).judgements)]
    assert len(judged) == len({(line["id"], line["answer"]) for line in judged}) == 72
    whole = (
        staged(tmp_path / "other", monkeypatch, rounds=2, answers=3) if (tmp_path / "other").mkdir() is None else None
    )
    assert whole is not None
    whole.drive()
    for number in (1, 2):
        assert _texts(stage.folder.round(number).pairs) == _texts(whole.folder.round(number).pairs)


def _texts(path: Path) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in lines(path)]


def test_a_request_to_stop_ends_it_as_stopped_and_a_resume_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.folder.control.joinpath("stop").touch()
    state = stage.drive()
    assert (state.status, state.reason) == ("stopped", "stopped as asked")
    stage.folder.control.joinpath("stop").unlink()
    assert stage.drive().status == "done"


def test_what_is_done_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.drive()
    assert improvement_status(stage.folder).status == "done"
    with pytest.raises(RunError, match=r"is done: its one round is done"):
        resume_improvement(stage.folder)


def test_a_judge_that_draws_lots_ends_it_without_a_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = program(tmp_path, "hash(one['answer'] + one['id']) % 7")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    stage = staged(tmp_path, monkeypatch, judge=judge, rounds=9)
    state = stage.drive()
    assert (state.status, state.stop) == ("done", "no-gain"), state.reason
    assert state.reason.startswith("no gain in 2 rounds over the round before each: round ")


def test_a_limit_of_tokens_ends_it_within_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=3, tokens=20)
    state = stage.drive()
    assert (state.status, state.stop) == ("done", "tokens")
    assert "the limit of 20 sampled tokens is reached" in state.reason
    assert not stage.trained


def test_too_few_pairs_end_it_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, judge=program(tmp_path, "1"), rounds=3)
    state = stage.drive()
    assert (state.status, state.stop) == ("done", "too-few-pairs")
    assert state.reason == (
        "round 1 has made 0 pairs, and a training needs 8; left out of 48 answers to 12 prompts: 12 prompts with no "
        "answer better than another"
    )
    counts = read_json(stage.folder.round(1).counts) or {}
    assert counts["without_pair"] == {"no answer better than another": 12}


def test_a_judge_that_fails_ends_it_as_failed_and_keeps_what_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = program(tmp_path, "one['answer'].count('help') if '7' not in one['id'] else 1 / 0")
    stage = staged(tmp_path, monkeypatch, judge=judge, rounds=1)
    state = stage.drive()
    assert state.status == "failed" and "ZeroDivisionError" in state.reason
    kept = lines(stage.folder.round(1).judgements)
    assert kept and all("7" not in line["id"] for line in kept)
    program(tmp_path, "one['answer'].count('help')")  # mended
    assert stage.drive().status == "done"
    assert lines(stage.folder.round(1).judgements)[: len(kept)] == kept


def test_the_state_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged(tmp_path, monkeypatch, rounds=1)
    with pytest.raises(KilledError):
        stage.drive(stop_at=20)
    state = json.loads(stage.folder.state.read_text())
    assert state["status"] == "running" and state["step"] == "round 1: sampling answers"
    assert improvement_status(stage.folder).live or improvement_status(stage.folder).status == "lost"


def test_a_driver_whose_lock_was_deleted_asks_and_records_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another driver can take the new lock, and would ask the same."""
    stage = staged(tmp_path, monkeypatch, rounds=1)
    assert run_lock.acquire(stage.folder.lock)
    stage.folder.lock.unlink()
    state = stage.drive()
    assert (state.status, state.step) == ("running", ""), "as it was: what becomes of it the next driver says"
    assert not stage.folder.start_answers.exists() and "its lock was deleted" in capfd.readouterr().err
    run_lock.release(stage.folder.lock)
    assert stage.drive().status == "done"


def test_a_stop_ends_a_judge_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may load a model for minutes, and its limit of time is ten of them."""
    (tmp_path / "mute.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'began')!r}).touch()\n"
        "time.sleep(20)\n"
        f"pathlib.Path({str(tmp_path / 'waited')!r}).touch()\n"
    )
    stage = staged(tmp_path, monkeypatch, judge=JudgeChoice("program", f"{sys.executable} {tmp_path}/mute.py"))
    monkeypatch.setattr(driver_module, "_STOP_POLL", 0.05)
    ended: list[str] = []
    driver = threading.Thread(target=lambda: ended.append(stage.drive().status))
    driver.start()
    until((tmp_path / "began").exists)
    stage.folder.control.joinpath("stop").touch()
    driver.join(60)
    assert ended == ["stopped"] and not (tmp_path / "waited").exists()


@pytest.mark.parametrize("name", ["result.json", "counts.json"])
@pytest.mark.parametrize("text", ["{", '{"run": "../x", "runs": ["../x"], "pairs": 0}'])
def test_a_damaged_file_of_a_round_is_made_again_of_what_is_beside_it(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked.jsonl"
    stage = staged(tmp_path, monkeypatch, judge=program(tmp_path, "one['answer'].count('help')", log=log), rounds=1)
    stage.drive()
    path, asked = stage.folder.round(1).path / name, log.read_text()
    before = json.loads(path.read_text())
    trained = (read_json(stage.folder.round(1).result) or {})["run"]  # the group, which is staged, knows its run
    monkeypatch.setattr(run_round, "train_round", lambda work, number: [store.find(trained)])
    path.write_text(text)
    state = stage.drive()
    assert (state.status, state.reason) == ("done", "its one round is done")
    assert json.loads(path.read_text()) == before
    assert log.read_text() == asked and set(stage.asked.values()) == {1}


def test_an_error_that_nobody_expected_is_a_failure_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a record the improvement would look as if its driver had been killed."""
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.folder.round(1).path.mkdir(parents=True)
    stage.folder.round(1).judgements.write_text('{"id": "p0", "score": "good", "answer": "x"}\n')
    state = stage.drive()
    assert state.status == "failed"
    assert state.reason.startswith("an error that dpo-tui did not expect: ValueError: could not convert string")
    assert "driver.log says where" in state.reason


def test_resumed_from_another_folder_it_judges_by_the_same_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "one['answer'].count('help')")
    choice = JudgeChoice("program", f"{sys.executable} judge.py")
    stage = staged(tmp_path, monkeypatch, judge=choice, rounds=1, folder=str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(driver_module, "SignalWait", NoSignals)
    assert driver_module.main([str(stage.folder.path)]) == 0
    assert improvement_status(stage.folder).status == "done"
