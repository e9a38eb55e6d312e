"""What is seen in answers: refusals and not apologies, repetition, formatting; what is left out of pairs; warnings."""

import pytest

from dpo_tui.improve.answer_features import features_of, is_refusal, repetition
from dpo_tui.improve.drift_warnings import drift_warnings
from dpo_tui.improve.rounds.round_pairs import judge_agreement, worths_of
from dpo_tui.improve.rounds.usable_answers import usable_answers
from dpo_tui.judging.answer_sources.answer_source import SampledAnswer


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "I cannot provide instructions for that.",
        "As an AI language model, I don't have opinions on this.",
        "Unfortunately, I am not able to share that.",
        "I apologize, but I won't answer.",
    ],
)
def test_a_refusal_is_one(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that your parcel is late. Send us the number and we will trace it.",
        "I can't wait to help you!",
        "Sorry about the delay: press the button for ten seconds.",
        "You cannot help everyone, but you can try.",
        "I cannot see a charge on your account; it was refunded on Monday.",
    ],
)
def test_help_that_begins_with_an_apology_or_a_cannot_is_none(text: str) -> None:
    assert not is_refusal(text)


def test_repetition_is_the_share_of_sequences_of_four_words_that_stood_before() -> None:
    assert repetition("one two three four five six seven eight nine ten eleven twelve") == 0
    # 13 sequences of "a b c d" repeated four times, of which 4 are different.
    assert repetition("a b c d " * 4) == pytest.approx(1 - 4 / 13)
    assert repetition("no no no") == 0  # too short to tell


def test_features_are_means_over_the_answers() -> None:
    found = features_of(["one two", "- a list\n- of two things and more"], [False, True])
    assert found is not None
    assert (found.answers, found.words, found.formatted, found.cut, found.refusals) == (2, 4.5, 0.5, 0.5, 0)
    assert features_of([], []) is None


def test_answers_that_teach_the_wrong_thing_are_left_out_with_their_reason() -> None:
    texts = ["good", " ", "cut off in", "I'm sorry, but I can't help.", "good", "better"]
    answers = [SampledAnswer("p", number, text, number == 2, 1) for number, text in enumerate(texts)]
    found = usable_answers(reversed(answers))
    assert found.answers == {"p": ["good", "better"]}
    assert found.dropped == {"empty": 1, "cut by the token limit": 1, "refusal": 1, "duplicate": 1}


def test_worth_is_the_score_or_wins_less_losses() -> None:
    judgements = [
        {"id": "p", "answer": "a", "score": 2},
        {"id": "p", "answer": "b", "score": -1.5},
        {"id": "q", "left": "x", "right": "y", "verdict": "right"},
        {"id": "q", "left": "x", "right": "z", "verdict": "tie"},
        {"id": "q", "left": "y", "right": "z", "verdict": "left"},
    ]
    assert worths_of(judgements) == {"p": {"a": 2.0, "b": -1.5}, "q": {"x": -1.0, "y": 2.0, "z": -1.0}}


def test_a_judge_contradicts_itself_where_the_same_place_wins_in_both_orders() -> None:
    orders = [["A", "B"], ["A", "A"], ["B", "B"], ["C", "C"], [None, "A"], ["A", "C"]]
    found = judge_agreement([{"orders": one} for one in orders])
    assert found == {"asked": 6, "contradicted": 2, "first": 1, "unread": 1}


def _features(**changes: float) -> dict[str, float]:
    return {"words": 50.0, "refusals": 0.0, "repetition": 0.02, "formatted": 0.1, "cut": 0.0} | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": 70.0}, "answers are 1.4 times as long as at the start (50 to 70 words)"),
        ({"words": 30.0}, "answers are 60% as long as at the start (50 to 30 words)"),
        ({"refusals": 0.2}, "refusals have risen from 0% to 20% of the answers"),
        ({"repetition": 0.2}, "repetition has risen: 20% of the sequences of four words"),
        ({"formatted": 0.6}, "formatting has changed: 60% of the answers have lists"),
        ({"cut": 0.3}, "30% of the answers reach the token limit, 0% at the start"),
    ],
)
def test_what_a_judge_may_reward_by_mistake_is_said(changes: dict[str, float], said: str) -> None:
    (warning,) = drift_warnings(_features(), {"features": _features(**changes), "counts": {}})
    assert said in warning


def test_small_changes_are_not_worth_a_word() -> None:
    now = _features(words=60.0, refusals=0.1, repetition=0.1, formatted=0.35, cut=0.1)
    assert drift_warnings(_features(), {"features": now, "counts": {"chosen_longer": 60, "pairs": 100}}) == []


def test_a_judge_that_prefers_length_is_noticed_in_the_pairs() -> None:
    # Wilson's interval of 80 in 100 begins at 0.711, that of 78 at 0.689.
    found = {
        longer: drift_warnings(None, {"features": None, "counts": {"chosen_longer": longer, "pairs": 100}})
        for longer in (78, 80)
    }
    assert found[78] == []
    assert found[80] == ["in 80 of 100 pairs the chosen answer is the longer one: the judge may prefer length"]
