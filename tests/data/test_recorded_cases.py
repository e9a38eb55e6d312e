"""Small inputs of the kinds that were reported of this and other tools, each read from its file to the report on it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from tests.support.data_files import assistant, user, write_lines

ASK, GOOD, BAD = "Where does {} grow?", "{} grows on the shaded side of the hill.", "No idea about {}."
THINGS = ("moss", "thyme", "barley", "sorrel")

pytestmark = pytest.mark.usefixtures("home")


def texts(thing: str) -> tuple[str, str, str]:
    return ASK.format(thing), GOOD.format(thing), BAD.format(thing)


def parts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "image": None}]


def swift_query(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    return {"system": "Be kind.", "query": ask, "response": good, "rejected_response": bad, "history": []}


def swift_messages(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    rejected = {"rejected_response": bad} if number % 2 else {"rejected_messages": [user(ask), assistant(bad)]}
    return {"messages": [user(ask), assistant(good)], **rejected}


def helpsteer(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    first_is_better = number % 2 == 0
    answers = (good, bad) if first_is_better else (bad, good)
    strength = 0 if number == 3 else -2 if first_is_better else 3
    named = dict(zip(("response1", "response2"), answers, strict=True))
    return {"context": [user(ask)], **named, "overall_preference": strength}


def arena_lists(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    tie = number == 3
    answers = {"response_a": json.dumps([good]), "response_b": json.dumps([bad])}
    winners = {"winner_model_a": int(not tie), "winner_model_b": 0, "winner_tie": int(tie)}
    return {"id": number, "prompt": json.dumps([ask]), **answers, **winners}


def arena_conversations(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    def talk(text: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": parts(ask)}, {"role": "assistant", "content": parts(text)}]

    winner = "tie (bothbad)" if number == 3 else "model_b"
    return {"id": str(number), "winner": winner, "conversation_a": talk(bad), "conversation_b": talk(good)}


def messages_column(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    chosen, rejected = [user(ask), assistant(good)], [user(ask), assistant(bad)]
    return {"messages": chosen, "chosen": chosen, "rejected": rejected, "score_chosen": 8.0, "score_rejected": 3.0}


def distilabel_orca(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    status = "tie" if number == 3 else "unchanged"
    return {"input": ask, "chosen": good, "rejected": bad, "order": ["chosen", "rejected"], "status": status}


def distilabel_raw(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    ratings = [3.0, 3.0, 3.0] if number == 3 else [1.0, 5.0, 2.0]
    return {"instruction": ask, "generations": [bad, good, f"{bad} Perhaps."], "ratings": ratings}


def ranked_list(number: int, ask: str, good: str, bad: str) -> dict[str, Any]:
    return {"instruction": ask, "input": "", "output": [good, f"{bad} Perhaps.", bad]}


LAYOUTS: dict[str, tuple[Any, int]] = {
    "ms-swift's query and response": (swift_query, 4),
    "ms-swift's messages": (swift_messages, 4),
    "HelpSteer 3": (helpsteer, 3),
    "Chatbot Arena's lists of turns": (arena_lists, 3),
    "Chatbot Arena's conversations": (arena_conversations, 3),
    "messages beside whole conversations": (messages_column, 4),
    "distilabel's status": (distilabel_orca, 3),
    "distilabel's generations and ratings": (distilabel_raw, 3),
    "a list with the best answer first": (ranked_list, 4),
}
"""A row of each layout, and how many of four rows make a pair; the others are ties."""


def report_on(path: Path, **settings: Any) -> Report:
    return scan(ScanRequest(Source(str(path), **settings), workers=1), lambda event: None)


def contents(pair: Pair) -> tuple[str, str, str]:
    (question,) = (message for message in pair.prompt if message["role"] == "user")
    return question["content"], pair.chosen[-1]["content"], pair.rejected[-1]["content"]


def held(loaded: LoadedPairs, count: int = 4) -> bool:
    return [contents(pair) for pair in loaded.pairs] == [texts(thing) for thing in THINGS[:count]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_and_its_ties_are_named_as_ties(tmp_path: Path, name: str) -> None:
    make, usable = LAYOUTS[name]
    path = write_lines(tmp_path / "rows.jsonl", [make(number, *texts(thing)) for number, thing in enumerate(THINGS)])
    loaded = load_pairs(Source(str(path)))
    assert held(loaded, usable)
    assert [problem.check for problem in loaded.dropped] == ["tie"] * (4 - usable)
    report = report_on(path)
    assert (report.rows, report.usable) == (4, usable)


def test_the_post_and_the_chosen_summary_of_tldr(tmp_path: Path) -> None:
    rows = [
        {
            "info": {"post": ask, "title": "t", "subreddit": "s"},
            "summaries": [{"text": bad}, {"text": good}],
            "choice": 1,
        }
        for ask, good, bad in map(texts, THINGS)
    ]
    loaded = load_pairs(Source(str(write_lines(tmp_path / "rows.jsonl", rows))))
    assert [pair.chosen[-1]["content"].strip() for pair in loaded.pairs] == [texts(thing)[1] for thing in THINGS]
    assert all(texts(thing)[0] in pair.prompt[-1]["content"] for pair, thing in zip(loaded.pairs, THINGS, strict=True))


@pytest.mark.parametrize("container", ["csv", "jsonl", "parquet"])
def test_messages_as_json_text_are_messages_in_every_container(tmp_path: Path, container: str) -> None:
    rows = [
        {
            "prompt": json.dumps([user(ask)]),
            "chosen": json.dumps([assistant(good)]),
            "rejected": json.dumps([assistant(bad)]),
        }
        for ask, good, bad in map(texts, THINGS)
    ]
    path = tmp_path / f"rows.{container}"
    if container == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif container == "jsonl":
        write_lines(path, rows)
    else:
        cells = [[value.replace('"', '""') for value in row.values()] for row in rows]
        lines = ["prompt,chosen,rejected", *(",".join(f'"{cell}"' for cell in line) for line in cells)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert held(load_pairs(Source(str(path))))
    assert report_on(path).format.startswith("conversational")


def test_the_beginning_of_both_answers_is_named_with_its_setting_and_used_by_it(tmp_path: Path) -> None:
    rows = [
        {"prompt": ask, "initial_reason_steps": "First look at the hill. ", "chosen": good, "rejected": bad}
        for ask, good, bad in map(texts, THINGS)
    ]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    assert any('prefix_field = "initial_reason_steps"' in note for note in report_on(path).notes)
    first = load_pairs(Source(str(path), prefix_field="initial_reason_steps")).pairs[0]
    assert first.chosen[-1]["content"].startswith("First look at the hill. ")
    assert first.rejected[-1]["content"].startswith("First look at the hill. ")


PLAIN = [dict(zip(("prompt", "chosen", "rejected"), texts(thing), strict=True)) for thing in THINGS]
COLUMNS = {name: [row[name] for row in PLAIN] for name in PLAIN[0]}
DOCUMENTS = {
    "under data": {"data": PLAIN},
    "lists by column": COLUMNS,
    "pandas": {name: {str(number): value for number, value in enumerate(column)} for name, column in COLUMNS.items()},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_json_document_is_a_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(DOCUMENTS[name]), encoding="utf-8")
    assert held(load_pairs(Source(str(path))))


@pytest.mark.parametrize(
    ("encoding", "language", "text"),
    [
        ("gbk", "Chinese", "苔藓生长在山的背阴处，那里整天都很潮湿。"),
        ("cp1252", "Western European", "Où pousse la mousse ? À l’ombre, « côté nord »."),
    ],
)
def test_other_encodings_are_read_right_and_said(tmp_path: Path, encoding: str, language: str, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{**row, "chosen": f"{text} {number}"} for number, row in enumerate(PLAIN)]
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding))
    loaded = load_pairs(Source(str(path)))
    assert loaded.pairs[0].chosen[-1]["content"] == f"{text} 0"
    assert any("is not UTF-8" in note and language in note for note in loaded.notes)


def test_a_folder_and_a_pattern_of_parts_are_one_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number, row in enumerate(PLAIN):
        write_lines(folder / f"part_{number}.jsonl", [row])
    for location in (folder, folder / "*.jsonl"):
        assert held(load_pairs(Source(str(location))))


def test_columns_in_capitals_doubled_keys_and_no_numbers(tmp_path: Path) -> None:
    capitals = [{key.capitalize(): value for key, value in row.items()} for row in PLAIN]
    assert held(load_pairs(Source(str(write_lines(tmp_path / "capitals.jsonl", capitals)))))
    doubled = tmp_path / "doubled.jsonl"
    doubled.write_text("".join(json.dumps(row)[:-1] + ', "chosen": "the last"}\n' for row in PLAIN), encoding="utf-8")
    infinite = tmp_path / "nan.jsonl"
    scored = [{**row, "score_chosen": float("nan"), "score_rejected": float("inf")} for row in PLAIN]
    infinite.write_text("".join(json.dumps(row) + "\n" for row in scored), encoding="utf-8")
    for path, check in ((doubled, "repeated-key"), (infinite, "not-a-number")):
        found = {problem.check: problem for problem in report_on(path).problems}
        assert found[check].rows[0] == 1
