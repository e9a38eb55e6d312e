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
