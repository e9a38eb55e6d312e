"""`eval`: a run's model measured again, on its own held-out pairs or on others."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.errors import DataError, RunError
from dpo_tui.processes.json_child import ChildError
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support import tiny
from tests.support.training import finished_run


def evaluate(folder: RunFolder, **request: Any) -> dict[str, Any]:
    from dpo_tui.train.tools.evaluate_run import evaluate as work

    return work({"run": str(folder.path), "data": None, "kl_prompts": 0, **request}, lambda kind, message: None)


def last_evaluation(folder: RunFolder) -> dict[str, Any]:
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [line for line in lines if "eval_loss" in line][-1]


@pytest.mark.parametrize("command", ["eval", "chat"])
def test_a_run_without_a_result_is_refused_before_anything_is_loaded(
    home: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.create("", name="early", devices=[])
    monkeypatch.setattr("dpo_tui.processes.json_child.subprocess.Popen", None)
    found = CliRunner().invoke(cli, [command, folder.id])
    assert isinstance(found.exception, RunError)
    assert "has no result yet" in found.exception.message


@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_the_held_out_pairs_give_what_the_run_itself_measured(
    home: Path, tiny_model: Path, tiny_pairs: Path, use_lora: bool
) -> None:
    """The model and the reference are loaded again, and TRL's figures are the run's own."""
    folder = finished_run(tiny_model, tiny_pairs, use_lora=use_lora, eval_split=0.2)
    measured = last_evaluation(folder)
    events = folder.events.read_text()
    found = evaluate(folder)
    for name in ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_rewards/chosen"):
        assert found["metrics"][name] == pytest.approx(measured[name], abs=1e-4)
    assert measured["eval_loss"] < 0.69, "the run must have learnt something, or this proves nothing"
    assert found["pairs"] == 8
    assert folder.events.read_text() == events, "the run's folder belongs to its worker"


def test_another_file_is_read_without_the_split_and_subset_that_were_trained_on(
    home: Path, tiny_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "en").mkdir(parents=True)
    tiny.make_pairs(data / "en" / "train_prefs.jsonl", 12)
    tiny.make_pairs(data / "en" / "test.jsonl", 5)
    trained_on = {"dataset_config": "en", "dataset_split": "train_prefs"}
    folder = finished_run(tiny_model, data, eval_split=0.0, **trained_on)
    lists = tmp_path / "lists.json"
    rows = [json.loads(line) for line in tiny.make_pairs(tmp_path / "more.jsonl", 7).read_text().splitlines()]
    lists.write_text(json.dumps({"train": rows, "dev": rows[:3]}))
    other = tmp_path / "other"
    other.mkdir()
    for name, count in (("train", 4), ("validation", 2)):
        tiny.make_pairs(other / f"{name}.jsonl", count)
    assert evaluate(folder, data=str(lists))["pairs"] == 7
    assert evaluate(folder, data=str(lists), split="dev")["pairs"] == 3
    of_other = evaluate(folder, data=str(other))
    assert of_other["pairs"] == 2
    assert of_other["notes"][0] == f"evaluation: on the split validation of {other}"
    of_itself = evaluate(folder, data=str(data))
    assert of_itself["pairs"] == 5, "the rows that were trained on are not taken"


def test_split_and_subset_belong_to_data_that_is_named(home: Path) -> None:
    found = CliRunner().invoke(cli, ["eval", "last", "--split", "test"])
    assert "are those of --data" in str(found.exception)


def test_any_file_of_pairs_will_do(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    """In a child process, as JSON: the pairs swapped must come out the other way round."""
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.0)
    rows = [json.loads(line) for line in tiny.make_pairs(tmp_path / "more.jsonl", 12).read_text().splitlines()]
    swapped = tmp_path / "swapped.jsonl"
    swapped.write_text(
        "".join(json.dumps({**row, "chosen": row["rejected"], "rejected": row["chosen"]}) + "\n" for row in rows)
    )
    with pytest.raises(DataError, match="held no pairs out"):
        evaluate(folder)
    right = evaluate(folder, data=str(tmp_path / "more.jsonl"))
    done = CliRunner().invoke(cli, ["eval", folder.id, "--data", str(swapped), "--json"], catch_exceptions=False)
    wrong = json.loads(done.stdout)
    assert right["metrics"]["eval_rewards/accuracies"] + wrong["metrics"]["eval_rewards/accuracies"] == pytest.approx(1)
    assert wrong["pairs"] == 12
    assert wrong["metrics"]["eval_kl_n"] == 12
    with pytest.raises(ChildError, match=r"nowhere.jsonl does not exist") as caught:
        CliRunner().invoke(cli, ["eval", folder.id, "--data", "nowhere.jsonl"], catch_exceptions=False)
    assert caught.value.exit_code == DataError.exit_code
