"""The choice of a judge: kept as JSON, read with its types checked, and opened or refused in words."""

import json

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.judges.open_judge import check_judge, open_judge


def test_a_choice_comes_back_from_json_as_it_was() -> None:
    choice = JudgeChoice("endpoint", "http://localhost:1/v1", "m", "Prefer rhymes.", True, 80)
    assert JudgeChoice.from_document(json.loads(json.dumps(choice.to_document()))) == choice
    assert JudgeChoice.from_document({"kind": "program", "target": "x"}) == JudgeChoice("program", "x")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"target": "x"},
        {"kind": 1},
        {"kind": "program", "target": None},
        {"kind": "program", "allow_http": "yes"},
        {"kind": "program", "max_answer_chars": True},
        {"kind": "program", "max_answer_chars": 1.5},
        {"kind": "program", "key": "x"},
    ],
)
def test_what_is_no_choice_is_refused(document: object) -> None:
    with pytest.raises(UsageError, match="the choice of a judge"):
        JudgeChoice.from_document(document)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (JudgeChoice("oracle", "x"), "no judge of the kind 'oracle'"),
        (JudgeChoice("person"), "a person judges at the keys"),
        (JudgeChoice("program"), "needs to know which one"),
        (JudgeChoice("program", "sh 'x"), "cannot be read: No closing quotation"),
        (JudgeChoice("own-reward", "gpt2"), "the own reward is that of a run"),
        (JudgeChoice("endpoint", "http://localhost:1/v1"), "the name of the model at the endpoint is missing"),
    ],
)
def test_a_judge_that_cannot_be_opened_is_refused_in_words(choice: JudgeChoice, message: str) -> None:
    with pytest.raises(UsageError, match=message), open_judge(choice):
        pass


def test_what_can_be_refused_before_a_model_is_loaded_is() -> None:
    with pytest.raises(UsageError, match="plain http to another machine"):
        check_judge(JudgeChoice("endpoint", "http://judge/v1", "m"))
    with pytest.raises(UsageError, match="no judge of the kind"):
        check_judge(JudgeChoice("oracle", "x"))
    for kind in ("model", "reward-model", "own-reward"):
        check_judge(JudgeChoice(kind, "run:/nowhere"))
    check_judge(JudgeChoice("endpoint", "https://judge/v1", "m"))
