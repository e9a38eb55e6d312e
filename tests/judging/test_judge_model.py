"""A judge model's two replies: which verdict they make, what its bias counts, and what an endpoint is sent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.judging import judge_model
from dpo_tui.judging.judge_model import JudgeModelError, PositionBias, ask_twice, endpoint_judge

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.mark.parametrize(
    ("replies", "verdict", "bias"),
    [
        (["A", "B"], "left", PositionBias(asked=1)),
        (["B", "A"], "right", PositionBias(asked=1)),
        (["C", "C"], "tie", PositionBias(asked=1)),
        (["A", "A"], "tie", PositionBias(asked=1, contradicted=1, first=1)),
        (["B", "B"], "tie", PositionBias(asked=1, contradicted=1)),
        (["A", "C"], "tie", PositionBias(asked=1, contradicted=1)),
        (["C", "A"], "tie", PositionBias(asked=1, contradicted=1)),
        ([None, "A"], "tie", PositionBias(asked=1, unread=1)),
        (["C", None], "tie", PositionBias(asked=1, unread=1)),
        ([None, None], "tie", PositionBias(asked=1, unread=2)),
    ],
)
def test_a_verdict_counts_only_if_both_orders_agree(
    replies: list[str | None], verdict: str, bias: PositionBias
) -> None:
    """A reply that cannot be read contradicts nothing."""
    asked: list[str] = []
    coming = iter(replies)

    def judge(question: str) -> str:
        asked.append(question)
        mark = next(coming)
        return "I cannot say." if mark is None else f"Because. [[{mark}]]"

    found, read = ask_twice(judge, PROMPT, "the left answer", "the right answer")
    assert (found, read) == (verdict, replies)
    assert [question.index("left answer") < question.index("right answer") for question in asked] == [True, False]
    assert all("system: Be brief.\n\nuser: Why?" in question for question in asked)
    counted = PositionBias()
    counted.add(read, found)
    assert counted == bias


def test_the_bias_is_summed_up_in_a_sentence() -> None:
    assert PositionBias().summary() == "The judge model was asked nothing."
    assert PositionBias(asked=9, contradicted=4, first=3, unread=1).summary() == (
        "Asked in both orders, the judge model contradicted itself on 4 of 9 pairs (counted as ties), 3 times in "
        "favour of the answer shown first; 1 replies had no verdict."
    )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What would go out to the endpoint; its reply is ``reply`` of this dict."""
    seen: dict[str, Any] = {"reply": json.dumps({"choices": [{"message": {"content": "[[A]]"}}]})}

    def post(url: str, body: Any, *, headers: dict[str, str], timeout: float) -> str:
        seen.update(url=url, body=body, headers=headers, timeout=timeout)
        return str(seen["reply"])

    monkeypatch.setattr(judge_model, "post_json", post)
    monkeypatch.delenv("DPO_TUI_JUDGE_KEY", raising=False)
    yield seen


def test_an_endpoint_is_asked_without_chance_and_with_the_key_only_where_there_is_one(
    sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = endpoint_judge("http://localhost:8000/v1/", "the-model")
    assert ask("Which?") == "[[A]]"
    assert sent["url"] == "http://localhost:8000/v1/chat/completions"
    assert sent["body"] == {
        "model": "the-model",
        "messages": [{"role": "user", "content": "Which?"}],
        "temperature": 0,
        "max_tokens": 512,
    }
    assert sent["headers"] == {}
    monkeypatch.setenv("DPO_TUI_JUDGE_KEY", "secret")
    ask("Which?")
    assert sent["headers"] == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("reply", ["", "no JSON", "{}", '{"choices": []}', '{"choices": [{"message": null}]}', "[1]"])
def test_a_reply_in_another_form_is_an_error_that_says_how_to_go_on(sent: dict[str, Any], reply: str) -> None:
    sent["reply"] = reply
    with pytest.raises(JudgeModelError, match="did not answer") as refused:
        endpoint_judge("https://judge/v1", "m")("Which?")
    assert "the same command goes on" in (refused.value.hint or "")


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://judge/v1", ""])
def test_an_address_that_is_none_of_http_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(UsageError, match="expected an address such as"):
        endpoint_judge(url, "m")
