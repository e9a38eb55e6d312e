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


def test_one_process_evaluates_a_run_whose_config_divides_the_model_among_two(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """Trainer raises for FSDP in a process alone."""
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.2, ranks=2, distributed="fsdp2")
    assert evaluate(folder)["metrics"]["eval_loss"] == pytest.approx(last_evaluation(folder)["eval_loss"], abs=1e-4)


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


def test_another_file_is_read_by_its_own_columns_and_bytes(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Those of the run are of its own file; what is left out and what was assumed is said."""

    def renamed(path: Path, names: dict[str, str], encoding: str) -> Path:
        lines = tiny.make_pairs(path, 8).read_text().splitlines()
        rows = [{names.get(name, name): f"{text} für" for name, text in json.loads(line).items()} for line in lines]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode(encoding))
        return path

    names = {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}
    own = renamed(tmp_path / "own.jsonl", names, "cp1252")
    settings = {"prompt_field": "frage", "chosen_field": "gut", "rejected_field": "schlecht", "encoding": "cp1252"}
    folder = finished_run(tiny_model, own, eval_split=0.0, **settings)
    usual = renamed(tmp_path / "usual.jsonl", {}, "utf-8")
    found = evaluate(folder, data=str(usual))
    assert found["pairs"] == 8
    assert found["notes"][0].startswith("prompt_field = 'frage', chosen_field = 'gut'")
    assert "encoding = 'cp1252': of the run's own data, so not used for" in found["notes"][0]
    assert f"{usual} is read as: standard" in found["notes"]
    assert evaluate(folder, data=str(own))["pairs"] == 8, "the run's own file is read as in the run"
    others = renamed(tmp_path / "others.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"}, "utf-8")
    with pytest.raises(DataError, match="no row that can be used"):
        evaluate(folder, data=str(others))
    named = {"prompt_field": "q", "chosen_field": "a", "rejected_field": "b"}
    assert evaluate(folder, data=str(others), **named)["pairs"] == 8


@pytest.mark.parametrize("option", ["--encoding", "--prompt-field"])
def test_the_settings_of_a_file_belong_to_data_that_is_named(home: Path, option: str) -> None:
    found = CliRunner().invoke(cli, ["eval", "last", option, "latin-1"])
    assert "are those of --data" in str(found.exception)


def test_split_and_subset_belong_to_data_that_is_named(home: Path) -> None:
    found = CliRunner().invoke(cli, ["eval", "last", "--split", "test"])
    assert "are those of --data" in str(found.exception)


@pytest.mark.usefixtures("tools_in_process")
def test_any_file_of_pairs_will_do(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    """By the command, as JSON: the pairs swapped must come out the other way round."""
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
