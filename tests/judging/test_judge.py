"""Judging: blind, kept, honest about how sure the result is; by a person's keys or by a model asked twice."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.cli.judge_options import model_or_run
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.hold_out_by_prompt import prompt_id
from dpo_tui.data.source.source import Source
from dpo_tui.errors import RunError, RunNotFoundError, UsageError
from dpo_tui.judging.endpoint.chat_endpoint import EndpointError
from dpo_tui.judging.judging_files import read_plan
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.rubrics import SHIPPED, resolve_rubric, rubric_hash
from dpo_tui.judging.win_rate import WinRate, wilson
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support.answered_run import answered_run
from tests.support.chat_server import Raw, chat_server, text_of, verdict
from tests.support.tiny import make_pairs
from tests.support.training import finished_run

PAIRS = 40


def judge(folder: RunFolder, keys: str, *more: str) -> Any:
    return CliRunner().invoke(cli, ["judge", folder.id, *more], input=keys, catch_exceptions=False)


def blind_keys(folder: RunFolder, better: Callable[[str], bool]) -> str:
    """The keys of a person who reads both answers and presses for the one that is better."""
    session = Session.open(folder)
    keys = ""
    while (pair := session.next()) is not None:
        keys += "l" if better(pair.left) else "r"
        session.vote(pair, "tie", by="rehearsal")
    (folder.path / "judge" / "verdicts.jsonl").unlink()
    return keys


def test_a_person_who_always_prefers_the_tuned_answers_gives_it_every_win(home: Path, tiny_pairs: Path) -> None:
    """Scripted keys; sides are mixed, the result names its interval, and equal answers need no verdict."""
    folder = answered_run(tiny_pairs, same=2)
    keys = blind_keys(folder, lambda answer: answer.startswith("tuned"))
    assert {"l", "r"} == set(keys)
    found = json.loads(judge(folder, keys, "--json").stdout)
    assert (found["tuned"], found["base"], found["same"]) == (18, 0, 2)
    assert found["rate"] == 1.0
    assert found["interval"][0] == pytest.approx(0.824, abs=1e-3)
    report = judge(folder, "")
    assert "the tuned model is better" in " ".join(report.stdout.split())
    assert max(map(len, report.stdout.splitlines())) <= 80
    assert "-n" not in report.stderr


def test_a_judging_that_decides_nothing_says_how_to_go_on(home: Path, tiny_pairs: Path) -> None:
    folder = answered_run(tiny_pairs)
    assert f"dpo-tui judge {folder.id} -n 40" in judge(folder, "t" * 20).stderr


def test_judging_goes_on_where_it_stopped_and_a_verdict_can_be_taken_back(home: Path, tiny_pairs: Path) -> None:
    """Interrupting loses nothing; the sides stay where they were."""
    folder = answered_run(tiny_pairs)
    first = json.loads(judge(folder, "l t x b", "--json").stdout)
    assert first["judged"] == 3
    assert (first["tie"], first["both_bad"]) == (1, 1)
    sides = [Session.open(folder).sides(key) for key in ("a", "b", "c")]
    assert json.loads(judge(folder, "u r q l", "--json").stdout)["judged"] == 3
    assert sides == [Session.open(folder).sides(key) for key in ("a", "b", "c")]
    with pytest.raises(UsageError, match="began with the seed 7"):
        judge(folder, "", "--seed", "8")


def test_the_page_does_not_give_away_whose_answer_is_whose(home: Path, tiny_pairs: Path) -> None:
    folder = answered_run(tiny_pairs)
    page = judge(folder, "q").stderr
    assert "LEFT" in page
    assert page.count("tuned 0") == page.count("base 0") == 1
    for word in ("tuned model", "base model", "reference", "policy"):
        assert word not in page
    left = [Session.open(folder, seed="7").sides(str(number))[0] for number in range(400)]
    assert 150 < left.count("tuned") < 250


def test_a_file_for_the_pairs_that_cannot_be_written_is_reported_before_judging(home: Path, tiny_pairs: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        judge(answered_run(tiny_pairs), "l", "--export", "nowhere/pairs.jsonl")


def test_verdicts_become_pairs_that_the_reader_takes(home: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    """Exportable as new preference pairs, with where they come from; ties are none."""
    folder = answered_run(tiny_pairs)
    keys = blind_keys(folder, lambda answer: answer.startswith("base"))
    out = tmp_path / "pairs.jsonl"
    judge(folder, f"{keys[:5]}t", "--export", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5
    assert all(row["source"] == {"run": folder.id, "winner": "base", "judged_by": "person"} for row in rows)
    loaded = load_pairs(Source(str(out)))
    assert not loaded.dropped
    assert all(str(pair.chosen[0]["content"]).startswith("base") for pair in loaded.pairs)


def test_the_interval_is_wilsons() -> None:
    """The roots of (p̂ − p)² = z² p (1 − p) / n, which define it."""
    for wins, n in ((0, 5), (3, 10), (10, 10), (60, 100)):
        for bound in wilson(wins, n):
            left = (wins / n - bound) ** 2
            assert left == pytest.approx(1.959964**2 * bound * (1 - bound) / n, abs=1e-9)
    assert WinRate().rate is None
    assert "too few to tell" in WinRate(tuned=3, base=2).summary()
    assert "the base model is better" in WinRate(tuned=2, base=20).summary()


def test_a_run_without_a_result_cannot_be_judged(home: Path, tiny_pairs: Path) -> None:
    folder = store.create("", name="new", devices=[])
    with pytest.raises(RunError, match="has no result yet"):
        judge(folder, "")


def better_tuned(question: str) -> str:
    """The reply of a judge that looks at the answers."""
    return verdict(question, "A" if question.index("tuned") < question.index("base ") else "B")


def test_a_model_is_asked_in_both_orders_and_its_bias_is_reported(home: Path, tiny_pairs: Path) -> None:
    """A judge that looks at the answers wins for one side; one that likes the first place is found out."""
    folder = answered_run(tiny_pairs)
    with chat_server(better_tuned) as server:
        options = ("--endpoint", server.url, "--endpoint-model", "m", "--rubric", "concise", "--json")
        found = json.loads(judge(folder, "", *options).stdout)
    assert (found["tuned"], found["base"]) == (20, 0)
    assert found["bias"]["contradicted"] == 0
    assert all(SHIPPED["concise"] in body["messages"][0]["content"] for body in server.bodies)
    assert all((body["temperature"], body["max_tokens"]) == (0, 512) for body in server.bodies)
    record = Session.open(folder).verdicts()[0]
    assert (record["by"], record["rubric"]) == ("model m", rubric_hash(SHIPPED["concise"]))
    assert sorted(record["orders"]) == ["A", "B"]

    biased = answered_run(tiny_pairs)
    with chat_server(lambda question: verdict(question, "A")) as server:
        done = judge(biased, "", "--endpoint", server.url, "--endpoint-model", "m")
    assert "contradicted itself on 20 of 20 pairs" in done.stdout
    assert "20 times in favour of the answer shown first" in done.stdout
    assert "20 ties" in done.stdout


def test_a_program_judges_by_scores_and_has_no_position_bias(home: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    score = tmp_path / "score.py"
    score.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    row = json.loads(line)\n"
        "    print(json.dumps({'id': row['id'], 'score': row['answer'].startswith('tuned') * 1.0}))\n"
    )
    folder = answered_run(tiny_pairs)
    found = json.loads(judge(folder, "", "--judge-command", f"{sys.executable} {score}", "--json").stdout)
    assert (found["tuned"], found["base"], found["bias"]) == (20, 0, None)
    record = Session.open(folder).verdicts()[0]
    assert record["by"] == f"program {sys.executable} {score}"
    assert sorted(record["scores"]) == [0.0, 1.0]


def test_a_judge_is_compared_with_the_person_and_changes_no_verdict(home: Path, tiny_pairs: Path) -> None:
    """κ over 20 pairs; below, the judge is not asked."""
    folder = answered_run(tiny_pairs)
    judge(folder, blind_keys(folder, lambda answer: answer.startswith("tuned")))
    verdicts = Session.open(folder).verdicts()
    with chat_server(better_tuned) as server:
        options = ("--endpoint", server.url, "--endpoint-model", "m", "--calibrate")
        assert "agrees with the person on 20 of 20 pairs: Cohen's κ 1.00" in " ".join(
            judge(folder, "", *options).stdout.split()
        )
        kept = json.loads((folder.path / "judge" / "calibration.json").read_text())
        assert (kept["judge"], kept["pairs"], kept["kappa"]) == ("model m", 20, 1.0)
        assert Session.open(folder).verdicts() == verdicts
        asked = len(server.bodies)
        assert Session.open(folder).undo()
        with pytest.raises(UsageError, match="from 20 pairs on, and you have judged 19"):
            judge(folder, "", *options)
        assert len(server.bodies) == asked
    with pytest.raises(UsageError, match="name the judge"):
        judge(folder, "", "--calibrate")


def test_a_rubric_is_drafted_from_the_persons_verdicts_and_shown(home: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    folder = answered_run(tiny_pairs)
    target = tmp_path / "mine.txt"
    with chat_server(lambda _: "- Answers of the tuned kind.") as server:
        options = ("--endpoint", server.url, "--endpoint-model", "m", "--draft-rubric", str(target))
        with pytest.raises(UsageError, match="there are 0"):
            judge(folder, "", *options)
        judge(folder, blind_keys(folder, lambda answer: answer.startswith("tuned"))[:12])
        done = judge(folder, "", *options)
    assert done.stdout == "- Answers of the tuned kind.\n"
    assert resolve_rubric(str(target)).text == "- Answers of the tuned kind."
    assert f"--rubric {target}" in done.stderr
    (question,) = (body["messages"][0]["content"] for body in server.bodies)
    better = re.findall(r"<better>\n(.*)\n</better>", question)
    assert len(better) == 10 and all(text.startswith("tuned") for text in better)
    assert Session.open(folder).tally().judged == 12


def test_the_result_of_a_run_can_judge(home: Path, tiny_pairs: Path) -> None:
    folder = answered_run(tiny_pairs)
    assert model_or_run(f"run:{folder.id}") == f"run:{folder.path}"
    assert model_or_run("org/model") == "org/model"
    with pytest.raises(RunNotFoundError):
        judge(folder, "", "--judge-model", "run:nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--judge-model", "m", "--reward-model", "r"), "choose one judge"),
        (("--endpoint", "https://x/v1"), "go together"),
        (("--endpoint-model", "m"), "go together"),
        (("--rubric", "concise"), "for a judge that is asked in words"),
        (("--rubric", "concise", "--judge-command", "x"), "for a judge that is asked in words"),
        (("--rubric", "nothing", "--judge-model", "m"), "no such rubric and no such file"),
        (("--endpoint", "http://judge/v1", "--endpoint-model", "m"), "plain http to another machine"),
        (("--endpoint", "https://u:hunter2@judge/v1", "--endpoint-model", "m"), "user name or password"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    home: Path, tiny_pairs: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        judge(answered_run(tiny_pairs), "", *options)
    assert "hunter2" not in str(refused.value)


def test_a_model_on_this_machine_is_asked_in_a_child(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """A real model with random weights says nothing that can be read: reported as that, never as a win."""
    folder = answered_run(tiny_pairs, count=2)
    options = ("-n", "2", "--judge-model", str(tiny_model), "--json")
    found = json.loads(judge(folder, "", *options).stdout)
    assert (found["judged"], found["tie"], found["rate"]) == (2, 2, None)
    assert found["bias"] == {"asked": 2, "contradicted": 0, "first": 0, "unread": 4}
    by = {verdict["by"] for verdict in Session.open(folder, count=2).verdicts()}
    assert by == {f"model {tiny_model}"}


def test_an_endpoint_that_fails_keeps_the_verdicts_so_far(home: Path, tiny_pairs: Path) -> None:
    """The same command goes on with the rest, and asks nothing twice."""
    folder = answered_run(tiny_pairs)
    with chat_server(better_tuned) as server:
        options = ("--endpoint", server.url, "--endpoint-model", "m")

        def failing(question: str) -> Raw:
            if int(re.search(r"tuned (\d+)", question)[1]) < 3:  # type: ignore[index]
                return Raw(body=text_of(better_tuned(question)))
            return Raw(400, body=b"no more")

        server.respond = failing
        with pytest.raises(EndpointError, match="did not answer: HTTP status 400 Bad Request: no more"):
            judge(folder, "", *options)
        judged = Session.open(folder).tally().judged
        assert judged == 3
        server.respond = None
        asked = len(server.bodies)
        judge(folder, "", *options)
        assert len(server.bodies) - asked == 2 * (20 - judged)
    assert Session.open(folder).tally().tuned == 20


@pytest.mark.usefixtures("tools_in_process")
def test_real_models_answer_are_judged_and_talked_with(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Base and tuned answer; a second look asks nothing again; then a chat of two turns."""
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.5, learning_rate=3e-2, max_steps=6)
    options = ("-n", "4", "--max-new-tokens", "6")
    done = judge(folder, "lrlr", *options, "--json")
    found = json.loads(done.stdout)
    assert found["judged"] == 4
    answers = (folder.path / "judge" / "answers.jsonl").read_text()
    assert len(answers.splitlines()) == 8
    assert "loading" not in judge(folder, "", *options).stderr
    assert (folder.path / "judge" / "answers.jsonl").read_text() == answers

    talk = CliRunner().invoke(
        cli, ["chat", folder.id, "--max-new-tokens", "5"], input="help me\nand then\n", catch_exceptions=False
    )
    assert talk.exit_code == 0
    assert talk.stdout.count("[base]") == talk.stdout.count("[tuned]") == 2


def test_verdicts_of_prompts_that_are_not_judged_any_more_do_not_count(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    make_pairs(data, 20)
    folder = answered_run(data, count=5)
    judge(folder, "lrlrl", "-n", "5")
    assert Session.open(folder, count=5).tally().judged == 5
    # The old prompts leave the data, and more are asked for.
    data.write_text("".join(line.replace('"prompt": "', '"prompt": "new ') for line in data.open()))
    session = Session.open(folder, count=6)
    tally = session.tally()
    assert (tally.judged, tally.of_other_prompts) == (0, 5)
    assert "5 earlier verdicts of prompts that are not judged any more" in tally.summary()
    assert len(session.unanswered()) == session.total
    assert session.verdicts() == []
    assert not session.undo()


def test_a_judging_of_an_earlier_version_is_planned_again_where_its_data_is_there(home: Path, tmp_path: Path) -> None:
    """Its prompts may have been trained on although it calls them held out."""
    data = make_pairs(tmp_path / "pairs.jsonl", 20)
    folder = answered_run(data, count=5)
    place = folder.path / "judge" / "plan.json"
    right = json.loads(place.read_text())
    wrong = {**right, "version": 1, "prompts": [[{"role": "user", "content": f"trained {n}"}] for n in range(5)]}
    place.write_text(json.dumps(wrong))
    assert Session.open(folder, count=5).total == 5
    assert json.loads(place.read_text()) == right
    place.write_text(json.dumps(wrong))
    data.unlink()
    assert Session.open(folder, count=5).prompt(prompt_id(wrong["prompts"][0])), "without its data it stays as it is"


def test_no_interval_begins_below_nothing() -> None:
    for n in range(1, 400):
        assert 0 <= wilson(0, n)[0] < 1e-12
        assert 1 - 1e-12 < wilson(n, n)[1] <= 1
        assert "-0%" not in WinRate(base=n).summary()


def test_judged_prompts_keep_the_tools_that_their_rows_have(home: Path, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    data = make_pairs(tmp_path / "pairs.jsonl", 20)
    rows = [json.loads(line) for line in data.open()]
    data.write_text("".join(json.dumps(row | {"tools": tools}) + "\n" for row in rows))
    folder = answered_run(data, count=5)
    plan = read_plan(folder)
    assert plan is not None
    assert plan.tools == dict.fromkeys(plan.prompts, tools)
    asked: list[dict[str, Any]] = []

    class Tool:
        def ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
            asked.append(request)
            return iter(())

    list(Session(folder, plan)._request_answers(Tool(), list(plan.prompts)))  # type: ignore[arg-type]
    assert [prompt["tools"] for prompt in asked[-1]["prompts"]] == [tools] * len(plan.prompts)
