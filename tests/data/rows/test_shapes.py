"""The layouts of the public preference sets give the right answer as the better one, in every container."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.repair.repair import repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from tests.support.data_files import assistant, user, write_lines


def parts(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages whose content is a list of parts, as Chatbot Arena's newer sets have them."""
    empty = {"type": "text", "image": None, "mimeType": None}
    return [{**one, "content": [{**empty, "text": one["content"]}]} for one in messages]


Q, G, B = "Why is the sky blue?", "Because air scatters short waves more.", "It just is."
ASKED = [user(Q)]
GOOD, BAD = [user(Q), assistant(G)], [user(Q), assistant(B)]
EARLIER = [user("Hi"), assistant("Hello!")]
TWO = {"prompt": Q, "response_1": B, "response_2": G}
SIDES = {"prompt": Q, "response_a": B, "response_b": G}
ARENA = {"id": 1, "model_a": "x", "model_b": "y", "prompt": json.dumps([Q])}
ARENA |= {"response_a": json.dumps([B]), "response_b": json.dumps([G])}
HELPSTEER = {"domain": "general", "context": ASKED, "response1": B, "response2": G}
SUMMARY = {"info": {"id": "1", "post": "A long story.", "title": "Help", "subreddit": "advice"}, "worker": "w"}
SUMMARY |= {"summaries": [{"text": B, "policy": "sup", "note": None}, {"text": G, "policy": "ref", "note": None}]}
SUMMARY_PROMPT = [user("SUBREDDIT: r/advice\n\nTITLE: Help\n\nPOST: A long story.\n\nTL;DR:")]
WEBGPT = {
    "question": {"dataset": "eli5", "id": "1", "full_text": Q},
    "answer_0": B,
    "answer_1": G,
    "tokens_0": {"n": [1]},
}
SHP = {"history": Q, "human_ref_A": B, "human_ref_B": G, "score_ratio": 4.5}
SWIFT = {"query": Q, "response": G, "rejected_response": B}
ORCA = {"system": "", "input": Q, "chosen": G, "rejected": B, "rating": [9.0, 3.0], "generations": [G, B]}
FEEDBACK = [
    {"model": "m", "response": B, "overall_score": 2.0},
    {"model": "n", "response": "So so.", "overall_score": 5.0},
]
FEEDBACK += [{"model": "o", "response": G, "overall_score": 8.5}]

# A layout, a row of it in which G is better than B, the prompt, and a row of it that is a tie, if it knows ties.
LAYOUTS: list[tuple[str, dict[str, Any], list[Message], dict[str, Any] | None]] = [
    ("ms-swift, query", SWIFT, ASKED, None),
    ("ms-swift, history", {**SWIFT, "history": [["Hi", "Hello!"]]}, [*EARLIER, *ASKED], None),
    ("ms-swift, system", {**SWIFT, "system": "Short."}, [{"role": "system", "content": "Short."}, *ASKED], None),
    ("ms-swift, messages and a text", {"messages": EARLIER + GOOD, "rejected_response": B}, EARLIER + ASKED, None),
    ("ms-swift, two conversations", {"messages": GOOD, "rejected_messages": BAD}, ASKED, None),
    (
        "HelpSteer 2 preferences",
        {**TWO, "preference_strength": 3, "preference_statement": "x"},
        ASKED,
        {**TWO, "preference_strength": 0, "preference_statement": "x"},
    ),
    ("HelpSteer 2, first", {"prompt": Q, "response_1": G, "response_2": B, "preference_strength": -1}, ASKED, None),
    ("HelpSteer 3", {**HELPSTEER, "overall_preference": 2}, ASKED, {**HELPSTEER, "overall_preference": 0}),
    ("HelpSteer 3, first", {**HELPSTEER, "response1": G, "response2": B, "overall_preference": -3}, ASKED, None),
    ("HelpSteer 3 edits", {"context": ASKED, "good_edited_response": G, "bad_edited_response": B}, ASKED, None),
    (
        "arena 55k",
        {**ARENA, "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
        ASKED,
        {**ARENA, "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1},
    ),
    (
        "arena 140k",
        {
            "winner": "model_b",
            "conversation_a": parts(BAD),
            "conversation_b": parts(GOOD),
        },
        ASKED,
        {"winner": "both_bad", "conversation_a": parts(BAD), "conversation_b": parts(GOOD)},
    ),
    (
        "arena 33k",
        {"winner": "model_a", "conversation_a": GOOD, "conversation_b": BAD},
        ASKED,
        {"winner": "tie (bothbad)", "conversation_a": GOOD, "conversation_b": BAD},
    ),
    ("WSDM arena", {**SIDES, "winner": "model_b"}, ASKED, {**SIDES, "winner": "tie"}),
    ("winner by the model's name", {**SIDES, "model_a": "x", "model_b": "gpt-4", "winner": "gpt-4"}, ASKED, None),
    ("MT-bench verdicts", {**SIDES, "verdict": "[[B]]"}, ASKED, {**SIDES, "verdict": "[[C]]"}),
    ("Arena-Hard verdicts", {**SIDES, "label": "B>>A"}, ASKED, {**SIDES, "label": "A=B"}),
    ("the better answer itself", {**TWO, "preferred_response": G}, ASKED, None),
    ("chosen names a column", {**TWO, "chosen": "response_2"}, ASKED, None),
    ("models before the noun", {"prompt": Q, "model_a_response": G, "model_b_response": B, "winner": "A"}, ASKED, None),
    ("UltraInteract", {"task": "x", "trajectory": ASKED, "chosen": G, "rejected": B, "parent_id": 2}, ASKED, None),
    ("UltraFeedback", {"instruction": Q, "models": ["m"], "completions": FEEDBACK}, ASKED, None),
    ("stack-exchange-paired", {"qid": 1, "question": Q, "response_j": G, "response_k": B}, ASKED, None),
    (
        "stack-exchange-preferences",
        {"question": Q, "answers": [{"pm_score": 1, "text": B}, {"pm_score": 4, "text": G}]},
        ASKED,
        {"question": Q, "answers": [{"pm_score": 2, "text": B}, {"pm_score": 2, "text": G}]},
    ),
    ("webgpt", {**WEBGPT, "score_0": -0.5, "score_1": 0.5}, ASKED, {**WEBGPT, "score_0": 0.0, "score_1": 0.0}),
    ("TL;DR comparisons", {**SUMMARY, "choice": 1}, SUMMARY_PROMPT, None),
    (
        "distilabel ratings",
        {"instruction": Q, "generations": [B, G], "ratings": [2.0, 4.0], "generation": None},
        ASKED,
        {"instruction": Q, "generations": [B, G], "ratings": [4.0, 4.0], "generation": None},
    ),
    ("distilabel ranks", {"instruction": Q, "generations": [B, G], "ranks": [2, 1]}, ASKED, None),
    ("rank lists", {"instruction": Q, "input": "", "output": [G, "So so.", B]}, ASKED, None),
    (
        "step-DPO",
        {"prompt": Q, "initial_reason_steps": "First", "chosen": G, "rejected": B, "answer": "12"},
        ASKED,
        None,
    ),
    ("distilabel orca", {**ORCA, "status": "swapped"}, ASKED, {**ORCA, "status": "tie"}),
    ("SHP", {**SHP, "labels": 0, "score_A": 2, "score_B": 9}, ASKED, None),
    ("Nectar", {"prompt": Q, "answers": [{"answer": B, "rank": 2.0}, {"answer": G, "rank": 1.0}]}, ASKED, None),
    (
        "PKU-SafeRLHF",
        {"prompt": Q, "response_0": B, "response_1": G, "better_response_id": 1, "safer_response_id": 0},
        ASKED,
        None,
    ),
    (
        "alpaca-farm",
        {"instruction": "Why is", "input": "it so?", "output_1": B, "output_2": G, "preference": 2},
        [],
        None,
    ),
    (
        "AlpacaEval",
        {"instruction": Q, "output_1": B, "output_2": G, "preference": 1.93},
        ASKED,
        {"instruction": Q, "output_1": B, "output_2": G, "preference": 1.5},
    ),
    ("capitals", {"Prompt": Q, "Chosen": G, "Rejected": B}, ASKED, None),
    ("spaces", {"User Prompt": Q, "Chosen Response": G, "Rejected Response": B}, ASKED, None),
    ("camels", {"systemPrompt": "", "userPrompt": Q, "chosenAnswer": G, "rejectedAnswer": B}, ASKED, None),
    ("better and worse", {"question": Q, "better_answer": G, "worse_answer": B}, ASKED, None),
    ("LLaMA-Factory's example", {"question": Q, "pos_answer": G, "neg_answer": B}, ASKED, None),
    ("y_w and y_l", {"prompt": Q, "response_w": G, "response_l": B}, ASKED, None),
    ("positions in a list", {"prompt": Q, "responses": ["So so.", B, G], "chosen": 2, "rejected": 1}, ASKED, None),
    ("one position", {"prompt": Q, "answers": [B, G], "better": 1}, ASKED, None),
    ("reward scores", {"instruction": Q, "responses": [B, G, "So so."], "reward_scores": [1.5, 3.5, 2.0]}, ASKED, None),
    ("OpenAssistant", {"prompt": Q, "replies": [{"text": B, "rank": 1}, {"text": G, "rank": 0}]}, ASKED, None),
    (
        "Capybara",
        {
            "conversation": [{"input": "Hi", "output": "Hello!"}, {"input": Q, "output": None}],
            "chosen": EARLIER + GOOD,
            "rejected": EARLIER + BAD,
        },
        EARLIER + ASKED,
        None,
    ),
    ("lists of turns", {"prompt": [Q], "chosen": [G], "rejected": [B]}, ASKED, None),
]
CONTAINERS = ["jsonl", "jsonl with text", "csv", "parquet"]


def as_text(value: Any) -> Any:
    """A list or an object as JSON text, as tables have it."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def write(folder: Path, records: list[dict[str, Any]], container: str = "jsonl") -> Path:
    path = folder / f"data.{container.partition(' ')[0]}"
    flat = [{name: as_text(value) for name, value in record.items()} for record in records]
    if container == "csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(flat[0]))
            table.writeheader()
            table.writerows(flat)
    elif container == "parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        write_lines(path, records if container == "jsonl" else flat)
    return path


def load(folder: Path, records: list[dict[str, Any]], container: str = "jsonl", **options: Any) -> LoadedPairs:
    return load_pairs(Source(str(write(folder, records, container)), **options))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("record", "prompt", "tie"), [one[1:] for one in LAYOUTS], ids=[one[0] for one in LAYOUTS])
def test_a_layout_gives_the_better_answer_as_chosen_and_leaves_ties_out(
    tmp_path: Path, record: dict[str, Any], prompt: list[Message], tie: dict[str, Any] | None, container: str
) -> None:
    loaded = load(tmp_path, [record, *([tie] if tie else [])], container)
    (pair,) = loaded.pairs
    assert pair.prompt == (prompt or [user("Why is\n\nit so?")])
    assert [message["content"] for message in pair.chosen] == [G]
    assert [message["content"] for message in pair.rejected] == [B]
    assert [(one.row, one.check) for one in loaded.dropped] == ([(2, "tie")] if tie else [])
    assert ("1 of 2 rows are ties and are left out" in loaded.notes) is (tie is not None)


def test_conversations_in_lists_of_turns_are_put_together(tmp_path: Path) -> None:
    record = ARENA | {"prompt": json.dumps([Q, "More?"]), "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    record |= {"response_a": json.dumps([G, "Yes."]), "response_b": json.dumps([B, "No."])}
    (pair,) = load(tmp_path, [record]).pairs
    assert pair.prompt == ASKED
    assert pair.chosen == [assistant(G), user("More?"), assistant("Yes.")]
    assert pair.rejected == [assistant(B), user("More?"), assistant("No.")]


@pytest.mark.parametrize(
    ("answers", "check"), [('["a", "b"]', "missing-field"), ("[null]", "empty-answer"), ('["\\ud83d"]', "bad-json")]
)
def test_turns_that_do_not_fit_together_are_named(tmp_path: Path, answers: str, check: str) -> None:
    good = ARENA | {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    loaded = load(tmp_path, [good, {**good, "response_b": answers}])
    assert [(one.row, one.check) for one in loaded.dropped] == [(2, check)]


def test_text_that_only_looks_like_a_list_of_turns_stays_text(tmp_path: Path) -> None:
    record = {"prompt": '["b", "a"]', "chosen": '["a", "b"]', "rejected": '["b"]'}
    (pair,) = load(tmp_path, [record]).pairs
    assert (pair.prompt, pair.chosen) == ([user('["b", "a"]')], [assistant('["a", "b"]')])


def test_the_best_of_scored_answers_is_set_against_the_worst_and_all_pairs_on_request(tmp_path: Path) -> None:
    record = {"prompt": Q, "completions": FEEDBACK}
    loaded = load(tmp_path, [record])
    assert [(one.chosen[0]["content"], one.rejected[0]["content"]) for one in loaded.pairs] == [(G, B)]
    assert any('ranking_pairs = "all"' in note for note in loaded.notes)
    every = load(tmp_path, [record], ranking_pairs="all").pairs
    assert [(one.chosen[0]["content"], one.rejected[0]["content"]) for one in every] == [
        (G, "So so."),
        (G, B),
        ("So so.", B),
    ]


def test_ranked_answers_give_every_pair_and_the_outermost_on_request(tmp_path: Path) -> None:
    record = {"prompt": Q, "answers": [{"answer": name, "rank": number} for number, name in enumerate("abc", 1)]}
    assert len(load(tmp_path, [record]).pairs) == 3
    (pair,) = load(tmp_path, [record], ranking_pairs="best-worst").pairs
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("a", "c")


def test_answers_whose_score_is_nan_are_left_out_and_named(tmp_path: Path) -> None:
    nan = float("nan")
    records = [
        {"instruction": Q, "generations": [B, "So so.", G], "ratings": [1.0, nan, 5.0]},
        {"instruction": Q, "generations": [B, G], "ratings": [nan, 5.0]},
    ]
    loaded = load(tmp_path, records, "parquet")
    (pair,) = loaded.pairs
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == (G, B)
    (problem,) = loaded.dropped
    assert (problem.row, problem.check) == (2, "missing-field")
    assert "no number" in problem.message
    assert any(note.startswith("a number is NaN or infinite in 2 rows (1, 2)") for note in loaded.notes)


@pytest.mark.parametrize("ratings", [None, [4.0], "4, 5"])
def test_samples_without_their_ratings_are_never_taken_as_best_first(tmp_path: Path, ratings: Any) -> None:
    rated = {"instruction": Q, "responses": [B, G], "ratings": [1.0, 5.0]}
    loaded = load(tmp_path, [rated, {**rated, "ratings": ratings}])
    assert [pair.row for pair in loaded.pairs] == [1]
    assert [(one.row, one.check) for one in loaded.dropped] == [(2, "missing-field")]


def test_samples_in_no_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`chosen` and `rejected` are missing"):
        load(tmp_path, [{"prompt": Q, "responses": [G, "So so.", B]}])


def test_a_label_that_is_now_a_number_and_now_a_sign_stops_the_whole_file(home: Path, tmp_path: Path) -> None:
    """Read as the number of the better answer, 2 and 1 of a signed strength would be half wrong."""
    records = [{**TWO, "preference": value} for value in (2, 1, -1)]
    for read in (load_pairs, lambda source: scan(ScanRequest(source, workers=1), lambda _event: None)):
        with pytest.raises(DataError, match=r"`preference` is -1.* call the column preference_strength"):
            read(Source(str(write(tmp_path, records))))
    with pytest.raises(DataError, match="`choice` is 2, and `summaries` has 2 answers"):
        load(tmp_path, [{**SUMMARY, "choice": 1}, {**SUMMARY, "choice": 2}])


def test_a_number_that_fits_neither_name_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say whether `response_a` or `response_b` is meant"):
        load(tmp_path, [{**SIDES, "label": 1}])


@pytest.mark.parametrize("value", [None, "", "nobody", float("nan")])
def test_a_label_that_names_nobody_is_named(tmp_path: Path, value: Any) -> None:
    loaded = (
        load(tmp_path, [{**TWO, "preference_strength": 1}, {**TWO, "preference_strength": value}], "parquet")
        if (isinstance(value, float))
        else load(tmp_path, [{**SIDES, "winner": "a"}, {**SIDES, "winner": value}])
    )
    (problem,) = loaded.dropped
    assert (problem.row, problem.check) == (2, "missing-field")


def test_scores_do_not_stand_in_for_a_label_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no column `verdict`, which label_field names"):
        load(tmp_path, [{**SIDES, "score_a": 1, "score_b": 2}], label_field="verdict")


def test_another_label_is_chosen_by_its_name(tmp_path: Path) -> None:
    record = {"prompt": Q, "response_0": G, "response_1": B, "better_response_id": 1, "safer_response_id": 0}
    loaded = load(tmp_path, [record])
    assert loaded.pairs[0].chosen == [assistant(B)]
    assert any('label_field = "safer_response_id"' in note for note in loaded.notes)
    assert load(tmp_path, [record], label_field="safer_response_id").pairs[0].chosen == [assistant(G)]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": Q, "completion": G, "label": True}, "KTO data"),
        (
            {"prompt": Q, "response": G, "helpfulness": 3, "verbosity": 1},
            "HelpSteer 2 has them in its file of preferences",
        ),
        ({"messages": [*ASKED], "rejected_response": B}, "`messages` does not end with a question and its answer"),
        ({"prompt": Q, "rejected": B}, "`chosen` is missing"),
        ({**SIDES, "preference_score": 2}, "two answers .* no column that says which is better; label_field names one"),
    ],
)
def test_a_row_without_two_answers_is_refused_with_the_reason(
    tmp_path: Path, record: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        load(tmp_path, [record])


@pytest.mark.parametrize("rejected", [B, [assistant(B)]])
def test_a_prefix_is_put_before_both_answers_character_for_character(tmp_path: Path, rejected: Any) -> None:
    record = {"prompt": Q, "initial_reason_steps": "Step 1: think.\nStep 2:", "chosen": f" {G}", "rejected": rejected}
    (pair,) = load(tmp_path, [record], prefix_field="initial_reason_steps").pairs
    assert pair.chosen == [assistant(f"Step 1: think.\nStep 2: {G}")]
    assert pair.rejected == [assistant(f"Step 1: think.\nStep 2:{B}")]
    whole = {**record, "chosen": "Step 1: think.\nStep 2: yes", "rejected": "Step 1: think.\nStep 2: no"}
    (pair,) = load(tmp_path, [whole], prefix_field="initial_reason_steps").pairs
    assert pair.chosen == [assistant("Step 1: think.\nStep 2: yes")]


def test_a_prefix_makes_no_answer_of_an_empty_one(tmp_path: Path) -> None:
    record = {"prompt": Q, "steps": "Step 1:", "chosen": G, "rejected": [assistant(" ")]}
    loaded = load(tmp_path, [{**record, "rejected": B}, record, {**record, "rejected": ""}], prefix_field="steps")
    assert [(one.row, one.check) for one in loaded.dropped] == [(2, "empty-answer"), (3, "empty-answer")]


def test_a_prefix_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no column `steps`, which prefix_field names"):
        load(tmp_path, [{"prompt": Q, "chosen": G, "rejected": B}], prefix_field="steps")


def test_a_column_with_its_own_spelling_goes_before_another_spelling(tmp_path: Path) -> None:
    record = {"Prompt": "no", "prompt": Q, "CHOSEN": "no", "chosen": G, "rejected": B}
    (pair,) = load(tmp_path, [record]).pairs
    assert (pair.prompt, pair.chosen) == (ASKED, [assistant(G)])


def test_conversations_share_a_beginning_whatever_other_keys_their_messages_have(tmp_path: Path) -> None:
    sides = [[{**one, "num_tokens": number} for one in answers] for number, answers in enumerate((GOOD, BAD))]
    (pair,) = load(tmp_path, [{"winner": "model_a", "conversation_a": sides[0], "conversation_b": sides[1]}]).pairs
    assert [one["content"] for one in pair.prompt] == [Q]
    assert [one["content"] for one in pair.rejected] == [B]


def test_a_position_beyond_the_list_is_never_taken_for_an_answer(tmp_path: Path) -> None:
    record = {"prompt": Q, "responses": [B, G], "chosen": 1, "rejected": 0}
    loaded = load(tmp_path, [{**record, "chosen": None}, record])
    assert [(one.row, one.chosen[0]["content"]) for one in loaded.pairs] == [(2, G)]
    with pytest.raises(DataError, match="`chosen` is 7, and `responses` has 2 answers"):
        load(tmp_path, [{**record, "chosen": 7}, record])


def test_each_of_several_worse_answers_makes_a_pair(tmp_path: Path) -> None:
    loaded = load(tmp_path, [{"query": Q, "response": G, "rejected_response": [B, "So so."]}])
    assert [one.rejected for one in loaded.pairs] == [[assistant(B)], [assistant("So so.")]]
    assert {one.chosen[0]["content"] for one in loaded.pairs} == {G}
    assert any("each of them is set against `response`" in note for note in loaded.notes)


@pytest.mark.parametrize("container", ["jsonl", "parquet"])
def test_an_answer_that_is_an_object_is_the_text_in_it(tmp_path: Path, container: str) -> None:
    record = {"prompt": Q, "chosen": {"answer": G, "score": 3}, "rejected": {"answer": B, "score": 1}}
    (pair,) = load(tmp_path, [record], container).pairs
    assert (pair.chosen, pair.rejected) == ([assistant(G)], [assistant(B)])


@pytest.mark.parametrize("container", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("answers", [('{"answer": 4}', '{"answer": 5}'), ("[1, 2, 3]", "[3, 2]"), ("4", "5")])
def test_json_that_is_the_answer_stays_text(tmp_path: Path, answers: tuple[str, str], container: str) -> None:
    record = {"prompt": "Answer in JSON.", "chosen": answers[0], "rejected": answers[1]}
    (pair,) = load(tmp_path, [record], container).pairs
    assert (pair.chosen, pair.rejected) == ([assistant(answers[0])], [assistant(answers[1])])


def test_numbers_beside_the_list_that_they_are_from_are_answers(tmp_path: Path) -> None:
    (pair,) = load(
        tmp_path, [{"prompt": "2+2?", "chosen": "4", "rejected": "3", "options": ["3", "4", "5", "6", "7"]}]
    ).pairs
    assert pair.chosen == [assistant("4")]


def test_a_preview_of_a_repair_counts_ties_as_left_out(home: Path, tmp_path: Path) -> None:
    found = [{"prompt": f"{Q} {n}", "chosen": G, "rejected": B, "status": "tie" if n % 2 else "ok"} for n in range(5)]
    path = write(tmp_path, found)
    scan(ScanRequest(Source(str(path)), workers=1), lambda _event: None)
    assert DatasetBrowser(str(path)).remaining(Decisions(), ()).summary().startswith("3 of 5 rows stay; left out: 2")
    out = tmp_path / "out.jsonl"
    assert repair(Source(str(path)), RepairPlan(), out).written == 3


@pytest.mark.parametrize("first", [0, 1])
def test_the_lowest_rank_is_the_best_wherever_ranks_begin(tmp_path: Path, first: int) -> None:
    loaded = load(tmp_path, [{"prompt": Q, "responses": [B, G], "ranks": [first + 1, first]}])
    assert [message["content"] for message in loaded.pairs[0].chosen] == [G]
    assert any("the lowest is the best" in note for note in loaded.notes)
