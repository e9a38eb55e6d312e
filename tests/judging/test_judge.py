"""Judging: blind, kept, honest about how sure the result is; by a person's keys or by a model asked twice."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.hold_out_by_prompt import prompt_id
from dpo_tui.data.source.source import Source
from dpo_tui.errors import RunError, UsageError
from dpo_tui.judging.judge_model import JudgeModelError, endpoint_judge, judge_by_model, read_verdict
from dpo_tui.judging.judging_files import read_plan
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.win_rate import WinRate, wilson
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support.answered_run import answered_run
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


@pytest.fixture
def judge_server() -> Iterator[Callable[[Callable[[str], str]], str]]:
    """An OpenAI-compatible endpoint whose model is a function; the address of one that listens."""
    servers: list[ThreadingHTTPServer] = []

    def serve(model: Callable[[str], str]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    text = model(body["messages"][0]["content"])
                except ConnectionError:
                    return  # hang up
                reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
                self.send_response(200 if self.path == "/v1/chat/completions" else 404)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield serve
    for server in servers:
        server.shutdown()


def test_a_model_is_asked_in_both_orders_and_its_bias_is_reported(
    home: Path, tiny_pairs: Path, judge_server: Callable[[Callable[[str], str]], str]
) -> None:
    """A judge that looks at the answers wins for one side; one that likes the first place is found out."""

    def fair(question: str) -> str:
        return "Because. [[A]]" if question.index("tuned") < question.index("base ") else "[[A]] no, [[B]]"

    folder = answered_run(tiny_pairs)
    options = ("--endpoint", judge_server(fair), "--endpoint-model", "m", "--json")
    found = json.loads(judge(folder, "", *options).stdout)
    assert (found["tuned"], found["base"]) == (20, 0)
    assert found["bias"]["contradicted"] == 0

    biased = answered_run(tiny_pairs)
    done = judge(biased, "", "--endpoint", judge_server(lambda _: "[[A]]"), "--endpoint-model", "m")
    assert "contradicted itself on 20 of 20 pairs" in done.stdout
    assert "20 times in favour of the answer shown first" in done.stdout
    assert "20 ties" in done.stdout


def test_a_model_on_this_machine_is_asked_in_a_child(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """A real model with random weights says nothing that can be read: reported as that, never as a win."""
    folder = answered_run(tiny_pairs, count=2)
    options = ("-n", "2", "--judge-model", str(tiny_model), "--json")
    found = json.loads(judge(folder, "", *options).stdout)
    assert (found["judged"], found["tie"], found["rate"]) == (2, 2, None)
    assert found["bias"] == {"asked": 2, "contradicted": 0, "first": 0, "unread": 4}
    by = {verdict["by"] for verdict in Session.open(folder, count=2).verdicts()}
    assert by == {f"model {tiny_model}"}


def test_an_endpoint_that_fails_keeps_the_verdicts_so_far(
    home: Path, tiny_pairs: Path, judge_server: Callable[[Callable[[str], str]], str]
) -> None:
    asked: list[str] = []

    def failing(question: str) -> str:
        asked.append(question)
        if len(asked) > 6:
            raise ConnectionResetError
        return "[[B]]"

    folder = answered_run(tiny_pairs)
    session = Session.open(folder)
    with pytest.raises(JudgeModelError, match="did not answer"):
        list(judge_by_model(session, endpoint_judge(judge_server(failing), "m"), "m"))
    assert Session.open(folder).tally().judged == 3


def test_the_key_of_an_endpoint_is_not_sent_on_to_where_it_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_TUI_JUDGE_KEY", "secret")
    seen: dict[str, str | None] = {}

    class Redirecting(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen[self.path] = self.headers["Authorization"]
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()

        do_POST = do_GET = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(JudgeModelError, match=r"it redirects to http://127.0.0.1:\d+/elsewhere"):
            endpoint_judge(f"http://127.0.0.1:{server.server_port}/v1", "m")("Which is better?")
    finally:
        server.shutdown()
    assert seen == {"/v1/chat/completions": "Bearer secret"}


@pytest.mark.parametrize(("reply", "verdict"), [("[[A]]", "A"), ("x [[ B ]]", "B"), ("A is better", None), ("", None)])
def test_a_reply_without_a_verdict_is_none(reply: str, verdict: str | None) -> None:
    assert read_verdict(reply) == verdict


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
