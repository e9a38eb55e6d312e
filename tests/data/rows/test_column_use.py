"""Columns that nobody reads are named with what they might be, wherever data is spoken of; metadata in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli.inspect import inspect
from dpo_tui.cli.train import narrate_checks
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.rows.column_use import role_of
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.screens.steps.check_step import summary
from dpo_tui.screens.steps.data_step import preview
from dpo_tui.start.prepare import prepare
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.run_plan import RunPlan, with_values
from tests.support.data_files import row, rows, write_lines
from tests.support.training import loaded

STEPS = {"initial_reason_steps": "Step 1: count.\nStep 2:", "id": 7, "source": "books", "lang": "en", "created_at": 3}


@pytest.mark.parametrize(
    ("name", "value", "role"),
    [
        ("initial_reason_steps", "Step 1:", "prefix"),
        ("response_prefix", "Well,", "prefix"),
        ("shared_steps", "Step 1:", "prefix"),
        ("partialSolution", "x = 1", "prefix"),
        ("prefill", None, "prefix"),
        ("weight", 0.5, "weight"),
        ("sample_weight", "0.5", "weight"),
        ("margin", 1.5, "margin"),
        ("preference_strength", 2, "margin"),
        ("score_diff", -0.5, "margin"),
        ("chosen_score", 8.0, "score"),
        ("rating", [8.0, 8.0], "score"),
        ("ref_chosen_logps", -12.5, "score"),
        ("verdict", "left", "tie"),
        ("persona", "You are brief.", "system"),
        ("question", "Why?", "prompt"),
        ("full_chosen", "Long.", "answer"),
        ("original_response", "Long.", "answer"),
        ("images", ["a.png"], "pictures"),
        ("id", 7, "metadata"),
        ("prompt_id", "a", "metadata"),
        ("response_0_sha256", "ab", "metadata"),
        ("chosen_model", "gpt-4", "metadata"),
        ("source", "books", "metadata"),
        ("initial_prompt_length", 3, "metadata"),
        ("is_response_0_safe", True, "other"),
        ("previous_year", 1999, "other"),
        ("備考", "x", "other"),
    ],
)
def test_a_column_might_be(name: str, value: Any, role: str) -> None:
    assert role_of(name, value) == role


def test_metadata_takes_one_line_and_what_could_matter_one_each(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{**one, **STEPS, "weight": 0.5} for one in rows(3)])
    notes = load_pairs(Source(str(path))).notes
    assert len(notes) == 3
    assert 'prefix_field = "initial_reason_steps"' in notes[0]
    assert "`weight`" in notes[1]
    assert notes[2] == "not used either: `id`, `source`, `lang`, `created_at`"


def test_columns_that_some_rows_are_read_by_are_not_unused(tmp_path: Path) -> None:
    other = {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 0}
    both = {**row(), "response_0": "x"}
    assert load_pairs(Source(str(write_lines(tmp_path / "data.jsonl", [both, other])))).notes == []


def test_plain_columns_are_named_by_the_columnar_decoder_too(home: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{**one, **STEPS} for one in rows(2000)])
    with ScanProcess(ScanRequest(Source(str(path)), workers=2)) as process:
        *_, last = process.events()
    assert last["report"]["unused_columns"] == {
        "initial_reason_steps": "prefix",
        "id": "metadata",
        "source": "metadata",
        "lang": "metadata",
        "created_at": "metadata",
    }


def test_the_report_names_unused_columns_and_ties(home: Path, tmp_path: Path) -> None:
    found = [{**one, **STEPS, "status": "tie" if number % 3 == 0 else "ok"} for number, one in enumerate(rows(9))]
    path = write_lines(tmp_path / "data.jsonl", found)
    said = " ".join(CliRunner().invoke(inspect, [str(path)]).output.split())
    assert "9 rows, 6 usable pairs" in said
    assert 'perhaps the beginning that both answers share; prefix_field = "initial_reason_steps"' in said
    assert "· tie 3 neither answer is better rows 1, 4, 7" in said
    assert "6 pairs can be trained on" in said
    assert "Doubtful" not in said
    report = json.loads(CliRunner().invoke(inspect, [str(path), "--json"]).output)
    assert report["unused_columns"]["initial_reason_steps"] == "prefix"
    mapped = CliRunner().invoke(inspect, [str(path), "--prefix-field", "initial_reason_steps", "--json"]).output
    assert "initial_reason_steps" not in json.loads(mapped)["unused_columns"]


def test_new_data_check_and_train_say_the_same(
    home: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [{**one, **STEPS, "status": "tie" if number % 3 == 0 else "ok"} for number, one in enumerate(rows(9))]
    path = write_lines(tmp_path / "data.jsonl", found)
    prepared = prepare(loaded(tmp_path, tiny_model, path))
    narrate_checks(prepared, "config.toml")
    narrated = capsys.readouterr().err
    in_app = [
        "\n".join(text for text, _ in preview(str(path))),
        "\n".join(
            text
            for text, _ in summary(
                with_values(RunPlan(), {"model_name": str(tiny_model), "dataset": str(path)}), Forecast(), prepared
            )
        ),
    ]
    for said in (narrated, *in_app):
        assert "3 of 9 rows are ties and are left out" in said
        assert 'prefix_field = "initial_reason_steps"' in said
        assert "not used either: `id`, `source`, `lang`, `created_at`" in said
        assert "row 1" not in said
