"""Every common shape is read into one form; bad rows are named by line."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_demonstrations import load_demonstrations
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, row, rows, user, write_lines

ASKED = [user("Why is the sky blue?")]
BETTER = [assistant("Because air scatters short waves more.")]
WORSE = [assistant("It just is.")]
QUESTION, GOOD, BAD = ASKED[0]["content"], BETTER[0]["content"], WORSE[0]["content"]
SYSTEM = {"role": "system", "content": "Be brief."}
TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why is the sky blue?\n\nAssistant:"
EARLIER = [user("Hi"), assistant("Hello!"), *ASKED]

# What a source may look like, the format that it is called, and the prompt that comes of it.
SHAPES: list[tuple[str, dict[str, Any], str, list[dict[str, str]]]] = [
    ("standard", {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD}, "standard", ASKED),
    ("conversational", {"prompt": ASKED, "chosen": BETTER, "rejected": WORSE}, "conversational", ASKED),
    (
        "conversational without a prompt",
        {"chosen": ASKED + BETTER, "rejected": ASKED + WORSE},
        "conversational, implicit prompt",
        ASKED,
    ),
    (
        "prompt repeated in both answers",
        {"prompt": ASKED, "chosen": ASKED + BETTER, "rejected": ASKED + WORSE},
        "conversational",
        ASKED,
    ),
    (
        "hh-rlhf",
        {"chosen": f"{TRANSCRIPT} {GOOD}", "rejected": f"{TRANSCRIPT} {BAD}"},
        "transcripts with an implicit prompt",
        EARLIER,
    ),
    ("full-hh-rlhf", {"prompt": TRANSCRIPT, "chosen": f" {GOOD}", "rejected": f" {BAD}"}, "transcript prompt", EARLIER),
    (
        "ShareGPT ranking",
        {
            "conversations": [{"from": "human", "value": QUESTION}],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        "ShareGPT ranking",
        ASKED,
    ),
    (
        "UltraFeedback",
        {
            "prompt": QUESTION,
            "chosen": ASKED + BETTER,
            "rejected": ASKED + WORSE,
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        },
        "text prompt, message answers",
        ASKED,
    ),
    (
        "text prompt with message answers",
        {"prompt": QUESTION, "chosen": BETTER, "rejected": WORSE},
        "text prompt, message answers",
        ASKED,
    ),
    (
        "Orca and Argilla",
        {"system": "Be brief.", "question": QUESTION, "chosen": GOOD, "rejected": BAD},
        "standard",
        [SYSTEM, *ASKED],
    ),
    ("Alpaca", {"instruction": "Why is", "input": "the sky blue?", "chosen": GOOD, "rejected": BAD}, "standard", []),
    ("LLaMA-Factory list", {"instruction": QUESTION, "input": "", "output": [GOOD, BAD]}, "output-list", ASKED),
    (
        "OpenAI preference",
        {"input": {"messages": ASKED}, "preferred_output": BETTER, "non_preferred_output": WORSE},
        "conversational",
        ASKED,
    ),
    (
        "PKU-SafeRLHF",
        {"prompt": QUESTION, "response_0": BAD, "response_1": GOOD, "better_response_id": 1},
        "choice",
        ASKED,
    ),
]


def load(path: Path, **options: Any) -> list[Pair]:
    return load_pairs(Source(str(path), **options)).pairs


@pytest.mark.parametrize(("record", "name", "prompt"), [one[1:] for one in SHAPES], ids=[one[0] for one in SHAPES])
def test_a_shape_becomes_prompt_and_two_answers(
    tmp_path: Path, record: dict[str, Any], name: str, prompt: list[dict[str, str]]
) -> None:
    """The formats of the field, recognised without a word of configuration."""
    loaded = load_pairs(Source(str(write_lines(tmp_path / "data.jsonl", [record]))))
    (pair,) = loaded.pairs
    assert loaded.format == name
    assert pair.prompt == (prompt or [user("Why is\n\nthe sky blue?")])
    assert (pair.chosen, pair.rejected) == (BETTER, WORSE)


def test_escaped_newlines_stay_newlines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"prompt": "a\nb", "chosen": "c\n\nd", "rejected": "e"}])
    assert load(path)[0].chosen == [assistant("c\n\nd")]


def test_dialogues_that_part_early_keep_all_their_turns(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant:"
    record = {"chosen": f"{start} Hello!\n\nHuman: Bye\n\nAssistant: See you.", "rejected": f"{start} What?"}
    (pair,) = load(write_lines(tmp_path / "data.jsonl", [record]))
    assert pair.prompt == [user("Hi")]
    assert pair.chosen == [assistant("Hello!"), user("Bye"), assistant("See you.")]
    assert pair.rejected == [assistant("What?")]


def test_words_that_both_answers_begin_with_stay_in_the_answers(tmp_path: Path) -> None:
    record = {"chosen": f"{TRANSCRIPT} I think so.", "rejected": f"{TRANSCRIPT} I think not."}
    (pair,) = load(write_lines(tmp_path / "data.jsonl", [record]))
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("I think so.", "I think not.")


def test_a_ranking_gives_every_pair_of_different_ranks(tmp_path: Path) -> None:
    ranked = [{"answer": "b", "rank": 2}, {"answer": "a", "rank": 1}, {"answer": "c", "rank": 3.0}]
    loaded = load_pairs(Source(str(write_lines(tmp_path / "data.jsonl", [{"prompt": "p", "answers": ranked}]))))
    found = [(pair.chosen[0]["content"], pair.rejected[0]["content"], pair.row) for pair in loaded.pairs]
    assert found == [("a", "b", 1), ("a", "c", 1), ("b", "c", 1)]
    assert loaded.format == "ranking"


def test_scores_rank_downwards(tmp_path: Path) -> None:
    scored = [{"response": "worse", "overall_score": 2}, {"response": "better", "overall_score": 9}]
    (pair,) = load(write_lines(tmp_path / "data.jsonl", [{"instruction": "p", "completions": scored}]))
    assert pair.chosen == [assistant("better")]


def test_tools_and_tool_calls_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]}
    record = {"prompt": ASKED, "chosen": [call], "rejected": WORSE, "tools": json.dumps(tools)}
    (pair,) = load(write_lines(tmp_path / "data.jsonl", [record]))
    assert pair.tools == tools
    assert pair.chosen[0]["tool_calls"] == call["tool_calls"]


def test_columns_are_mapped_by_hand(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"q": "p", "up": "a", "down": "b", "persona": "s"}])
    with pytest.raises(DataError, match="are missing"):
        load(path)
    (pair,) = load(path, prompt_field="q", chosen_field="up", rejected_field="down", system_field="persona")
    assert (pair.prompt, pair.chosen) == ([{"role": "system", "content": "s"}, user("p")], [assistant("a")])


def test_a_mixed_file_is_recognised_row_by_row(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [SHAPES[0][1], SHAPES[1][1], SHAPES[4][1], SHAPES[0][1]])
    loaded = load_pairs(Source(str(path)))
    assert len(loaded.pairs) == 4
    assert loaded.format.startswith("mixed: standard, ")


def test_kto_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"prompt": "p", "completion": "c", "label": True}])
    with pytest.raises(DataError, match="KTO data; DPO needs two answers to one prompt"):
        load(path)


def test_bad_rows_are_counted_and_named_by_line(tmp_path: Path) -> None:
    """Not JSON on line 7, a missing `rejected`; blank lines count as lines but not as rows."""
    lines = [json.dumps(one) for one in rows(8)]
    lines[2] = ""
    lines[4] = json.dumps({"prompt": "p", "chosen": "c"})
    lines[6] = "oops"
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines))
    loaded = load_pairs(Source(str(path)))
    assert loaded.total == 7
    assert [pair.row for pair in loaded.pairs] == [1, 2, 4, 6, 8]
    assert [(problem.row, problem.check) for problem in loaded.dropped] == [(5, "missing-field"), (7, "bad-json")]
    assert "`rejected` is missing" in loaded.dropped[0].message


@pytest.mark.parametrize(
    ("record", "check"),
    [
        ({"prompt": "p", "chosen": "", "rejected": "b"}, "empty-answer"),
        ({"prompt": "p", "chosen": "a", "rejected": " \n"}, "empty-answer"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "missing-field"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "missing-field"),
        ({"prompt": "p", "chosen": "same", "rejected": "same"}, "identical"),
        ({"prompt": "p", "chosen": ["a", "b"], "rejected": "b"}, "missing-field"),
        ({"prompt": ASKED, "chosen": [{"role": "wizard", "content": "a"}], "rejected": WORSE}, "role-order"),
        ({"chosen": "Yes, it is.", "rejected": "Yes, never."}, "missing-field"),
        (["not", "an", "object"], "missing-field"),
    ],
)
def test_rows_that_teach_nothing_are_left_out(tmp_path: Path, record: Any, check: str) -> None:
    path = write_lines(tmp_path / "data.jsonl", [*rows(3), record])
    (problem,) = load_pairs(Source(str(path))).dropped
    assert (problem.row, problem.check) == (4, check)


def test_a_file_without_a_usable_row_shows_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"text": "hello"}] * 3)
    with pytest.raises(DataError) as caught:
        load(path)
    assert "every row: `chosen` and `rejected` are missing (columns: text)" in caught.value.message
    assert '{"text":"hello"}' in caught.value.message
    assert '{"prompt": "…", "chosen": "…", "rejected": "…"}' in str(caught.value.hint)


def test_a_file_that_is_mostly_not_json_names_the_first_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row()) + "\nname,age\nx,1\n")
    with pytest.raises(DataError, match="2 of 3 rows cannot be read, the first is row 2: not JSON"):
        load(path)


def test_a_table_that_is_mostly_torn_is_not_told_to_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("prompt,chosen,rejected\nq,a\nq,a,b,c\n")
    with pytest.raises(DataError, match="2 of 2 rows cannot be read, the first is row 1: 2 cells") as caught:
        load(path)
    assert ".csv" not in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"", b"\n\n \n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is empty|has no rows"):
        load(path)


def test_a_missing_file_suggests_the_one_that_was_meant(tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl", rows(1))
    with pytest.raises(DataError) as caught:
        load(tmp_path / "pair.jsonl")
    assert "pairs.jsonl" in str(caught.value.hint)


CONTAINERS = ["jsonl", "json", "pretty json", "jsonl.gz", "json.gz", "jsonl.zst", "csv", "csv.gz", "tsv", "parquet"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_holds_the_same_pairs(tmp_path: Path, container: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet
    import zstandard

    records = [*rows(20), {"prompt": 'with "quotes", commas', "chosen": "two\nlines", "rejected": "ünïcode [], {}"}]
    lines = "".join(json.dumps(one) + "\n" for one in records).encode()
    path = tmp_path / f"data.{container.replace('pretty ', '')}"
    if container.startswith("jsonl"):
        data = lines
    elif container.startswith("json"):
        data = json.dumps(records).encode()
    elif container == "pretty json":
        data = json.dumps(records, indent=2).encode()
    elif container == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
        data = b""
    else:
        data = _table(records, "\t" if container == "tsv" else ",")
    if container.endswith(".gz"):
        data = gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
    elif container.endswith(".zst"):
        data = zstandard.compress(data)
    if data:
        path.write_bytes(data)
    found = [(one.prompt[0]["content"], one.chosen[0]["content"], one.rejected[0]["content"]) for one in load(path)]
    assert found == [(one["prompt"], one["chosen"], one["rejected"]) for one in records]


def _table(records: list[dict[str, str]], delimiter: str) -> bytes:
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def test_table_cells_may_hold_messages_as_json_or_as_python_prints_them(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    records = [{"prompt": QUESTION, "chosen": json.dumps(BETTER), "rejected": str(WORSE)}]
    path.write_bytes(_table(records, ","))
    assert [(one.chosen, one.rejected) for one in load(path)] == [(BETTER, WORSE)]


def test_a_datasets_folder_is_read_by_split(tmp_path: Path) -> None:
    import datasets

    splits = {"train": rows(5), "test": rows(2)}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_list(found) for name, found in splits.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    assert len(load(tmp_path / "saved")) == 5
    assert len(load(tmp_path / "saved", split="test")) == 2
    assert len(load(tmp_path / "saved" / "test")) == 2
    with pytest.raises(DataError) as caught:
        load(tmp_path / "saved", split="validation")
    assert caught.value.hint == "It has: test, train."


def test_a_folder_of_files_is_read_by_split_in_order(tmp_path: Path) -> None:
    write_lines(tmp_path / "train-00001-of-00002.jsonl", [row(1)])
    write_lines(tmp_path / "train-00000-of-00002.jsonl", [row(0)])
    write_lines(tmp_path / "test.jsonl", [row(2)])
    assert [pair.row for pair in load(tmp_path)] == [1, 2]
    assert load(tmp_path)[0].prompt[0]["content"] == row(0)["prompt"]
    assert len(load(tmp_path, split="test")) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_an_encoding_is_told_by_its_bytes(tmp_path: Path, encoding: str) -> None:
    records = [{"prompt": f"Café number {number}?", "chosen": "Olé – ja", "rejected": "naïve"} for number in range(9)]
    path = tmp_path / "data.jsonl"
    path.write_bytes("".join(json.dumps(one, ensure_ascii=False) + "\r\n" for one in records).encode(encoding))
    assert [pair.prompt[0]["content"] for pair in load(path)] == [one["prompt"] for one in records]


def test_a_byte_order_mark_before_an_array_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(codecs.BOM_UTF8 + json.dumps(rows(2)).encode())
    assert len(load(path)) == 2


def test_trailing_commas_are_named(tmp_path: Path) -> None:
    array = tmp_path / "data.json"
    array.write_text("[" + ",".join(json.dumps(one) for one in rows(3)) + ",\n]")
    loaded = load_pairs(Source(str(array)))
    assert (len(loaded.pairs), loaded.notes) == (3, ["there is a trailing comma before the end of the array"])
    lines = tmp_path / "data.jsonl"
    lines.write_text("\n".join([json.dumps(row(0)), json.dumps(row(1)), '{"prompt": "p",}', json.dumps(row(2)) + ","]))
    loaded = load_pairs(Source(str(lines)))
    assert [problem.row for problem in loaded.dropped] == [3, 4]
    assert all("trailing comma" in problem.message for problem in loaded.dropped)


def test_an_array_that_breaks_off_keeps_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows(5))[:-40])
    loaded = load_pairs(Source(str(path)))
    assert (len(loaded.pairs), loaded.dropped[0].row) == (4, 5)
    assert loaded.notes == ["the file ends inside the array"]


def test_reading_stops_after_max_rows(tmp_path: Path) -> None:
    assert len(load(write_lines(tmp_path / "data.jsonl", rows(9)), max_rows=4)) == 4


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    path = write_lines(tmp_path / "data.jsonl", rows(3))
    assert load_pairs(Source(str(path))).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_demonstrations_come_in_five_shapes(tmp_path: Path) -> None:
    """Stage one reads conversations, prompt and completion, plain text, and the chosen side of pairs."""
    records = [
        {"messages": ASKED + BETTER},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": GOOD}]},
        {"prompt": QUESTION, "completion": GOOD},
        {"instruction": QUESTION, "input": "", "output": GOOD},
        {"prompt": QUESTION, "chosen": GOOD, "rejected": BAD},
        {"text": "Once upon a time"},
        {"messages": ASKED},
    ]
    loaded = load_demonstrations(Source(str(write_lines(tmp_path / "data.jsonl", records))))
    assert [one.messages for one in loaded.rows[:5]] == [ASKED + BETTER] * 5
    assert (loaded.rows[5].text, loaded.rows[5].messages) == ("Once upon a time", [])
    assert [(problem.row, problem.check) for problem in loaded.dropped] == [(7, "empty-answer")]
