"""The files of a judging: what is kept when it grows, whose verdict can be taken back, what is next."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.judging.judging_files import JudgingPlan, VerdictLog, read_plan
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.preference_pairs import write_pairs
from tests.support.answered_run import answered_run
from tests.support.tiny import make_pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return make_pairs(tmp_path / "pairs.jsonl", 40)


def test_a_judging_that_grows_keeps_its_seed_its_length_and_its_verdicts(home: Path, pairs: Path) -> None:
    folder = answered_run(pairs, count=5)
    before = read_plan(folder)
    session = Session.open(folder, count=5)
    pair = session.next()
    assert before is not None and pair is not None
    assert (pair.number, pair.total, session.total) == (1, 5, 5)
    session.vote(pair, "left")
    larger = Session.open(folder, count=8, max_new_tokens=999)
    after = read_plan(folder)
    assert after is not None
    assert (after.seed, after.max_new_tokens) == (before.seed, before.max_new_tokens)
    assert list(after.prompts)[:5] == list(before.prompts) and larger.total == 8
    assert larger.tally().judged == 1
    assert len(larger.unanswered()) == 3
    assert Session.open(folder, count=2).total == 8, "fewer than before takes none away"
    following = larger.next()
    assert following is not None and (following.number, following.total) == (2, 8)


def test_a_side_that_wins_is_recorded_by_whose_answer_it_is(home: Path, pairs: Path) -> None:
    session = Session.open(answered_run(pairs))
    for verdict, side in (("left", 0), ("right", 1)):
        pair = session.next()
        assert pair is not None
        session.vote(pair, verdict, seconds=3)  # type: ignore[arg-type]
        record = session.verdicts()[-1]
        assert record["winner"] == session.sides(pair.id)[side]
        assert (record["verdict"], record["by"], record["seconds"]) == (verdict, "person", 3)
        shown = (pair.left, pair.right)[side]
        assert shown.startswith(record["winner"]), "the answer that was preferred is that model's"


def test_only_what_a_person_said_last_is_taken_back(home: Path, pairs: Path) -> None:
    session = Session.open(answered_run(pairs))
    given = []
    for by in ("person", "person", "model m"):
        pair = session.next()
        assert pair is not None
        session.vote(pair, "tie", by=by)
        given.append(pair.id)
    assert session.undo()
    assert [verdict["id"] for verdict in session.verdicts()] == [given[0], given[2]]
    again = session.next()
    assert again is not None and again.id == given[1], "it is asked about again"
    assert session.undo() and not session.undo()
    assert [verdict["id"] for verdict in Session.open(session.folder).verdicts()] == [given[2]], "after a restart too"


def test_a_verdict_given_again_replaces_the_earlier_and_becomes_the_latest(home: Path, pairs: Path) -> None:
    folder = answered_run(pairs)
    log = VerdictLog(folder)
    for key, winner in (("a", "base"), ("b", "tuned"), ("a", "tuned")):
        log.add(key, winner, by="person")
    for found in (log, VerdictLog(folder)):
        assert [(key, record["winner"]) for key, record in found.verdicts.items()] == [("b", "tuned"), ("a", "tuned")]


def test_answers_of_one_model_alone_are_no_pair_yet(home: Path, pairs: Path) -> None:
    folder = answered_run(pairs, count=3)
    place = folder.path / "judge" / "answers.jsonl"
    lines = place.read_text().splitlines()
    place.write_text("\n".join(lines[:-1]) + "\n")
    session = Session.open(folder, count=3)
    seen = 0
    while (pair := session.next()) is not None:
        session.vote(pair, "left")
        seen += 1
    assert seen == 2
    assert session.unanswered() == [json.loads(lines[-1])["id"]]


def test_a_session_that_was_stopped_asks_its_child_for_nothing(home: Path, pairs: Path) -> None:
    """The stop may come before there is a child to end."""
    session = Session.open(answered_run(pairs, count=3), count=3)
    asked: list[Any] = []

    class Tool:
        def ask(self, request: dict[str, Any]) -> Any:
            asked.append(request)
            return iter(())

    session.stop()
    assert list(session._request_answers(Tool(), session.unanswered())) == []  # type: ignore[arg-type]
    assert session.stopped and asked == []


@pytest.mark.parametrize(("held_out", "caution"), [(True, ""), (False, "Nothing was held out")])
def test_a_plan_of_an_earlier_version_says_itself_whether_its_prompts_were_trained_on(
    held_out: bool, caution: str
) -> None:
    document = {"seed": 7, "max_new_tokens": 9, "held_out": held_out, "prompts": [[{"role": "user", "content": "q"}]]}
    plan = JudgingPlan.of(document)
    assert (plan.seed, plan.max_new_tokens, plan.held_out, len(plan.prompts)) == ("7", 9, held_out, 1)
    assert plan.caution.startswith(caution) and bool(plan.caution) is bool(caution)


def test_pairs_are_written_a_line_each_in_their_own_letters(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    write_pairs(out, [{"prompt": "ä"}, {"prompt": "日本"}])
    assert out.read_text(encoding="utf-8") == '{"prompt": "ä"}\n{"prompt": "日本"}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
