"""Labelled answers in every form of datasets: recognised, divided by a threshold, or refused with a reason."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.data.label_balance import LabelBalance
from dpo_tui.data.load_labelled import LoadedLabelled, load_labelled
from dpo_tui.data.load_split import split_of
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, rows, user, write_lines

ASKED, GOOD, BAD = "Why is the sky blue?", "Because of scattering.", "No idea."
TALK = [user(ASKED), assistant(GOOD)]


def load(folder: Path, records: list[dict[str, Any]], **options: Any) -> LoadedLabelled:
    return load_labelled(Source(str(write_lines(folder / "rows.jsonl", records)), **options))


def answer(text: str, desirable: bool, row: int = 1, prompt: str = ASKED) -> LabelledAnswer:
    return LabelledAnswer(row, [user(prompt)], [assistant(text)], desirable)


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({"prompt": ASKED, "completion": GOOD, "label": True}, "TRL"),
        ({"prompt": [user(ASKED)], "completion": [assistant(GOOD)], "label": True}, "TRL's messages"),
        ({"question": ASKED, "response": GOOD, "thumbs": "up"}, "a thumb"),
        ({"prompt": ASKED, "response": GOOD, "feedback": "👍"}, "a sign"),
        ({"prompt": ASKED, "answer": GOOD, "label": "good"}, "a word"),
        ({"prompt": ASKED, "answer": GOOD, "label": " Thumbs_Up "}, "a word written otherwise"),
        ({"prompt": ASKED, "completion": GOOD, "label": 1}, "a number"),
        ({"prompt": ASKED, "completion": GOOD, "label": "1"}, "a number as text"),
        ({"messages": TALK, "label": True}, "ms-swift"),
        ({"messages": TALK, "label": "true"}, "ms-swift, as text"),
        ({"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": GOOD}], "kto_tag": True}, "LF"),
        ({"instruction": ASKED, "input": "", "output": GOOD, "kto_tag": True}, "LLaMA-Factory's Alpaca form"),
        ({"prompt": f"\n\nHuman: {ASKED}\n\nAssistant:", "completion": f" {GOOD}", "label": True}, "a transcript"),
    ],
)
def test_an_answer_with_a_verdict_is_read_in_every_form(tmp_path: Path, record: dict[str, Any], columns: str) -> None:
    loaded = load(tmp_path, [record])
    assert loaded.rows == [answer(GOOD, True)], columns
    assert loaded.format.startswith("labelled answers, ")


@pytest.mark.parametrize("value", [False, "down", "BAD", 0, -1, "-1", "0", "👎", "thumbs-down", "rejected", "no"])
def test_a_verdict_against_an_answer_is_read_as_such(tmp_path: Path, value: Any) -> None:
    assert load(tmp_path, [{"prompt": ASKED, "completion": BAD, "label": value}]).rows == [answer(BAD, False)]


def test_a_system_message_and_tools_are_kept(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    record = {"system": "Be brief.", "prompt": ASKED, "completion": GOOD, "label": False, "tools": [tool]}
    (found,) = load(tmp_path, [record]).rows
    assert found.prompt == [{"role": "system", "content": "Be brief."}, user(ASKED)]
    assert found.tools == [tool]


def test_only_the_last_answer_of_a_conversation_is_labelled(tmp_path: Path) -> None:
    talk = [user("Hello"), assistant("Good day"), *TALK]
    (found,) = load(tmp_path, [{"messages": talk, "label": True}]).rows
    assert found.prompt == talk[:3]
    assert found.completion == talk[3:]


def test_a_conversation_that_ends_with_a_question_has_no_answer(tmp_path: Path) -> None:
    loaded = load(tmp_path, [{"messages": TALK, "label": True}, {"messages": [*TALK, user("And?")], "label": True}])
    assert [(one.row, one.check) for one in loaded.dropped] == [(2, "empty-answer")]


def test_each_answer_of_a_pair_is_a_labelled_answer(tmp_path: Path) -> None:
    loaded = load(tmp_path, [{"prompt": ASKED, "chosen": GOOD, "rejected": BAD}])
    assert loaded.rows == [answer(GOOD, True), answer(BAD, False)]
    assert loaded.notes == ["each answer of a pair is a labelled answer, the better one desirable (1 row)"]


def test_the_middle_of_a_ranking_is_neither_desirable_nor_undesirable(tmp_path: Path) -> None:
    answers = [{"answer": text, "rank": rank} for rank, text in enumerate(("best", "middle", "worst"), start=1)]
    loaded = load(tmp_path, [{"prompt": ASKED, "answers": answers}])
    assert loaded.rows == [answer("best", True), answer("worst", False)]
    assert any("in the middle of a ranking" in note for note in loaded.notes)


def test_ratings_are_divided_by_the_threshold(tmp_path: Path) -> None:
    records = [{"prompt": ASKED, "response": f"answer {score}", "score": score} for score in (1, 3, 4, 5.0, "2")]
    loaded = load(tmp_path, records, rating_threshold=4)
    assert [one.desirable for one in loaded.rows] == [False, False, True, True, False]
    with pytest.raises(DataError, match="`score` rates the answers: rating_threshold says from which rating"):
        load(tmp_path, records)


def test_of_several_ratings_one_has_to_be_named(tmp_path: Path) -> None:
    record = {"prompt": ASKED, "response": GOOD, "helpfulness": 4, "verbosity": 0}
    with pytest.raises(DataError, match=r"several ratings \(helpfulness, verbosity\): label_field names the one"):
        load(tmp_path, [record], rating_threshold=3)
    assert load(tmp_path, [record], rating_threshold=3, label_field="helpfulness").rows[0].desirable
    assert not load(tmp_path, [record], rating_threshold=3, label_field="verbosity").rows[0].desirable


@pytest.mark.parametrize("label", [True, 1, "good"])
def test_a_threshold_of_ratings_is_not_taken_for_that_of_a_label_beside_them(tmp_path: Path, label: Any) -> None:
    record = {"prompt": ASKED, "response": GOOD, "label": label, "rating": 2}
    with pytest.raises(DataError, match=r"several ratings \(label, rating\): label_field names the one"):
        load(tmp_path, [record], rating_threshold=3)
    assert not load(tmp_path, [record], rating_threshold=3, label_field="rating").rows[0].desirable
    assert load(tmp_path, [record]).rows[0].desirable


@pytest.mark.parametrize("rating", [None, float("nan"), "1,5"])
def test_a_rating_that_is_no_number_is_named(tmp_path: Path, rating: Any) -> None:
    records = [{"prompt": ASKED, "response": GOOD, "rating": one} for one in (4, rating)]
    (problem,) = load(tmp_path, records, rating_threshold=3).dropped
    assert "`rating` holds no number" in problem.message


def test_columns_with_other_names_are_read_by_their_settings(tmp_path: Path) -> None:
    record = {"frage": ASKED, "antwort": GOOD, "daumen": "up"}
    with pytest.raises(DataError, match="no answer with a verdict, and no pair of answers"):
        load(tmp_path, [record])
    named = {"prompt_field": "frage", "completion_field": "antwort", "label_field": "daumen"}
    assert load(tmp_path, [record], **named).rows == [answer(GOOD, True)]
    with pytest.raises(DataError, match="there is no column `text`, which completion_field names"):
        load(tmp_path, [record], **{**named, "completion_field": "text"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([True, "maybe"], '`label` is "maybe", not a verdict'),
        ([True, None], "`label` is empty"),
        ([True, ["up"]], "`label` holds no verdict such as true or false"),
        ([True, {"up": 1}], "`label` holds no verdict such as true or false"),
    ],
)
def test_a_label_that_is_no_verdict_is_named_with_its_row(tmp_path: Path, values: list[Any], reason: str) -> None:
    records = [{"prompt": ASKED, "completion": GOOD, "label": value} for value in values]
    loaded = load(tmp_path, records)
    assert [one.desirable for one in loaded.rows] == [True]
    (problem,) = loaded.dropped
    assert problem.row == 2
    assert reason in problem.message


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 0, 5], "`label` is 5, and a verdict is 1, 0 or -1; for ratings, rating_threshold"),
        ([1, 0, -1], "`label` has 0 and -1: one of them may mean neither good nor bad"),
    ],
)
def test_numbers_that_may_mean_something_else_are_refused_for_all_rows(
    tmp_path: Path, values: list[int], reason: str
) -> None:
    records = [{"prompt": ASKED, "completion": GOOD, "label": value} for value in values]
    with pytest.raises(DataError, match=reason):
        load(tmp_path, records)
    assert load(tmp_path, records, rating_threshold=1).rows


def test_empty_texts_are_left_out(tmp_path: Path) -> None:
    records = [
        {"prompt": ASKED, "completion": GOOD, "label": True},
        {"prompt": ASKED, "completion": " ", "label": True},
        {"prompt": "", "completion": GOOD, "label": False},
    ]
    loaded = load(tmp_path, records)
    assert [(one.row, one.message) for one in loaded.dropped] == [
        (2, "the answer is empty"),
        (3, "the prompt is empty"),
    ]


def config(folder: Path, records: list[dict[str, Any]], **values: Any) -> Any:
    path = write_lines(folder / "rows.jsonl", records)
    return from_values({"model_name": "none", "dataset": str(path), "strategy": "kto", **values})


def labelled(count: int, label: Any = None) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{ASKED} {n // 2}", "completion": f"{GOOD} {n}", "label": n % 2 == 0 if label is None else label}
        for n in range(count)
    ]


def test_a_prompt_is_trained_on_or_held_out_as_in_training_on_pairs(tmp_path: Path) -> None:
    made = config(tmp_path, rows(30), eval_split=0.2)
    answers, pairs = (split_of(one, download=False) for one in (made, made.model_copy(update={"strategy": "dpo"})))
    assert [row.prompt for row in answers.held_out] == [row.prompt for row in pairs.held_out for _ in range(2)]
    assert (answers.total, answers.usable, len(answers.train)) == (30, 60, 2 * len(pairs.train))
    assert answers.untrained_prompts() == pairs.untrained_prompts()


@pytest.mark.parametrize(("label", "word"), [(True, "desirable"), (0, "undesirable")])
def test_labels_that_are_all_the_same_are_refused(tmp_path: Path, label: Any, word: str) -> None:
    with pytest.raises(DataError, match=f"all 12 answers are labelled {word}: there is nothing to tell them from"):
        split_of(config(tmp_path, labelled(12, label)), download=False)


def test_a_strategy_on_data_that_cannot_serve_it_is_refused_by_name(tmp_path: Path) -> None:
    """Labelled answers for DPO, demonstrations for KTO: each names the strategy that takes them."""
    with pytest.raises(DataError, match='strategy = "kto" takes these'):
        split_of(config(tmp_path, labelled(8), strategy="dpo"), download=False)
    demonstrations = [{"prompt": ASKED, "completion": GOOD}]
    with pytest.raises(DataError, match='rows without one are demonstrations, for strategy = "sft"'):
        split_of(config(tmp_path, demonstrations), download=False)
    scored = [{"prompt": ASKED, "response": GOOD, "rating": 4}]
    with pytest.raises(DataError, match='strategy = "kto" takes it with rating_threshold'):
        split_of(config(tmp_path, scored, strategy="dpo"), download=False)


def test_the_labels_are_counted_and_doubts_about_them_are_said(tmp_path: Path) -> None:
    records = [*labelled(200), *({**labelled(1)[0], "label": label} for label in (True, False))]
    notes = split_of(config(tmp_path, records, eval_split=0.0), download=False).notes
    assert notes == (
        "labels: 101 desirable and 101 undesirable answers",
        "labels: 1 answers are desirable in one row and undesirable in another",
    )


@pytest.mark.parametrize(
    ("counts", "weights", "said"),
    [
        ((100, 100), (1, 1), None),
        ((133, 100), (1, 1), None),
        ((1000, 1003), (1, 1), None),
        (
            (150, 100),
            (1, 1),
            r"is 1\.50:1.*desirable_weight from 0\.667 to 0\.889.*undesirable_weight from 1\.12 to 1\.5,",
        ),
        ((100, 120), (1, 1), r"is 0\.83:1.*desirable_weight from 1\.2 to 1\.6,"),
        ((100, 120), (1.25, 1), None),
        ((150, 100), (1, 1.2), None),
    ],
)
def test_an_imbalance_is_measured_with_the_weights_and_the_range_is_given(
    counts: tuple[int, int], weights: tuple[float, float], said: str | None
) -> None:
    import re

    settings = {"desirable_weight": weights[0], "undesirable_weight": weights[1]}
    found = LabelBalance(*counts).sentences(settings)[1:]
    assert [bool(re.search(said or "", one)) for one in found] == ([] if said is None else [True])


@pytest.mark.parametrize("counts", [(150, 100), (100, 120), (7, 900)])
@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", ["desirable_weight", "undesirable_weight"])
def test_a_weight_of_the_range_that_is_advised_is_in_balance(counts: tuple[int, int], end: str, name: str) -> None:
    import re

    (advice,) = (one for one in LabelBalance(*counts).sentences({}) if "TRL advises" in one)
    match = re.search(rf"(?:\s){name} from ([\d.]+) to ([\d.]+)", advice)
    assert match is not None
    value = float(match.group(1 if end == "low" else 2)) * (1.005 if end == "low" else 0.995)
    assert not any("TRL advises" in one for one in LabelBalance(*counts).sentences({name: value}))


def test_few_answers_of_a_label_are_named() -> None:
    assert LabelBalance(900, 40).sentences({"undesirable_weight": 20})[1:] == [
        "labels: only 40 answers are undesirable; collect more, so that they can be told from the others"
    ]
