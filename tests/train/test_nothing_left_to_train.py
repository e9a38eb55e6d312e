"""A worker killed after its last checkpoint and before its result: a resume makes the result, and no further step."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train import run_training
from dpo_tui.train.worker.checkpoints import mark_complete
from tests.support.training import lines, losses, make_config, make_run, train


class Killed(BaseException):
    """Stands in for SIGKILL: nothing after it is done."""


def killed_before_saving(config: Config, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Train a run whose worker ends between its last checkpoint and its result."""

    def kill(*_: Any) -> None:
        raise Killed

    folder = make_run(config)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_training, "save_result", kill)
        train(config, folder)
    assert not folder.adapter.exists()
    return folder


def evaluations(folder: RunFolder) -> dict[int, float]:
    return {line["step"]: line["eval_loss"] for line in lines(folder.metrics) if "eval_loss" in line}


def assert_same_result(folder: RunFolder, whole: RunFolder) -> None:
    weights, expected = (load_file(each.adapter / "adapter_model.safetensors") for each in (folder, whole))
    assert weights.keys() == expected.keys()
    assert all(weights[name].equal(expected[name]) for name in expected)
    assert losses(folder) == losses(whole)
    assert evaluations(folder) == pytest.approx(evaluations(whole), abs=1e-6)
    results = json.loads(folder.receipt.read_text())["results"]
    assert results["steps"] == max(losses(whole))
    assert results["metrics"]["eval_loss"] == pytest.approx(evaluations(whole)[results["steps"]], abs=1e-6)
    assert results["metrics"].get("train_loss") != 0, "no loss of a training that did not take place"
    assert json.loads(folder.progress.read_text())["phase"] == "done"


@pytest.mark.parametrize("eval_steps", [2, 3], ids=["evaluated at the end", "not evaluated at the end"])
def test_in_mid_epoch_the_last_checkpoint_is_the_result(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch, eval_steps: int
) -> None:
    config = make_config(
        tiny_model, tiny_pairs, max_steps=4, eval_steps=eval_steps, lr_scheduler_type="constant", learning_rate=1e-2
    )
    whole = train(config)
    folder = killed_before_saving(config, monkeypatch)
    train(config, folder)
    assert_same_result(folder, whole)
    messages = [event["message"] for event in lines(folder.events)]
    assert "Nothing is left to train after step 4: the result is made from it" in messages


def test_at_the_end_of_an_epoch_too(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"per_device_train_batch_size": 12, "eval_split": 0.1, "lr_scheduler_type": "constant"}
    config = make_config(tiny_model, tiny_pairs, max_steps=3, **settings)
    whole = train(config)
    folder = killed_before_saving(config, monkeypatch)
    train(config, folder)
    assert_same_result(folder, whole)


def test_a_training_that_kl_stop_ended_is_not_continued(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps were left, and the checkpoint knows that they are not wanted."""
    settings = {"kl_stop": 1e-9, "kl_prompts": 4, "kl_max_new_tokens": 8, "looks_share": 1.0, "learning_rate": 1e-1}
    config = make_config(tiny_model, tiny_pairs, max_steps=8, eval_steps=2, save_steps=100, **settings)
    whole = train(config)
    assert max(losses(whole)) < 8
    folder = killed_before_saving(config, monkeypatch)
    train(config, folder)
    assert_same_result(folder, whole)


def test_a_checkpoint_of_an_earlier_version_is_continued_and_saved_again(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trainer_state.json does not name our callback."""
    config = make_config(tiny_model, tiny_pairs, max_steps=4, save_steps=2)
    whole = train(config)
    folder = killed_before_saving(config, monkeypatch)
    shutil.rmtree(folder.checkpoints / "checkpoint-4")
    earlier = folder.checkpoints / "checkpoint-2"
    state = json.loads((earlier / "trainer_state.json").read_text())
    assert state["stateful_callbacks"].pop("RunCallback")
    (earlier / "trainer_state.json").write_text(json.dumps(state))
    mark_complete(earlier)
    train(config, folder)
    assert losses(folder) == losses(whole)
    assert (folder.checkpoints / "checkpoint-4").is_dir()
