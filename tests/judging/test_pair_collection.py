"""`pairs`: sampled answers, ranked, become preference pairs with provenance; interrupting loses nothing."""

import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError, UsageError
from dpo_tui.judging.endpoint.chat_endpoint import EndpointError
from dpo_tui.judging.judges.judge import AnswerToScore
from dpo_tui.judging.judges.scoring_judge import ScoringJudge
from dpo_tui.judging.pair_collection import PairCollection, SamplingSettings
from dpo_tui.judging.prompt_file import read_prompts
from dpo_tui.judging.rank_answers import rank_by_judge
from dpo_tui.judging.rubrics import SHIPPED, rubric_hash
from tests.support.chat_server import Raw, chat_server, text_of, verdict
from tests.support.training import finished_run

PROMPTS = [[{"role": "user", "content": f"question {number}"}] for number in range(3)]


def answered(folder: Path, *, answers: int = 3) -> PairCollection:
    """Three prompts, each with a few answers: `bad`, `good` and a repetition of one."""
    collection = PairCollection(folder, PROMPTS, SamplingSettings("m", n=answers))
    with (folder / "answers.jsonl").open("w") as file:
        for key in collection.prompts:
            for number, text in enumerate(["bad", "good", "good", "fair"][:answers]):
                file.write(json.dumps({"id": key, "number": number, "answer": text}) + "\n")
    return PairCollection(folder, PROMPTS, SamplingSettings("m", n=answers))


def test_ranking_by_hand_compares_the_best_so_far_with_the_next(tmp_path: Path) -> None:
    """Repetitions are left out; n different answers take n − 1 keys; the best stands beside the worst."""
    collection = answered(tmp_path / "work", answers=4)
    order = ["bad", "fair", "good"]
    keys = 0
    while (pair := collection.next()) is not None:
        collection.record_preference(pair, "left" if order.index(pair.left) > order.index(pair.right) else "right")
        keys += 1
    assert keys == 6
    made = collection.pairs()
    assert [pair["chosen"][0]["content"] for pair in made] == ["good"] * 3
    assert {pair["rejected"][0]["content"] for pair in made} <= {"bad", "fair"}, "both lost, to the best one"
    assert made[0]["source"]["model"] == "m"
    assert made[0]["source"]["ranked_by"] == "person"


def test_what_is_ranked_is_kept_and_a_prompt_can_be_passed_over(tmp_path: Path) -> None:
    """Interrupting loses nothing."""
    collection = answered(tmp_path / "work")
    first = collection.next()
    assert first is not None
    collection.record_preference(first, "right")
    again = answered_again(tmp_path / "work")
    second = again.next()
    assert second is not None
    assert second.id != first.id
    again.record_preference(second, "skip")
    assert [pair["prompt"] for pair in answered_again(tmp_path / "work").pairs()] == [PROMPTS[0]]
    with pytest.raises(UsageError, match="sampled in another way"):
        PairCollection(tmp_path / "work", PROMPTS, SamplingSettings("m", n=3, temperature=0.5))


def answered_again(folder: Path) -> PairCollection:
    return PairCollection(folder, PROMPTS, SamplingSettings("m", n=3))


def test_scores_rank_and_equal_scores_make_no_pair(tmp_path: Path) -> None:
    collection = answered(tmp_path / "work")
    assert len(collection.unscored()) == 6
    for key, answer in collection.unscored():
        even = key == next(iter(collection.prompts))
        collection.record_score(key, answer, 1.0 if even or answer == "good" else -1.0, "a reward model")
    assert not answered_again(tmp_path / "work").unscored()
    made = answered_again(tmp_path / "work").pairs()
    assert [pair["prompt"] for pair in made] == PROMPTS[1:]
    assert all(pair["source"]["ranked_by"] == "a reward model" for pair in made)


def test_what_is_shown_says_of_which_prompt_and_of_how_many(tmp_path: Path) -> None:
    collection = answered(tmp_path / "work")
    first = collection.next()
    assert first is not None
    assert (first.number, first.total, first.prompt) == (1, 3, PROMPTS[0])
    collection.record_preference(first, "left")
    second = collection.next()
    assert second is not None and (second.number, second.total, second.prompt) == (2, 3, PROMPTS[1])
    assert [(pair.number, pair.total) for pair in collection.uncompared_pairs()] == [(2, 3), (3, 3)]


def test_empty_answers_are_none(tmp_path: Path) -> None:
    collection = answered(tmp_path / "work")
    key = next(iter(collection.prompts))
    with (tmp_path / "work" / "answers.jsonl").open("a") as file:
        for number, text in enumerate(["", " \n", "great"], start=3):
            file.write(json.dumps({"id": key, "number": number, "answer": text}) + "\n")
    assert answered_again(tmp_path / "work").distinct_answers(key) == ["bad", "good", "great"]


def test_wins_less_losses_rank_where_there_are_no_scores(tmp_path: Path) -> None:
    """Of comparisons of every two, as a judge model makes them: the best against the worst."""
    collection = answered(tmp_path / "work", answers=4)
    order = ["bad", "fair", "good"]
    for pair in list(collection.uncompared_pairs()):
        collection.record_preference(pair, "left" if order.index(pair.left) > order.index(pair.right) else "right")
    made = collection.pairs()
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in made] == [("good", "bad")] * 3


@pytest.mark.parametrize(("margin", "rows"), [(0.0, 3), (1.9, 3), (2.0, 0)])
def test_scores_must_be_further_apart_than_the_margin(tmp_path: Path, margin: float, rows: int) -> None:
    collection = answered(tmp_path / "work")
    for key, answer in collection.unscored():
        collection.record_score(key, answer, 1.0 if answer == "good" else -1.0, "a reward model")
    assert len(collection.pairs(margin)) == rows


def test_lines_of_prompts_that_are_not_asked_about_are_passed_over_and_stay(tmp_path: Path) -> None:
    """Nothing was answered under the earlier plan, so that its folder may be taken over."""
    other = PairCollection(tmp_path / "work", [[{"role": "user", "content": "other"}]], SamplingSettings("m", n=3))
    answered(tmp_path / "work")
    rankings = tmp_path / "work" / "rankings.jsonl"
    rankings.write_text(json.dumps({"id": next(iter(other.prompts)), "skip": True, "by": "person"}) + "\n")
    again = answered_again(tmp_path / "work")
    assert again.next() is not None and list(again.prompts.values()) == PROMPTS
    assert len(rankings.read_text().splitlines()) == 1


def test_a_tie_is_not_asked_about_again(tmp_path: Path) -> None:
    collection = answered(tmp_path / "work")
    for pair in collection.uncompared_pairs():
        collection.record_tie(pair, "model x")
    again = answered_again(tmp_path / "work")
    assert not list(again.uncompared_pairs())
    assert again.pairs() == []


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("a.txt", "one\n\ntwo\none\n", 2),
        (
            "a.jsonl",
            '{"prompt": "one"}\n{"question": "two"}\n{"messages": [{"role": "user", "content": "three"}]}\n',
            3,
        ),
        ("a.json", '["one", {"instruction": "two"}]', 2),
    ],
)
def test_prompts_are_read_from_common_files(tmp_path: Path, name: str, text: str, count: int) -> None:
    (tmp_path / name).write_text(text)
    found = read_prompts(tmp_path / name)
    assert len(found) == count
    assert found[0] == [{"role": "user", "content": "one"}]


def test_an_answer_at_the_end_of_messages_is_no_part_of_the_prompt(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read_prompts(tmp_path / "a.jsonl") == [[{"role": "user", "content": "q"}]]


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", '{"x": 1}'), ("a.jsonl", "{"), ("a.txt", "\n"), ("b.txt", None)]
)
def test_a_file_without_prompts_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name) as caught:
        read_prompts(tmp_path / name)
    assert "Errno" not in caught.value.message


def test_a_model_that_could_not_answer_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    prompts = [[{"role": "user", "content": "hello"}]]
    for model in ("no-such-model", "the-right-one"):
        kept = PairCollection(tmp_path / "work", prompts, SamplingSettings(model, 2, 1.0, 1.0, 8, 1))
    assert kept.sampling.model == "the-right-one"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file/work: cannot be written: Not a directory"):
        PairCollection(tmp_path / "file" / "work", [], SamplingSettings("m", 2, 1.0, 1.0, 8, 1))


def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its plan has no address, its answers no sizes, its rankings no details."""
    folder = tmp_path / "work"
    answered(folder)
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["sampling"] == {
        "model": "m",
        "n": 3,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_new_tokens": 256,
        "seed": 42,
    }
    key = next(iter(plan["prompts"]))
    record = {"t": 1.0, "id": key, "better": "good", "worse": "bad", "by": "model x"}
    (folder / "rankings.jsonl").write_text(json.dumps(record) + "\n")
    (row,) = answered_again(folder).pairs()
    assert row["chosen"][0]["content"] == "good"
    assert row["source"] == plan["sampling"] | {
        "ranked_by": "model x",
        "margin": 2.0,
        "wins_less_losses": [1.0, -1.0],
    }


def test_scores_of_two_judges_are_not_set_beside_each_other(tmp_path: Path) -> None:
    collection = answered(tmp_path / "work")
    key, answer = collection.unscored()[0]
    collection.record_score(key, answer, 1.0, "reward model a")

    def score_in_order(answers: Sequence[AnswerToScore]) -> Iterator[float]:
        return iter([0.0] * len(answers))

    again = answered_again(tmp_path / "work")
    with pytest.raises(UsageError, match="holds scores by reward model a"):
        list(rank_by_judge(again, ScoringJudge("program b", score_in_order)))
    assert len(list(rank_by_judge(again, ScoringJudge("reward model a", score_in_order)))) == 5


LENGTH = """import json, sys
for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"id": row["id"], "score": len(row["answer"])}))
"""


def test_an_endpoint_answers_and_a_program_ranks(tmp_path: Path) -> None:
    """Rows say who answered, who ranked and by how much; an interrupted sampling asks for what is missing alone."""
    prompts, out, score = tmp_path / "prompts.txt", tmp_path / "made.jsonl", tmp_path / "score.py"
    prompts.write_text("first\nsecond\n")
    score.write_text(LENGTH)
    numbers = itertools.count(1)
    with chat_server(lambda text: text + "!" * next(numbers)) as server:
        options = ("-n", "3", "-o", str(out), "--answers-from", server.url, "--answers-model", "m")
        server.responses = [Raw(body=text_of("kept")), Raw(body=text_of("kept too"))] + [Raw(400, body=b"full")] * 9
        with pytest.raises(EndpointError, match="full"):
            run(str(prompts), *options, "--judge-command", f"{sys.executable} {score}")
        answers = tmp_path / "made.jsonl.work" / "answers.jsonl"
        assert len(answers.read_text().splitlines()) == 2
        server.responses = []
        asked = len(server.bodies)
        done = run(str(prompts), *options, "--judge-command", f"{sys.executable} {score}")
    assert done.exit_code == 0
    assert len(server.bodies) - asked == 4
    assert {"id", "number", "answer", "tokens", "cut"} <= json.loads(answers.read_text().splitlines()[0]).keys()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        texts = [row[side][0]["content"] for side in ("chosen", "rejected")]
        source = row["source"]
        assert source["scores"] == [len(text) for text in texts]
        assert source["margin"] == source["scores"][0] - source["scores"][1] > 0
        assert (source["model"], source["url"], source["temperature"]) == ("m", server.url, 1.0)
        assert source["ranked_by"] == f"program {sys.executable} {score}"
    assert len(load_pairs(Source(str(out))).pairs) == 2


def test_an_endpoint_that_does_not_sample_is_told(tmp_path: Path) -> None:
    """Such as transformers serve with a model whose own config does not: nothing is left to compare."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("first\nsecond\n")
    with chat_server(lambda text: text) as server:
        options = ("-n", "3", "-o", str(tmp_path / "made"), "--answers-from", server.url, "--answers-model", "m")
        with pytest.raises(DataError, match="m gave the same answer each time, to every prompt"):
            run(str(prompts), *options, "--judge-command", "true")
    assert answered(tmp_path / "work").is_without_choice() is False


def test_a_judge_model_ranks_by_a_rubric(tmp_path: Path) -> None:
    """Every two are asked about in both orders; rows have the hash of the rubric."""

    def longer(question: str) -> str:
        first, second = re.findall(r"<answer \w+>\n(.*)\n</answer", question)
        return verdict(question, "A" if len(first) > len(second) else "B")

    prompts, out = tmp_path / "prompts.txt", tmp_path / "made.jsonl"
    prompts.write_text("first\nsecond\n")
    numbers = itertools.count(1)
    with chat_server(lambda text: text + "!" * next(numbers)) as server, chat_server(longer) as judge:
        options = ("-n", "3", "-o", str(out), "--answers-from", server.url, "--answers-model", "m")
        done = run(str(prompts), *options, "--endpoint", judge.url, "--endpoint-model", "j", "--rubric", "concise")
    assert "contradicted itself on 0 of 6 pairs" in done.stderr
    assert len(judge.bodies) == 12
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"])
        assert (row["source"]["wins_less_losses"], row["source"]["margin"]) == ([2.0, -2.0], 4.0)
        assert (row["source"]["ranked_by"], row["source"]["rubric"]) == ("model j", rubric_hash(SHIPPED["concise"]))
    record = json.loads((tmp_path / "made.jsonl.work" / "rankings.jsonl").read_text().splitlines()[0])
    assert sorted(record["orders"]) == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say who answers"),
        (("--model", "m", "--answers-from", "https://x/v1", "--answers-model", "m"), "say who answers"),
        (("--answers-from", "https://x/v1"), "go together"),
        (("--answers-from", "http://x/v1", "--answers-model", "m"), "--answers-from: .* plain http"),
        (("--answers-from", "https://u:hunter2@x/v1", "--answers-model", "m"), "user name or password"),
        (
            ("--answers-from", "https://x/v1", "--answers-model", "m", "--own-reward"),
            "--own-reward needs --model run:ID",
        ),
        (("--model", "m", "--reward-model", "r", "--judge-model", "j"), "choose one judge"),
        (("--model", "m", "--judge-command", "/nowhere/score"), "no such program"),
        (("--model", "m", "--endpoint", "http://x/v1", "--endpoint-model", "j"), "--endpoint: .* plain http"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    """Before anything is written: an address may hold a password."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("first\n")
    with pytest.raises(UsageError, match=message):
        run(str(prompts), "-o", str(tmp_path / "made.jsonl"), *options)
    assert list(tmp_path.iterdir()) == [prompts]


def run(*arguments: str, keys: str = "") -> Any:
    return CliRunner().invoke(cli, ["pairs", *arguments], input=keys, catch_exceptions=False)


@pytest.mark.usefixtures("tools_in_process")
def test_a_real_run_answers_and_its_own_reward_ranks(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """Sampled by the tuned model, ranked by β·(log π − log π_ref), read back by our own reader."""
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.0, learning_rate=3e-2, max_steps=4)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("please help me\nreset my password\n")
    out = tmp_path / "made.jsonl"
    options = ("--model", f"run:{folder.id}", "-n", "3", "-o", str(out), "--max-new-tokens", "6")
    stopped = run(str(prompts), *options, keys="l")
    assert "the same command goes on" in stopped.stderr
    assert not out.exists()
    done = run(str(prompts), *options, "--own-reward")
    assert done.exit_code == 0
    assert "answers the prompts" not in done.stderr, "they were answered before"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2
    assert len({row["source"]["ranked_by"] for row in rows}) == 1
    assert len(load_pairs(Source(str(out))).pairs) == 2
    scores = [json.loads(line) for line in (tmp_path / "made.jsonl.work" / "rankings.jsonl").read_text().splitlines()]
    for row in rows:
        mine = {one["answer"]: one["score"] for one in scores if "score" in one}
        assert mine[row["chosen"][0]["content"]] > mine[row["rejected"][0]["content"]]


def test_a_reward_model_scores_answers(tiny_model: Path, tmp_path: Path) -> None:
    """A classifier with one output; its number is what plain transformers gives."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from dpo_tui.errors import TrainingError
    from dpo_tui.train.tools.score import Scorer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for labels in (1, 2):
        config = AutoConfig.from_pretrained(tiny_model, num_labels=labels, pad_token_id=0)
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / str(labels))
        tokenizer.save_pretrained(tmp_path / str(labels))
    messages: list[dict[str, Any]] = []
    scorer = Scorer()
    scorer.work({"do": "load-reward", "model": str(tmp_path / "1")}, lambda kind, message: None)
    item = {"id": "x", "messages": [{"role": "user", "content": "help"}], "answer": "thank you"}
    scorer.work({"do": "score", "items": [item]}, lambda kind, message: messages.append(message))
    talk = [*item["messages"], {"role": "assistant", "content": "thank you"}]  # type: ignore[misc]
    inputs = tokenizer(tokenizer.apply_chat_template(talk, tokenize=False), return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "1", dtype=torch.float32)
    with torch.no_grad():
        assert messages[0]["value"] == pytest.approx(float(model(**inputs).logits[0, 0]), abs=1e-5)
    with pytest.raises(TrainingError, match="a reward model gives one"):
        Scorer().work({"do": "load-reward", "model": str(tmp_path / "2")}, lambda kind, message: None)
