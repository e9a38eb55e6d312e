"""`inspect` and the Data screen on labelled answers: what the data is, for which strategy, and what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.data.repair.row_forms import Edit, form_of
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from dpo_tui.screens.steps.data_step import preview
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from dpo_tui.views.token_length_text import lengths_text
from tests.support.data_files import rows, write_lines

GOOD, BAD = "Here is what matters, with a reason and an example.", "It depends."


def answers(count: int, good: int = 2) -> list[dict[str, Any]]:
    """Answers of which one in ``good`` is desirable."""
    return [
        {
            "prompt": f"{row['prompt']}, please",
            "completion": f"{GOOD if n % good == 0 else BAD} {n}",
            "label": n % good == 0,
        }
        for n, row in enumerate(rows(count))
    ]


def report(folder: Path, records: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    path = write_lines(folder / "rows.jsonl", records)
    return scan(ScanRequest(Source(str(path)), **options), lambda event: None).to_json()


def found(document: dict[str, Any]) -> dict[str, tuple[int, list[int]]]:
    return {problem["check"]: (problem["count"], problem["rows"]) for problem in document["problems"]}


def test_labelled_answers_are_reported_as_such(home: Path, tmp_path: Path) -> None:
    document = report(tmp_path, answers(120))
    assert (document["rows"], document["usable"]) == (120, 120)
    assert document["format"] == "labelled answers, standard"
    assert document["columns"] == {"prompt": "prompt", "completion": "completion", "label": "label"}
    assert "labels: 60 desirable and 60 undesirable answers" in document["notes"]
    assert any('for strategy = "kto": DPO needs two answers' in note for note in document["notes"])
    assert document["verdict"] == 'Good: 120 labelled answers can be trained on, with strategy = "kto".'
    assert document["problems"] == []
    assert document["lengths"]["characters"]["chosen"]["count"] == 60


def test_what_is_wrong_with_rows_and_labels_is_named(home: Path, tmp_path: Path) -> None:
    records = answers(120, good=3)
    records[4]["completion"] = ""
    records[6]["completion"] = "<|im_start|>well"
    records[8]["completion"] = f"You asked: {records[8]['prompt']}"
    records += [records[0], {**records[1], "label": True}]
    document = report(tmp_path, records)
    problems = found(document)
    assert problems["empty-answer"] == (1, [5])
    assert problems["template-tokens"] == (1, [7])
    assert problems["prompt-in-answer"] == (1, [9])
    assert problems["duplicate-pair"] == (1, [121])
    assert problems["conflicting-labels"] == (1, [])
    assert problems.keys() >= {"label-balance", "few-of-a-label"}
    details = " ".join(problem["detail"] for problem in document["problems"])
    assert "Weight × count of desirable to undesirable answers is 0.53:1, and TRL advises 1:1 to 4:3" in details
    browser = DatasetBrowser(str(tmp_path / "rows.jsonl"))
    assert browser.at(7, Decisions()).flagged_by == ("template-tokens",)
    assert browser.next_flagged("empty-answer", 1) == 5


def test_labels_that_are_all_the_same_are_named(home: Path, tmp_path: Path) -> None:
    document = report(tmp_path, answers(60, good=1))
    assert found(document)["one-label"] == (60, [])


def test_tokens_tell_what_training_will_drop_and_cut(home: Path, tmp_path: Path, tiny_model: Path) -> None:
    records = answers(40)
    records[0]["prompt"] = "how do i reset " * 60
    records[1]["completion"] = "press the button " * 60
    document = report(tmp_path, records, model=str(tiny_model), max_length=120)
    assert (document["will_drop"], document["will_truncate"]) == (1, 1)
    assert document["keeps"]["100"] > 120 > document["keeps"]["95"] > 0
    tokens = document["lengths"]["tokens"]
    assert (tokens["counted"], tokens["exact"], tokens["chosen"]["count"], tokens["longest"]["count"]) == (
        40,
        True,
        20,
        40,
    )
    assert not any("Counting with" in text for text, _ in lengths_text(document, str(tiny_model), ""))


def test_data_that_is_neither_is_refused_as_before(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`chosen` and `rejected` are missing"):
        report(tmp_path, [{"prompt": "p", "completion": "c"}] * 3)
    with pytest.raises(DataError, match="one answer a row"):
        report(tmp_path, [{"prompt": "p", "response": "c", "score": 3}] * 3)


def test_pairs_are_reported_as_pairs(home: Path, tmp_path: Path) -> None:
    document = report(tmp_path, [*rows(30), answers(1)[0]])
    assert document["usable"] == 30
    assert found(document)["missing-field"] == (1, [31])


def test_inspect_prints_it_and_takes_the_threshold(home: Path, tmp_path: Path) -> None:
    records = [{**row, "score": n % 5} for n, row in enumerate(answers(100))]
    for row in records:
        del row["label"]
    path = write_lines(tmp_path / "rated.jsonl", records)
    refused = CliRunner().invoke(cli, ["inspect", str(path)])
    assert isinstance(refused.exception, DataError)
    assert "rating_threshold" in refused.exception.message
    result = CliRunner().invoke(cli, ["inspect", str(path), "--rating-threshold", "3"])
    assert result.exit_code == 0, result.output
    assert "100 rows, 100 usable labelled answers" in result.output
    assert "40 desirable and 60 undesirable" in result.output
    copy = tmp_path / "labels.jsonl"
    written = CliRunner().invoke(cli, ["inspect", str(path), "--rating-threshold", "3", "--write", str(copy)])
    assert written.exit_code == 0, written.output
    labels = [json.loads(line)["label"] for line in copy.read_text().splitlines()]
    assert labels == [row["score"] >= 3 for row in records], "ratings become labels, which need no threshold again"
    as_json = CliRunner().invoke(cli, ["inspect", str(path), "--rating-threshold", "3", "--json"])
    assert json.loads(as_json.output)["usable"] == 100


def test_the_app_shows_an_answer_where_its_label_belongs(home: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", answers(4))
    browser = DatasetBrowser(str(path))
    good, bad = browser.at(1, Decisions()), browser.at(2, Decisions())
    assert (good.chosen, good.rejected, good.problem) == (f"{GOOD} 0", "", "")
    assert (bad.chosen, bad.rejected, bad.problem) == ("", f"{BAD} 1", "")
    decided = Decisions(flipped=frozenset({1}), edits={2: Edit(rejected="worse")})
    assert (browser.at(1, decided).chosen, browser.at(1, decided).rejected) == ("", f"{GOOD} 0")
    assert (browser.at(2, decided).chosen, browser.at(2, decided).rejected) == ("", "worse")
    browser.save(decided, (), tmp_path / "copy.jsonl", form_of({"completion": "completion"}))
    saved = [json.loads(line) for line in (tmp_path / "copy.jsonl").read_text().splitlines()]
    assert [(row["completion"], row["label"]) for row in saved[:2]] == [(f"{GOOD} 0", False), ("worse", False)]
    shown = preview(str(path))
    assert shown[0] == ("format: labelled answers, standard", "accent")
    assert ('for strategy = "kto": labelled answers, no pairs', "warn") in shown
    assert (f"+ {GOOD} 0", "good") in shown
    assert (f"- {BAD} 1", "muted") in shown
