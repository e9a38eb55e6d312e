"""The same files that are read as other pairs than when a run began: by another version, or by another setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.changed_data import change_of, checksum_change
from dpo_tui.data.load_split import split_of
from dpo_tui.data.reading_digest import reading_digest
from dpo_tui.errors import DataError
from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.trainer.run_datasets import load_datasets
from dpo_tui.train.worker.failures import describe_failure
from tests.data.test_load_split import stopped
from tests.support.data_files import row, write_lines
from tests.support.training import lines, make_config, train

pytestmark = pytest.mark.usefixtures("home")


def scored(path: Path, count: int = 12) -> Path:
    """Four scored answers a row, as in UltraFeedback's raw file."""
    return write_lines(
        path,
        [
            {
                "instruction": row(number)["prompt"],
                "completions": [
                    {"response": f"answer {score} to {number}", "overall_score": score}
                    for score in (3.0, 8.5, 1.0, 6.0)
                ],
            }
            for number in range(count)
        ],
    )


def without_digest(receipt: dict[str, Any]) -> dict[str, Any]:
    data = dict(receipt["data"])
    assert data.pop("reading")
    return {**receipt, "data": data}


def begun_with_all_pairs(tmp_path: Path, tiny_model: Path, *, recorded: bool) -> RunFolder:
    """A run that was begun when scored answers were read as all their pairs, without a word in its config."""
    data = scored(tmp_path / "completions.jsonl")
    config = make_config(
        tiny_model, data, max_steps=4, eval_split=0.25, kl_prompts=0, sample_prompts=0, ranking_pairs="all"
    )
    folder = stopped(config)
    receipt = json.loads(folder.receipt.read_text())
    assert receipt["data"]["train"] + receipt["data"]["held_out"] == 72
    write_json_atomic(folder.receipt, receipt if recorded else without_digest(receipt))
    folder.config.write_text(to_toml(config.model_copy(update={"ranking_pairs": None})))
    return folder


@pytest.mark.parametrize("recorded", [True, False], ids=["digest", "receipt-of-an-earlier-version"])
def test_a_resume_that_would_train_on_other_pairs_is_refused_with_the_setting_that_restores_them(
    tmp_path: Path, tiny_model: Path, recorded: bool
) -> None:
    folder = begun_with_all_pairs(tmp_path, tiny_model, recorded=recorded)
    config = load(folder.config).config
    with pytest.raises(DataError) as refused:
        train(config, folder)
    assert "is read otherwise than when the run began, though its files are the same" in refused.value.message
    assert "as 72 examples and is" in refused.value.message and "as 12 examples" in refused.value.message
    assert 'set ranking_pairs = "all"' in (refused.value.hint or "")
    assert describe_failure(refused.value).exit_code == 2

    restored = config.model_copy(update={"ranking_pairs": "all"})
    train(restored, folder)
    receipt = json.loads(folder.receipt.read_text())
    assert "data_changes" not in receipt
    assert receipt["data"]["train"] + receipt["data"]["held_out"] == 72


def test_other_pairs_are_trained_on_where_that_is_accepted(tmp_path: Path, tiny_model: Path) -> None:
    folder = begun_with_all_pairs(tmp_path, tiny_model, recorded=False)
    control_requests.accept_changed_data(folder)
    train(load(folder.config).config, folder)
    receipt = json.loads(folder.receipt.read_text())
    assert receipt["data_changes"][0]["data"]["train"] > receipt["data"]["train"]
    assert any("is read otherwise than when the run began" in event["message"] for event in lines(folder.events))


def test_as_many_pairs_that_are_others_are_noticed_by_the_digest(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(
        tmp_path / "pairs.jsonl", [{**row(number), "question": f"other {number}"} for number in range(8)]
    )
    config = make_config(tiny_model, data)
    other = config.model_copy(update={"prompt_field": "question"})
    rows = load_datasets(other)
    counts = {"rows": 8, "unusable": 0, "too_long": 0, "train": len(rows.train), "held_out": 8 - len(rows.train)}
    receipt = {"data": {"sha256": rows.sha256, "reading": rows.reading, **counts}}
    assert change_of(receipt, other, rows) is None
    change = change_of(receipt, config, load_datasets(config))
    assert change is not None
    assert "as 8 examples and is" in change.message and "as 8 other examples" in change.message
    assert "ranking_pairs" not in change.remedy


def test_the_judge_says_so_without_the_models_tokenizer(tmp_path: Path, tiny_model: Path) -> None:
    config = make_config(tiny_model, scored(tmp_path / "completions.jsonl"), ranking_pairs="all")
    rows = load_datasets(config)
    receipt = {"data": {"sha256": rows.sha256, "reading": rows.reading, "rows": 12, "unusable": 3}}
    elsewhere = config.model_copy(update={"model_name": str(tmp_path / "elsewhere")})
    assert checksum_change(receipt, config, split_of(elsewhere, download=False)) is None
    now = elsewhere.model_copy(update={"ranking_pairs": None})
    change = checksum_change(receipt, now, split_of(now, download=False))
    assert change is not None and 'ranking_pairs = "all"' in change.remedy


def test_a_digest_takes_numbers_and_texts_that_json_libraries_refuse() -> None:
    from dpo_tui.data.pairs.pair import Pair

    def pair(value: Any) -> Pair:
        call = {"function": {"name": "f", "arguments": {"x": value}}}
        return Pair(1, [{"role": "user", "content": "p"}], [{"role": "assistant", "tool_calls": [call]}], [])

    found = {reading_digest([pair(value)]) for value in (1, 2**70, "\ud800", None, 1.5)}
    assert len(found) == 5
    assert reading_digest([pair(1)], [pair(2)]) != reading_digest([pair(1), pair(2)])
